"""Which sets lie below a folder: their layouts, tasks, splits and pairs, with faults noted rather than raised."""

from dataclasses import dataclass, field
from pathlib import Path

from mhnet.core.tasks import TASKS, TRAINING_COUNTS, plain_name
from mhnet.data.names import Pair, PairError, split_of
from mhnet.data.pairs import Sides, find_sets, match_folders
from mhnet.images.listing import find_images

SET_TASKS = {one.name: task.name for task in TASKS.values() for one in task.sets} | {"Rain13K": "deraining"}
TEST_COUNTS = {one.name: one.counts for task in TASKS.values() for one in task.sets}
_LAYOUTS = {
    ("input", "target"): "MPRNet",
    ("input_crops", "target_crops"): "Restormer crops",
    ("blur_crops", "sharp_crops"): "NAFNet crops",
    ("rain", "norain"): "PReNet",
    ("rainy", "norain"): "PReNet",
    ("blur", "gt"): "raw RealBlur",
}


@dataclass
class FoundSet:
    """A set: a known one by its public name, others by their folder.

    Args:
        split: train, val, test, or None where no folder says so.
        task: deblurring, deraining, or None where neither folders nor names tell.
        layout: whose layout it is, else the names of the two sides.
        faults: sentences about names that make no pairs.
    """

    name: str
    split: str | None
    task: str | None
    layout: str
    pairs: list[Pair] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def expected(self) -> tuple[int, ...]:
        """The numbers of pairs that downloads have; empty where they are not known."""
        if self.layout.endswith("crops"):
            return ()
        train, test = TRAINING_COUNTS.get(self.name, ()), TEST_COUNTS.get(self.name, ())
        return train if self.split == "train" else test if self.split == "test" else test + train


def survey(root: Path) -> list[FoundSet]:
    """The sets at or below a folder, in natural order; raw GoPro's sequences and RealBlur's scenes are one set.

    Raises:
        PairError: the folder is missing, holds no set, or several candidates for one side.
    """
    lists, sets = find_sets(root)
    found: dict[tuple, FoundSet] = {}

    def add(place: Path, split: str | None, layout: str, pairs: list[Pair], faults: list[str]) -> None:
        name = _public_name(root, place) or _folder_name(root, place, layout)
        one = found.setdefault((name, split, layout), FoundSet(name, split, _task(root, name, place, layout), layout))
        one.pairs += pairs
        one.faults += faults

    for split, pairs in lists.items():
        for pair in pairs:
            place = pair.degraded.parent.parent.relative_to(root)
            add(place, split, "RealBlur lists", [pair], [])
    for sides in sets:
        place = sides.holder.relative_to(root)
        split = split_of(place) or split_of(Path(*root.resolve().parts[-2:]))
        try:
            pairs, missing = match_folders(*sides)
            faults = [f"{path} has no clean image in {sides.target}; add it, or take this away." for path in missing]
        except PairError as error:
            pairs, faults = [], [str(error)]
        pairs = [pair._replace(name=(place / pair.name).as_posix()) for pair in pairs]
        add(place, split, _layout(sides), pairs, faults)
    for one in found.values():
        if one.task == "deraining" and one.split == "train" and len(one.pairs) in TRAINING_COUNTS["Rain13K"]:
            one.name = "Rain13K"
    return list(found.values())


def two_folders(degraded: Path, targets: Path) -> FoundSet:
    """The set that two folders make; PairError where one has no images or names are ambiguous."""
    pairs, missing = match_folders(degraded, targets)
    faults = [f"{path} has no clean image in {targets}; add it, or take this away." for path in missing]
    return FoundSet(degraded.name, None, None, "two folders", pairs, faults)


def _layout(sides: Sides) -> str:
    degraded, target = sides.degraded.name.lower(), sides.target.name.lower()
    if sides.target == sides.holder:
        return "PReNet"
    if (degraded, target) == ("blur", "sharp"):
        numbers = all(path.stem.isdigit() for path in find_images(sides.degraded))
        return "raw GoPro" if numbers else "MIMO-UNet"
    return _LAYOUTS.get((degraded, target), f"{degraded}/{target}")


def _public_name(root: Path, place: Path) -> str | None:
    """The public set that a folder's name tells, from the innermost to the root's parent."""
    for part in reversed((*root.resolve().parts[-2:], *place.parts)):
        plain = plain_name(part.replace(" ", ""))
        for name in SET_TASKS:
            if plain.startswith(plain_name(name)) and not plain.removeprefix(plain_name(name))[:1].isdigit():
                return name
    return None


def _folder_name(root: Path, place: Path, layout: str) -> str:
    if layout in ("raw GoPro", "raw RealBlur", "RealBlur lists"):
        place = place.parent
    parts = [part for part in place.parts if part.lower() not in ("train", "val", "test")]
    return Path(*parts).as_posix() if parts else root.resolve().name


def _task(root: Path, name: str, place: Path, layout: str) -> str | None:
    """The task by the set's public name, the layout, or the word in a folder's name."""
    if name in SET_TASKS:
        return SET_TASKS[name]
    if layout in ("raw GoPro", "MIMO-UNet", "NAFNet crops", "raw RealBlur", "RealBlur lists"):
        return "deblurring"
    words = " ".join((*root.resolve().parts[-3:], *place.parts)).lower()
    tasks = {task for word, task in (("blur", "deblurring"), ("rain", "deraining")) if word in _no_splits(words)}
    return "deraining" if layout == "PReNet" else tasks.pop() if len(tasks) == 1 else None


def _no_splits(words: str) -> str:
    return words.replace("train", "")
