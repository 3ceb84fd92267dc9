"""Looking at every file of a data set before training on it: what is there, and what is wrong with it."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mhnet.core.errors import MHNetError
from mhnet.data.names import Pair
from mhnet.data.pack import Pack, is_pack
from mhnet.data.pairs import mismatch
from mhnet.data.sets import PairSet, find_pair_sets, pair_set_of
from mhnet.images import rgb

GAMMA = 2.2
LIGHT = (np.arange(256) / 255) ** GAMMA * 255
PATCH = 256  # of the recipes


@dataclass(frozen=True)
class Facts:
    """What one file holds: its header, a hash of its pixels, the mean of its values and of its light (0 to 255)."""

    info: rgb.Info
    digest: str
    mean: float
    light: float


@dataclass
class SetReport:
    """What was found of a set: faults make training on it wrong, notes are to be known."""

    found: PairSet
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    clean: dict[str, Path] = field(default_factory=dict)  # by hash
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(root: Path, targets: Path | None = None) -> tuple[list[SetReport], list[str]]:
    """Read every image of every pair at or below a folder, in parallel.

    Args:
        root: a folder of sets or a pack; with `targets`, the folder of degraded images.

    Returns:
        A report on each set, and faults between them.

    Raises:
        MHNetError: there are no pairs at all.
    """
    faults: list[str] = []
    if targets is None and is_pack(root):
        pack = Pack(root)
        faults += [f"{path} is damaged: its checksum is wrong; pack the images again." for path in pack.damaged()]
        sets = [PairSet(root.resolve().name, None, None, "pack", pack.pairs)]
        facts = _examine_all(sets, lambda path: facts_of(pack.crop(path, (0, 0, *pack.size(path))), "RGB"))
    else:
        sets = [pair_set_of(root, targets)] if targets else find_pair_sets(root)
        facts = _examine_all(sets, examine)
    reports = [report_on(one, facts) for one in sets]
    return reports, faults + _mixed_tasks(sets) + _shared_clean(reports)


def format_reports(reports: Sequence[SetReport], faults: Sequence[str], most: int = 10) -> str:
    """A table of the sets, then their faults and notes, at most so many of each set."""
    head = ("set", "split", "task", "layout", "pairs", "expected", "clean", "sizes", "modes", "faults")
    rows = [head, *(_row(report) for report in reports)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for title, lists in (
        ("wrong", [*(report.faults for report in reports), faults]),
        ("to know", [report.notes for report in reports]),
    ):
        for found in lists:
            lines += [f"{title}: {sentence}" for sentence in found[:most]]
            if len(found) > most:
                lines.append(f"{title}: … and {len(found) - most:,} more; --all shows them.")
    return "\n".join(lines)


def _row(report: SetReport) -> tuple[str, ...]:
    found = report.found
    sizes = [f"{width}×{height}" for height, width in sorted(report.sizes)]
    return (
        found.name,
        found.split or "-",
        found.task or "not known",
        found.layout,
        f"{len(found.pairs):,}",
        " or ".join(f"{one:,}" for one in found.expected) or "not known",
        f"{len({pair.target for pair in found.pairs}):,}",
        ", ".join(sizes) if len(sizes) < 3 else f"{len(sizes)}, {sizes[0]} to {sizes[-1]}",
        ", ".join(f"{mode} {count:,}" if len(report.modes) > 1 else mode for mode, count in report.modes.items()),
        f"{len(report.faults):,}" if report.faults else "none",
    )


def examine(path: Path) -> Facts | str:
    """The facts of a file, or why it cannot be read."""
    try:
        return facts_of(rgb.read(path), rgb.info(path).mode)
    except MHNetError as error:
        return str(error)


def facts_of(image: np.ndarray, mode: str) -> Facts:
    """The facts of an image, uint8 H×W×3."""
    histogram = cv2.calcHist([image.reshape(-1, 3 * image.shape[1])], [0], None, [256], [0, 256]).ravel()
    share = histogram / max(histogram.sum(), 1)
    digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()
    info = rgb.Info(image.shape[0], image.shape[1], mode)
    return Facts(info, digest, float(share @ np.arange(256)), float(share @ LIGHT))


def report_on(found: PairSet, facts: dict[Path, Facts | str]) -> SetReport:
    """What the facts of its files say about a set."""
    report = SetReport(found, faults=list(found.faults))
    read: list[tuple[Facts, Facts]] = []
    identical: list[Pair] = []
    grey: list[Path] = []
    for path in dict.fromkeys(path for pair in found.pairs for path in pair[:2]):
        if isinstance(fact := facts[path], str):
            report.faults.append(fact)
        else:
            report.modes[fact.info.mode] += 1
            grey += [] if fact.info.in_colour else [path]
    for pair in found.pairs:
        degraded, target = facts[pair.degraded], facts[pair.target]
        if isinstance(degraded, str) or isinstance(target, str):
            continue
        report.sizes[degraded.info[:2]] += 1
        report.clean[target.digest] = pair.target
        read.append((degraded, target))
        if fault := mismatch(pair, degraded.info, target.info):
            report.faults.append(fault)
        elif degraded.digest == target.digest:
            identical.append(pair)
    _judge_identical(report, identical)
    _judge_gamma(report, read)
    count, expected = len(found.pairs), found.expected
    if expected and count not in expected:
        wanted = " or ".join(f"{one:,}" for one in expected)
        report.notes.append(f"{found.name}: {count:,} pairs, its downloads have {wanted}.")
    if small := sum(n for size, n in report.sizes.items() if min(size) < PATCH):
        report.notes.append(
            f"{found.name}: {small:,} pairs are smaller than {PATCH}×{PATCH}; crops of them are padded."
        )
    if grey:
        report.notes.append(f"{found.name}: {len(grey):,} images are grey, not RGB, such as {grey[0]}.")
    return report


def gamma_share(read: Sequence[tuple[Facts, Facts]]) -> float | None:
    """How much more a blur looks like an average of light (1) than of stored values (0); None where it does not tell.

    An average keeps the mean of what is averaged. Where stored values were, blurred images are as bright as sharp ones
    in stored values, and darker in light; where light was, brighter in stored values, and equal in light.
    """
    if not read:
        return None
    stored = float(np.median([degraded.mean - target.mean for degraded, target in read]))
    slopes = [GAMMA * max(target.mean / 255, 0.02) ** (GAMMA - 1) for _, target in read]
    light = float(
        np.median([(degraded.light - target.light) / s for (degraded, target), s in zip(read, slopes, strict=True)])
    )
    return stored / (stored - light) if stored - light > 0.3 else None


def _judge_gamma(report: SetReport, read: Sequence[tuple[Facts, Facts]]) -> None:
    share = gamma_share(read) if report.found.task == "deblurring" else None
    if share is None or not 0.6 < share < 1.6:
        return
    name = report.found.name
    if name == "GoPro":
        report.faults.append(
            f"{name}: its blur seems to be GoPro's blur_gamma, averaged in linear light, but papers score the version "
            "without; take the `blur` folders."
        )
    else:
        report.notes.append(f"{name}: gamma suspected, its blur seems to be averaged in linear light.")


def _judge_identical(report: SetReport, identical: Sequence[Pair]) -> None:
    """A stray pair without degradation does no harm; one in a hundred tells of a mistake."""
    if identical:
        where = report.faults if 100 * len(identical) > len(report.found.pairs) else report.notes
        first = f"such as {identical[0].degraded} and {identical[0].target}"
        where.append(f"{report.found.name}: in {len(identical):,} pairs both images are the same, {first}.")


def _mixed_tasks(sets: Sequence[PairSet]) -> list[str]:
    training = {one.task: one.name for one in sets if one.split == "train" and one.task}
    if len(training) < 2:
        return []
    named = " and ".join(f"{name} ({task})" for task, name in sorted(training.items()))
    return [f"train holds {named}, and both would be trained on; name the folder of one of them."]


def _shared_clean(reports: Sequence[SetReport]) -> list[str]:
    """Clean images, by their pixels, of training sets that test or validation sets hold too."""
    faults = []
    for train in (one for one in reports if one.found.split == "train"):
        for other in (one for one in reports if one.found.split in ("test", "val")):
            if shared := train.clean.keys() & other.clean.keys():
                both = min((str(train.clean[one]), str(other.clean[one])) for one in shared)
                faults.append(
                    f"{len(shared):,} clean images of {other.found.name} ({other.found.split}) are trained on in "
                    f"{train.found.name}, such as {both[1]}, which is {both[0]}; remove them from one of the two."
                )
    return faults


def _examine_all(sets: Iterable[PairSet], look: Callable[[Path], Facts | str]) -> dict[Path, Facts | str]:
    paths = list(dict.fromkeys(path for one in sets for pair in one.pairs for path in pair[:2]))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and hashing release Python's lock
        bar = tqdm(pool.map(look, paths), "checking", len(paths), unit="file", delay=2, leave=False, disable=None)
        return dict(zip(paths, bar, strict=True))
