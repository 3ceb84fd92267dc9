"""Which sets of images lie below a folder: for a check of everything that is there, and for tests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mhnet.core.errors import MHNetError
from mhnet.core.tasks import TASKS, TRAINING_COUNTS, Task, plain_name
from mhnet.data.names import DEGRADED_SIDES, SPLITS, TARGET_SIDES, Pair, PairError, side_of, split_of
from mhnet.data.pairs import Sides, find_pairs, find_sets, find_sides, match_folders
from mhnet.images.listing import find_images

DEPTH = 3
"""How many folders below the root a test set may lie: Rain13k/test/Test100."""

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
_OF_DEBLURRING = ("raw GoPro", "MIMO-UNet", "NAFNet crops", "raw RealBlur", "RealBlur lists")


@dataclass
class PairSet:
    """Pairs that belong together, public sets by name, others by their folder's; and what a check finds of them."""

    name: str
    split: str | None  # train, val, test, or None where no folder says so
    task: str | None  # deblurring, deraining, or None where neither folders nor names tell
    layout: str  # whose it is, else the names of the two sides
    pairs: list[Pair] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # what makes training on it wrong; at first, names without pairs
    notes: list[str] = field(default_factory=list)  # what is to be known
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # how many pairs have a height and width
    modes: Counter[str] = field(default_factory=Counter)  # how many images have pixels of a kind, by Pillow's names
    clean: dict[str, Path] = field(default_factory=dict)  # clean images by a hash of their pixels

    @property
    def expected(self) -> tuple[int, ...]:
        """The numbers of pairs that downloads have; empty where they are not known."""
        if self.layout.endswith("crops"):
            return ()
        train, test = TRAINING_COUNTS.get(self.name, ()), TEST_COUNTS.get(self.name, ())
        return train if self.split == "train" else test if self.split == "test" else test + train


@dataclass
class FoundTestSet:
    """Images to restore, and to score where their clean ones are there: (name, image, its clean one or None)."""

    name: str
    files: Sequence[tuple[str, Path, Path | None]]
    protocol: str


def find_pair_sets(root: Path) -> list[PairSet]:
    """The sets of pairs at or below a folder, in natural order, with faults of names noted rather than raised (other
    errors as of `find_sets`). Raw GoPro's sequences and RealBlur's scenes are one set."""
    lists, sets = find_sets(root)
    found: dict[tuple[str, str | None, str], PairSet] = {}

    def add(place: Path, split: str | None, layout: str, pairs: list[Pair], faults: list[str]) -> None:
        name = _public_name(root, place) or _folder_name(root, place, layout)
        one = found.setdefault((name, split, layout), PairSet(name, split, _task(root, name, place, layout), layout))
        one.pairs += pairs
        one.faults += faults

    for split, pairs in lists.items():
        for pair in pairs:
            add(pair.degraded.parent.parent.relative_to(root), split, "RealBlur lists", [pair], [])
    for sides in sets:
        place = sides.holder.relative_to(root)
        split = split_of(place) or split_of(Path(*root.resolve().parts[-2:]))
        try:
            pairs, faults = _matched(*sides)
        except PairError as error:
            pairs, faults = [], [str(error)]
        pairs = [pair._replace(name=(place / pair.name).as_posix()) for pair in pairs]
        add(place, split, _layout(sides), pairs, faults)
    for one in found.values():
        if one.task == "deraining" and one.split == "train" and len(one.pairs) in TRAINING_COUNTS["Rain13K"]:
            one.name = "Rain13K"
    return list(found.values())


def pair_set_of(degraded: Path, targets: Path) -> PairSet:
    """The set that two folders make; PairError where one has no images or names are ambiguous."""
    return PairSet(degraded.name, None, None, "two folders", *_matched(degraded, targets))


def find_test_sets(
    task: Task, root: Path, names: Sequence[str] | None, results: Path | None = None
) -> tuple[list[FoundTestSet], list[str]]:
    """The test sets at or below a folder, and a sentence for each named one that cannot be opened; where none can, they
    are an MHNetError.

    `names` are of folders, whatever their case, `-` and `_`; without them the task's public sets that are there are
    meant, else the folder. The images of the folder `results` are not looked at.
    """
    if not root.is_dir():
        raise MHNetError(f"There is no folder {root}: put the test images there, or name another with --input_dir")
    if not names:
        places = [(one.name, place) for one in task.sets if (place := _nearest(root, one.name)) and _has_test(place)]
        return [_opened(task, name, place, results) for name, place in places or [(_name_of(root), root)]], []
    found, missing = [], []
    for name in dict.fromkeys(name.rstrip("/\\") for name in names):
        if Path(name).is_absolute() or len(Path(name).parts) != 1 or name == "..":
            raise MHNetError(f"--dataset {name} is a path: name its folder with --input_dir")
        try:
            if (place := _nearest(root, name)) is None:
                raise MHNetError(f"There is no set {name} at or below {root}: look for a folder of that name")
            found.append(_opened(task, name, place, results))
        except MHNetError as error:
            missing.append(str(error))
    if not found:
        raise MHNetError("; ".join(missing))
    return found, missing


def _matched(degraded: Path, targets: Path) -> tuple[list[Pair], list[str]]:
    """The pairs of two folders, and faults of images without partners."""
    found = match_folders(degraded, targets)
    faults = [f"{path} has no clean image in {targets}" for path in found.without_target]
    faults += [f"{path} has no degraded image in {degraded}" for path in found.without_input]
    return found.pairs, [f"{fault}; add it, or take this away." for fault in faults]


def _layout(sides: Sides) -> str:
    names = sides.degraded.name.lower(), sides.target.name.lower()
    if sides.target == sides.holder:
        return "PReNet"
    if names == ("blur", "sharp"):
        numbers = all(path.stem.isdigit() for path in find_images(sides.degraded))
        return "raw GoPro" if numbers else "MIMO-UNet"
    return _LAYOUTS.get(names, "/".join(names))


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
    parts = [part for part in place.parts if part.lower() not in SPLITS]
    return Path(*parts).as_posix() if parts else root.resolve().name


def _task(root: Path, name: str, place: Path, layout: str) -> str | None:
    """The task by the set's public name, the layout, or the word in a folder's name."""
    if name in SET_TASKS:
        return SET_TASKS[name]
    if layout in _OF_DEBLURRING:
        return "deblurring"
    words = " ".join((*root.resolve().parts[-3:], *place.parts)).lower().replace("train", "")
    tasks = [task for word, task in (("blur", "deblurring"), ("rain", "deraining")) if word in words]
    return "deraining" if layout == "PReNet" else tasks[0] if len(tasks) == 1 else None


def _nearest(root: Path, name: str) -> Path | None:
    """The folder of a test set: the one of its name that is nearest to the root and not below a `train` or `val`."""
    skipped = {"train", "val", *DEGRADED_SIDES, *TARGET_SIDES}
    level = [root]
    for _ in range(DEPTH + 1):
        for folder in level:
            if plain_name(_name_of(folder)) == plain_name(name):
                return folder
        below = sorted(child for folder in level for child in folder.iterdir() if child.is_dir())
        level = [child for child in below if side_of(child.name) not in skipped and not child.name.startswith(".")]
    return None


def _name_of(folder: Path) -> str:
    """A set's name by its folder, or by the one above a `test`."""
    folder = folder.resolve()
    return folder.parent.name if folder.name.lower() in SPLITS else folder.name


def _has_test(place: Path) -> bool:
    """Whether a folder holds more than pairs to train on."""
    lists, sets = find_sets(place, required=False)
    splits = {split_of(sides.holder.relative_to(place)) for sides in sets} | {*lists}
    return "test" in splits or splits <= {None}


def _opened(task: Task, name: str, place: Path, results: Path | None) -> FoundTestSet:
    known = task.set_named(name)
    if find_sides(place):
        files = [(pair.name, pair.degraded, pair.target) for pair in find_pairs(place, "test")]
    else:  # images without clean ones: in `input` or its like, if there is one
        sides = [child for child in place.iterdir() if child.is_dir() and side_of(child.name) in DEGRADED_SIDES]
        side = sides[0] if len(sides) == 1 else place
        left_out = {results.resolve()} - {side.resolve(), *side.resolve().parents} if results else set()
        found = [path for path in find_images(side, recursive=True) if left_out.isdisjoint(path.resolve().parents)]
        files = [(path.relative_to(side).with_suffix("").as_posix(), path, None) for path in found]
    if not files:
        raise MHNetError(f"There are no images in {place}: put them there, or name another folder with --input_dir")
    taken: dict[str, Path] = {}
    for stem, path, _ in files:
        if taken.setdefault(stem.lower(), path) != path:
            raise MHNetError(f"{taken[stem.lower()]} and {path} would have one result: rename one of them")
    return FoundTestSet(known.name if known else name, files, known.protocol if known else task.protocol)
