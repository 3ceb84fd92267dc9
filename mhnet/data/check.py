"""Looking at every file of a data set before training on it: what is there, and what is wrong with it."""

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mhnet.core.errors import MHNetError, printable
from mhnet.data.blur import GAMMA
from mhnet.data.make import in_parallel
from mhnet.data.names import Pair
from mhnet.data.pack import Pack, is_pack
from mhnet.data.pairs import mismatch
from mhnet.data.sets import PairSet, find_pair_sets, pair_set_of
from mhnet.images.header import Header, read_header
from mhnet.images.read import read_rgb

LIGHT = (np.arange(256) / 255) ** GAMMA * 255
PATCH = 256  # of the recipes


class ImageFacts(NamedTuple):
    """What one file holds: its header, a hash of its pixels, the mean of its values and of its light (0 to 255)."""

    head: Header
    digest: str
    mean: float
    light: float


def check(root: Path, targets: Path | None = None) -> tuple[list[PairSet], list[str]]:
    """Read every image of every pair at or below a folder, in parallel.

    Args:
        root: a folder of sets or a pack; with `targets`, the folder of degraded images.
        targets: the folder of clean images.

    Returns:
        The sets with what is to be said of each, and faults between them.

    Raises:
        MHNetError: there are no pairs at all.
    """
    faults: list[str] = []
    pack = Pack(root) if targets is None and is_pack(root) else None
    if pack:
        faults += [f"{path} is damaged: its checksum is wrong; pack the images again." for path in pack.damaged()]
        sets = [PairSet(root.resolve().name, None, None, "pack", pack.pairs)]
    else:
        sets = [pair_set_of(root, targets)] if targets else find_pair_sets(root)

    def examine(path: Path) -> ImageFacts | str:
        """The facts of a file, or why it cannot be read."""
        try:
            if pack:
                return facts_of(pack.crop(path, (0, 0, *pack.size(path))), "RGB")
            return facts_of(read_rgb(path), read_header(path).mode)
        except MHNetError as error:
            return str(error)

    paths = list(dict.fromkeys(path for one in sets for pair in one.pairs for path in pair[:2]))
    facts = dict(zip(paths, in_parallel(examine, paths, "checking", "file"), strict=True))
    for one in sets:
        _look_at(one, facts)
    return sets, faults + _mixed_tasks(sets) + _shared_clean(sets)


def format_checked(checked: Sequence[PairSet], faults: Sequence[str], most: int = 10) -> str:
    """A table of the sets, then their faults and notes, at most so many of each set; what a terminal cannot print, such
    as a line break in a file's name, as an escape."""
    head = ("set", "split", "task", "layout", "pairs", "expected", "clean", "sizes", "modes", "faults")
    rows = [head, *(tuple(map(printable, _row(one))) for one in checked)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for title, lists in (
        ("wrong", [*(one.faults for one in checked), faults]),
        ("to know", [one.notes for one in checked]),
    ):
        for found in lists:
            lines += [f"{title}: {printable(sentence)}" for sentence in found[:most]]
            if len(found) > most:
                lines.append(f"{title}: … and {len(found) - most:,} more; --all shows them.")
    return "\n".join(lines)


def _row(one: PairSet) -> tuple[str, ...]:
    sizes = [f"{width}×{height}" for height, width in sorted(one.sizes)]
    return (
        one.name,
        one.split or "-",
        one.task or "not known",
        one.layout,
        f"{len(one.pairs):,}",
        _counts(one.expected) or "not known",
        f"{len({pair.target for pair in one.pairs}):,}",
        ", ".join(sizes) if len(sizes) < 3 else f"{len(sizes)}, {sizes[0]} to {sizes[-1]}",
        ", ".join(f"{mode} {count:,}" if len(one.modes) > 1 else mode for mode, count in one.modes.items()),
        f"{len(one.faults):,}" if one.faults else "none",
    )


def _counts(counts: Sequence[int]) -> str:
    return " or ".join(f"{count:,}" for count in counts)


def facts_of(image: np.ndarray, mode: str) -> ImageFacts:
    """The facts of an image, uint8 H×W×3."""
    histogram = cv2.calcHist([image.reshape(-1, 3 * image.shape[1])], [0], None, [256], [0, 256]).ravel()
    share = histogram / max(histogram.sum(), 1)
    digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()
    head = Header("", mode, image.shape[0], image.shape[1])
    return ImageFacts(head, digest, float(share @ np.arange(256)), float(share @ LIGHT))


def _look_at(one: PairSet, facts: dict[Path, ImageFacts | str]) -> None:
    """Notes in a set what the facts of its files say about it."""
    read: list[tuple[ImageFacts, ImageFacts]] = []
    identical: list[Pair] = []
    grey: list[Path] = []
    for path in dict.fromkeys(path for pair in one.pairs for path in pair[:2]):
        if isinstance(fact := facts[path], str):
            one.faults.append(fact)
        else:
            one.modes[fact.head.mode] += 1
            grey += [path] if fact.head.grey else []
    for pair in one.pairs:
        degraded, target = facts[pair.degraded], facts[pair.target]
        if isinstance(degraded, str) or isinstance(target, str):
            continue
        one.sizes[degraded.head.upright_size] += 1
        one.clean[target.digest] = pair.target
        read.append((degraded, target))
        if fault := mismatch(pair, degraded.head, target.head):
            one.faults.append(fault)
        elif degraded.digest == target.digest:
            identical.append(pair)
    notes, count = [], len(one.pairs)
    if identical:  # a stray pair without degradation does no harm; one in a hundred tells of a mistake
        first = f"such as {identical[0].degraded} and {identical[0].target}"
        where = one.faults if 100 * len(identical) > count else one.notes
        where.append(f"{one.name}: in {len(identical):,} pairs both images are the same, {first}.")
    if one.task == "deblurring" and 0.6 < (gamma_share(read) or 0) < 1.6:
        if one.name == "GoPro":
            one.faults.append(
                "GoPro: its blur seems to be GoPro's blur_gamma, averaged in linear light, but papers score the "
                "version without; take the `blur` folders."
            )
        else:
            notes.append("gamma suspected, its blur seems to be averaged in linear light.")
    if one.expected and count not in one.expected:
        notes.append(f"{count:,} pairs, its downloads have {_counts(one.expected)}.")
    if small := sum(n for size, n in one.sizes.items() if min(size) < PATCH):
        notes.append(f"{small:,} pairs are smaller than {PATCH}×{PATCH}; crops of them are padded.")
    if grey:
        notes.append(f"{len(grey):,} images are grey, not RGB, such as {grey[0]}.")
    one.notes += [f"{one.name}: {note}" for note in notes]


def gamma_share(read: Sequence[tuple[ImageFacts, ImageFacts]]) -> float | None:
    """How much more a blur looks like an average of light (1) than of stored values (0); None where it does not tell.

    An average keeps the mean of what is averaged. Where stored values were, blurred images are as bright as sharp ones
    in stored values, and darker in light; where light was, brighter in stored values, and equal in light.
    """
    if not read:
        return None

    def slope(target: ImageFacts) -> float:
        return GAMMA * max(target.mean / 255, 0.02) ** (GAMMA - 1)

    stored = float(np.median([degraded.mean - target.mean for degraded, target in read]))
    light = float(np.median([(degraded.light - target.light) / slope(target) for degraded, target in read]))
    return stored / (stored - light) if stored - light > 0.3 else None


def _mixed_tasks(sets: Sequence[PairSet]) -> list[str]:
    training = {one.task: one.name for one in sets if one.split == "train" and one.task}
    if len(training) < 2:
        return []
    both = " and ".join(f"{name} ({task})" for task, name in sorted(training.items()))
    return [f"train holds {both}, and both would be trained on; name the folder of one of them."]


def _shared_clean(sets: Sequence[PairSet]) -> list[str]:
    """Clean images, by their pixels, of training sets that test or validation sets hold too."""
    faults = []
    for train, other in itertools.product(sets, sets):
        shared = train.clean.keys() & other.clean.keys()
        if shared and train.split == "train" and other.split in ("test", "val"):
            both = min((str(train.clean[one]), str(other.clean[one])) for one in shared)
            faults.append(
                f"{len(shared):,} clean images of {other.name} ({other.split}) are trained on in {train.name}, such as "
                f"{both[1]}, which is {both[0]}; remove them from one of the two."
            )
    return faults
