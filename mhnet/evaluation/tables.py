"""Scores on paper: tables, a LaTeX row, JSON, CSV, and sheets of the worst and the best images."""

import csv as csv_format
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2

from mhnet.core.errors import printable, shortened
from mhnet.core.files import StrPath, write_text
from mhnet.core.tasks import PAPER, Published
from mhnet.core.version import __version__
from mhnet.evaluation import protocols, sheets
from mhnet.evaluation.scoring import DEGRADED, Evaluation
from mhnet.images.read import read_rgb

EXTREMES = 10  # images at either end on a sheet
ABSENT = "–"


class _Line(NamedTuple):
    """What a table says of a set, or of the unweighted mean of several of one method and protocol."""

    name: str
    method: str
    protocol: str
    images: str
    psnr: float
    ssim: float
    lpips: float | None
    published: Published | None

    def figures(self) -> dict[str, float | None]:
        """Scores for JSON: what is not finite is null."""
        figures = {"psnr": self.psnr, "ssim": self.ssim, "lpips": self.lpips}
        return {name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()}


def format_table(evaluations: Sequence[Evaluation]) -> str:
    """A Markdown table of sets, with the unweighted mean of several sets of one method and protocol.

    Where the paper has figures for a set, they and the difference from them stand beside its own, said to be quoted.
    """
    lines = [*map(_line, evaluations), *(_mean_line(sets) for sets in _groups(evaluations) if len(sets) > 1)]
    columns = {"set": [one.name for one in lines]}
    if len({one.method for one in lines}) > 1:
        columns["method"] = [one.method for one in lines]
    columns["protocol"] = [one.protocol for one in lines]
    words = len(columns)
    columns["images"] = [one.images for one in lines]
    columns["PSNR (dB)"] = [f"{one.psnr:.2f}" for one in lines]
    columns["SSIM"] = [f"{one.ssim:.4f}" for one in lines]
    if any(one.lpips is not None for one in lines):
        columns["LPIPS"] = [ABSENT if one.lpips is None else f"{one.lpips:.4f}" for one in lines]
    if any(one.published for one in lines):
        beside = [_beside_published(one) for one in lines]
        columns["MHNet's paper (quoted)"], columns["difference"] = map(list, zip(*beside, strict=True))
    notes = [f"{one.name}: left out of the mean PSNR because they equal the clean: {shortened(one.identical)}"
             for one in evaluations if one.identical]  # fmt: skip
    return "\n".join([*_markdown(columns, words), *map(printable, notes)])


def latex(evaluations: Sequence[Evaluation]) -> str:
    r"""Rows for a paper's table, one for each method and protocol: PSNR & SSIM of every set, then of their mean.

    Comments above a row say what its columns are, how they were computed, and what speaks against quoting it.
    """
    rows = []
    for sets in _groups(evaluations):
        protocol = protocols.get_protocol(sets[0].protocol)
        columns = [f"{one.name} ({len(one.rows)} images)" for one in sets]
        lines = [_line(one) for one in sets]
        if len(sets) > 1:
            columns.append(f"unweighted mean of {len(sets)} sets")
            lines.append(_mean_line(sets))
        comments = [f"PSNR (dB) & SSIM by {protocol.name}: {protocol.description}; {_made_by()}", " | ".join(columns)]
        doubts = [doubt for one in sets for doubt in one.doubts]
        doubts += [f"{one.name}: equal to the clean, not in the mean PSNR: {shortened(one.identical)}"
                   for one in sets if one.identical]  # fmt: skip
        comments += [f"not to be quoted without this: {doubt}" for doubt in doubts]
        rows += [f"% {printable(comment)}" for comment in comments]
        method = re.sub(r"([&%$#_{}])", r"\\\1", printable(sets[0].method))
        cells = [f"{one.psnr:.2f} & {one.ssim:.3f}" for one in lines]
        rows.append(f"{method} & {' & '.join(cells)} \\\\")
    return "\n".join(rows)


def to_json(evaluations: Sequence[Evaluation]) -> str:
    """Everything that the tables say, with all digits; what is not finite is null."""
    sets = [
        {
            "set": one.name,
            "method": one.method,
            "protocol": one.protocol,
            "images": one.total,
            "scored": len(one.rows),
            **_line(one).figures(),
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
        | _mean_line(group).figures()
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
    notes = "".join(f"\n* {printable(doubt)}." for doubt in [_made_by(), *doubts])
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
            name = printable(row.name).encode("ascii", "replace").decode()
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


def _line(one: Evaluation) -> _Line:
    images = str(one.total) if len(one.rows) == one.total else f"{len(one.rows)} of {one.total}"
    return _Line(one.name, one.method, one.protocol, images, *one.mean, one.lpips, one.published)


def _mean_line(sets: Sequence[Evaluation]) -> _Line:
    """The unweighted means over sets: LPIPS and the paper's figures only where there are some for every set."""
    lpips = _mean_of_all([one.lpips for one in sets])
    psnr = _mean_of_all([one.published.psnr if one.published else None for one in sets])
    ssim = _mean_of_all([one.published.ssim if one.published else None for one in sets])
    published = None if psnr is None else Published(psnr, ssim)
    means = protocols.Score(*(protocols.mean_of(column) for column in zip(*(one.mean for one in sets), strict=True)))
    return _Line(f"mean of {len(sets)} sets", sets[0].method, sets[0].protocol, "", *means, lpips, published)


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return protocols.mean_of(there) if len(there) == len(values) else None


def _beside_published(one: _Line) -> tuple[str, str]:
    """The paper's figures, and how far ours are from them."""
    if (quoted := one.published) is None:
        return ABSENT, ABSENT
    ssims = (ABSENT, ABSENT) if quoted.ssim is None else (f"{quoted.ssim:.3f}", f"{one.ssim - quoted.ssim:+.3f}")
    return f"{quoted.psnr:.2f} / {ssims[0]}", f"{one.psnr - quoted.psnr:+.2f} / {ssims[1]}"


def _made_by() -> str:
    """What computed the scores; the alignment of realblur_ecc differs a little between OpenCV releases."""
    return f"from 8-bit files, mhnet {__version__}, OpenCV {cv2.__version__}"


def _markdown(columns: dict[str, list[str]], words: int) -> list[str]:
    """The lines of a table, cells padded to columns' widths: the first `words` to the left, figures to the right."""
    padded = []
    for i, (head, cells) in enumerate(columns.items()):
        column = [head, *(printable(cell).replace("|", "\\|") for cell in cells)]
        width = max(map(len, column))
        column = [cell.ljust(width) if i < words else cell.rjust(width) for cell in column]
        padded.append([column[0], "-" * (width + 1) + "-:"[i >= words], *column[1:]])
    head, rule, *rows = zip(*padded, strict=True)
    return [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(row)} |" for row in rows)]
