"""Scores on paper: tables, a LaTeX row, JSON, CSV, and sheets of the worst and the best images."""

import csv as csv_format
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from mhnet.core.errors import shortened
from mhnet.core.files import StrPath, write_text
from mhnet.core.tasks import PAPER, Published
from mhnet.core.version import __version__
from mhnet.evaluation import protocols, sheets
from mhnet.evaluation.scoring import DEGRADED, Evaluation, mean_of
from mhnet.images.read import read_rgb

EXTREMES = 10  # images at either end on a sheet
ABSENT = "–"


def format_table(evaluations: Sequence[Evaluation]) -> str:
    """A Markdown table of sets, with the unweighted mean of several sets of one method and protocol.

    Where the paper has figures for a set, they and the difference from them stand beside its own, said to be quoted.
    """
    several = len({one.method for one in evaluations}) > 1
    distances = any(one.lpips is not None for one in evaluations)
    published = any(one.published for one in evaluations)
    table = [
        ["set", *["method"] * several, "protocol", "images", "PSNR (dB)", "SSIM", *["LPIPS"] * distances]
        + ["MHNet's paper (quoted)", "difference"] * published
    ]

    def add(name: str, like: Evaluation, count: str, *figures: Any) -> None:
        mean, lpips, quoted = figures
        row = [name, *[like.method] * several, like.protocol, count, f"{mean.psnr:.2f}", f"{mean.ssim:.4f}"]
        row += [ABSENT if lpips is None else f"{lpips:.4f}"] * distances
        table.append(row + list(_against(mean, quoted)) * published)

    for one in evaluations:
        count = str(one.total) if len(one.rows) == one.total else f"{len(one.rows)} of {one.total}"
        add(one.name, one, count, one.mean, one.lpips, one.published)
    for sets in _groups(evaluations):
        if len(sets) > 1:
            add(f"mean of {len(sets)} sets", sets[0], "", *_means(sets))
    notes = [
        f"{one.name}: left out of the mean PSNR because they equal the clean: {shortened(one.identical)}"
        for one in evaluations
        if one.identical
    ]
    return "\n".join([*_lines(table, 2 + several), *notes])


def latex(evaluations: Sequence[Evaluation]) -> str:
    r"""Rows for a paper's table, one for each method and protocol: PSNR & SSIM of every set, then of their mean.

    Comments above a row say what its columns are, how they were computed, and what speaks against quoting it.
    """
    lines = []
    for sets in _groups(evaluations):
        protocol = protocols.get_protocol(sets[0].protocol)
        columns = [f"{one.name} ({len(one.rows)} images)" for one in sets]
        figures = [one.mean for one in sets]
        if len(sets) > 1:
            columns.append(f"unweighted mean of {len(sets)} sets")
            figures.append(_means(sets)[0])
        lines.append(f"% PSNR (dB) & SSIM by {protocol.name}: {protocol.description}; {_made_by()}")
        lines.append(f"% {' | '.join(columns)}")
        doubts = [doubt for one in sets for doubt in one.doubts]
        doubts += [f"{one.name}: equal to the clean, not in the mean PSNR: {shortened(one.identical)}"
                   for one in sets if one.identical]  # fmt: skip
        lines += [f"% not to be quoted without this: {doubt}" for doubt in doubts]
        cells = [f"{score.psnr:.2f} & {score.ssim:.3f}" for score in figures]
        method = re.sub(r"([&%$#_{}])", r"\\\1", sets[0].method)
        lines.append(f"{method} & {' & '.join(cells)} \\\\")
    return "\n".join(lines)


def to_json(evaluations: Sequence[Evaluation]) -> str:
    """Everything that the tables say, with all digits; what is not finite is null."""
    sets = [
        {
            "set": one.name,
            "method": one.method,
            "protocol": one.protocol,
            "images": one.total,
            "scored": len(one.rows),
            **_figures(one.mean, one.lpips),
            "published": {**one.published._asdict(), "quoted_from": PAPER} if one.published else None,
            "identical": one.identical,
            "failures": [failure._asdict() for failure in one.failures],
            "unrestored": list(map(str, one.unrestored)),
            "doubts": one.doubts,
        }
        for one in evaluations
    ]
    means = [
        {"sets": [one.name for one in group], "method": group[0].method, "protocol": group[0].protocol}
        | _figures(*_means(group)[:2])
        for group in _groups(evaluations)
        if len(group) > 1
    ]
    return json.dumps({"made_by": _made_by(), "sets": sets, "means": means}, indent=2, ensure_ascii=False) + "\n"


def to_csv(evaluations: Sequence[Evaluation], path: StrPath) -> None:
    """Write one line per image with all digits, or the reason of its failure; MHNetError if the system refuses."""
    several = len({one.method for one in evaluations}) > 1
    distances = any(one.lpips is not None for one in evaluations)
    text = io.StringIO()
    lines = csv_format.writer(text, lineterminator="\n")
    heads = ["set", *["method"] * several, "name", "protocol", "psnr", "ssim", *["lpips"] * distances, "failure"]
    lines.writerow(heads)
    for one in evaluations:
        scored = [(row.name, [row.psnr, row.ssim, *[row.lpips] * distances], "") for row in one.rows]
        failed = [(name, [""] * (2 + distances), reason) for name, reason in one.failures]
        for name, figures, reason in scored + failed:
            lines.writerow([one.name, *[one.method] * several, name, one.protocol, *figures, reason])
    write_text(Path(path), text.getvalue())


def write_report(evaluations: Sequence[Evaluation], folder: StrPath) -> None:
    """Write `scores.csv`, `summary.md`, `summary.json`, `summary.tex`, and a sheet for every set with known inputs.

    Raises MHNetError if the system refuses.
    """
    folder = Path(folder)
    to_csv(evaluations, folder / "scores.csv")
    doubts = dict.fromkeys(doubt for one in evaluations for doubt in one.doubts)
    notes = "".join(f"\n* {doubt}." for doubt in [_made_by(), *doubts])
    write_text(folder / "summary.md", f"{format_table(evaluations)}\n{notes}\n")
    write_text(folder / "summary.json", to_json(evaluations))
    write_text(folder / "summary.tex", latex(evaluations) + "\n")
    taken: set[str] = set()
    for one in evaluations:
        if one.inputs and one.rows and one.method != DEGRADED:
            stem = re.sub(r"[^\w.]+", "-", f"{one.name}-{one.method}-{one.protocol}").strip("-")
            while stem in taken:
                stem += "-more"
            taken.add(stem)
            worst_and_best(one, folder / f"{stem}.jpg")


def worst_and_best(evaluation: Evaluation, path: StrPath, count: int = EXTREMES) -> None:
    """Write a sheet of the images with the lowest and the highest PSNR, so many of each and none twice: input, result,
    target, and the error (`sheets.error_map`). Raises ImageError where an image cannot be read or the sheet written."""
    ranked = sorted(evaluation.rows, key=lambda row: row.psnr)
    worst = ranked[: min(count, math.ceil(len(ranked) / 2))]
    best = ranked[len(worst) :][-count:][::-1]
    rows, captions = [], []
    for kind, some in (("worst", worst), ("best", best)):
        for place, row in enumerate(some, 1):
            pair = evaluation.pairs[row.name]
            degraded, restored, target = map(read_rgb, (evaluation.inputs[row.name], pair.degraded, pair.target))
            name = row.name.encode("ascii", "replace").decode()
            rows.append((f"{kind} {place}: {name}", [degraded, restored, target, sheets.error_map(restored, target)]))
            captions.append(["", f"{row.psnr:.2f} dB / {row.ssim:.4f}, {evaluation.protocol}", "", ""])
    headers = ["input", "result", "target", f"error, white from {sheets.ERROR_RANGE} of 255"]
    sheets.before_after(rows, headers, captions, path)


def _groups(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """The sets of each method and protocol: only those have a mean."""
    groups: dict[tuple[str, str], list[Evaluation]] = {}
    for one in evaluations:
        groups.setdefault((one.method, one.protocol), []).append(one)
    return list(groups.values())


def _means(sets: Sequence[Evaluation]) -> tuple[protocols.Score, float | None, Published | None]:
    """The unweighted means over sets: scores, LPIPS, and the paper's figures where it has some for every set."""
    score = protocols.Score(*(mean_of(column) for column in zip(*(one.mean for one in sets), strict=True)))
    distances = [one.lpips for one in sets if one.lpips is not None]
    quoted = [one.published for one in sets if one.published]
    ssims = [figures.ssim for figures in quoted if figures.ssim is not None]
    published = None
    if len(quoted) == len(sets):
        psnr = mean_of([figures.psnr for figures in quoted])
        published = Published(psnr, mean_of(ssims) if len(ssims) == len(sets) else None)
    return score, mean_of(distances) if len(distances) == len(sets) else None, published


def _against(mean: protocols.Score, quoted: Published | None) -> tuple[str, str]:
    """The paper's figures, and how far ours are from them."""
    if quoted is None:
        return ABSENT, ABSENT
    difference = f"{mean.psnr - quoted.psnr:+.2f}"
    if quoted.ssim is None:
        return f"{quoted.psnr:.2f} / {ABSENT}", f"{difference} / {ABSENT}"
    return f"{quoted.psnr:.2f} / {quoted.ssim:.3f}", f"{difference} / {mean.ssim - quoted.ssim:+.3f}"


def _figures(mean: protocols.Score, lpips: float | None) -> dict[str, float | None]:
    figures = {**mean._asdict(), "lpips": lpips}
    return {name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()}


def _made_by() -> str:
    """What computed the scores; the alignment of realblur_ecc differs a little between OpenCV releases."""
    return f"from 8-bit files, mhnet {__version__}, OpenCV {cv2.__version__}"


def _lines(table: Sequence[Sequence[str]], words: int) -> list[str]:
    """Rows as Markdown, cells padded to their columns' widths: `words` columns to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = zip(row, widths, strict=True)
        padded = [cell.ljust(width) if i < words else cell.rjust(width) for i, (cell, width) in enumerate(cells)]
        lines.append(f"| {' | '.join(padded)} |")
    rules = ["-" * (width + 1) + ("-" if i < words else ":") for i, width in enumerate(widths)]
    return [lines[0], f"|{'|'.join(rules)}|", *lines[1:]]
