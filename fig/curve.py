"""How a training goes: the validation of a small network for rain, from nothing, over its schedule (curve.csv)."""

from __future__ import annotations

import csv
from io import BytesIO
from pathlib import Path

from drawing import INK, QUIET
from matplotlib.figure import Figure
from PIL import Image

TABLE = Path(__file__).with_suffix(".csv")
MARKED = {1: (10, -3, "left"), 10: (0, 30, "center"), 100: (0, 14, "right")}  # percent: where its words stand


def points() -> list[tuple[float, float]]:
    """Percent of the schedule, and the gain in dB over the degraded images at that time."""
    with TABLE.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["val_psnr"]]
    last = int(rows[-1]["epoch"])
    return [(100 * int(row["epoch"]) / last, float(row["val_psnr"]) - float(row["val_input_psnr"])) for row in rows]


def draw() -> Image.Image:
    figure = Figure(figsize=(8.8, 3.4), dpi=200, layout="constrained")
    axes = figure.subplots()
    gains = points()
    axes.plot(*zip(*gains, strict=True), color=INK, marker=".", markersize=4)
    axes.axhline(0, color=QUIET, linewidth=0.8)
    for share, (x, y, side) in MARKED.items():
        percent, gain = min(gains, key=lambda point: abs(point[0] - share))
        axes.annotate(f"{percent:g} %: {gain:+.2f} dB", (percent, gain), textcoords="offset points", xytext=(x, y),
                      ha=side, color=INK)  # fmt: skip
        axes.plot(percent, gain, "o", color=INK)
    axes.set(
        xscale="log",
        xlabel="percent of the schedule",
        ylabel="gain on validation, dB",
        xlim=(0.9, 110),
        ylim=(-2.5, 6.5),
    )
    axes.set_xticks(list(MARKED), list(map(str, MARKED)))
    axes.grid(alpha=0.3)
    file = BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file)
