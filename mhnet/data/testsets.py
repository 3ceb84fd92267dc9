"""Which test sets lie on disk, and what is in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mhnet.core.errors import MHNetError
from mhnet.core.tasks import Task, TestSet, plain_name
from mhnet.data.names import DEGRADED_SIDES, SPLITS, TARGET_SIDES, side_of
from mhnet.data.pairs import find_pairs, present_splits, sides_if_any
from mhnet.images.listing import find_images

DEPTH = 3
"""How many folders below the root a set may lie: Rain13k/test/Test100."""


@dataclass
class FoundSet:
    """A test set on disk.

    Args:
        name: the public set's, else the folder's.
        files: (name, image, its clean one or None).
        protocol: how it is scored.
        known: the public set that it is, if any.
    """

    name: str
    files: Sequence[tuple[str, Path, Path | None]]
    protocol: str
    known: TestSet | None = None

    @property
    def warning(self) -> str:
        """What the user should know before believing a score; '' for nothing."""
        return self.known.miscounted(self.name, len(self.files)) if self.known else ""


def find_test_sets(task: Task, root: Path, names: Sequence[str] | None, results: Path | None = None) -> list[FoundSet]:
    """The named test sets at or below a folder; without names the task's public sets that are there, else the folder.

    Args:
        task: knows the public sets.
        root: where to look.
        names: of folders; case, `-` and `_` do not matter.
        results: a folder whose images are not looked at.

    Raises:
        MHNetError: a named set, or any image, is missing; a set is for training only; two images have one name.
    """
    if not root.is_dir():
        raise MHNetError(f"There is no folder {root}: put the test images there, or name another with --input_dir")
    if names:
        names = list(dict.fromkeys(name.rstrip("/\\") for name in names))
        for name in names:
            if Path(name).is_absolute() or len(Path(name).parts) != 1 or name == "..":
                raise MHNetError(f"--dataset {name} is a path: name its folder with --input_dir")
        return [_open(task, name, _required_place(root, name), results) for name in names]
    places = [(one.name, _place(root, one.name)) for one in task.sets]
    found = [(name, place) for name, place in places if place and _has_test(place)]
    if not found:
        found = [(_name_of(root), root)]
    return [_open(task, name, place, results) for name, place in found]


def _required_place(root: Path, name: str) -> Path:
    if place := _place(root, name):
        return place
    raise MHNetError(f"There is no set {name} at or below {root}: look for a folder of that name")


def _place(root: Path, name: str) -> Path | None:
    """The folder of a set: the one of its name that is nearest to the root and not below a `train` or `val`."""
    level = [root]
    for _ in range(DEPTH + 1):
        for folder in level:
            if plain_name(_name_of(folder)) == plain_name(name):
                return folder
        level = [child for folder in level for child in _subfolders(folder)]
    return None


def _subfolders(folder: Path) -> list[Path]:
    skipped = {"train", "val", *DEGRADED_SIDES, *TARGET_SIDES}
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir() and not child.name.startswith(".") and side_of(child.name) not in skipped
    )


def _name_of(folder: Path) -> str:
    """A set's name by its folder, or by the one above a `test`."""
    folder = folder.resolve()
    return folder.parent.name if folder.name.lower() in SPLITS else folder.name


def _has_test(place: Path) -> bool:
    """Whether a folder holds more than pairs to train on."""
    return not (splits := present_splits(place)) or "test" in splits


def _open(task: Task, name: str, place: Path, results: Path | None) -> FoundSet:
    known = task.set_named(name)
    if sides_if_any(place):
        files = [(pair.name, pair.degraded, pair.target) for pair in find_pairs(place, "test")]
    else:
        side = _degraded_side(place)
        results = results if results is not None and _below(results, side) else None
        found = [path for path in find_images(side, recursive=True) if not _below(path, results)]
        files = [(path.relative_to(side).with_suffix("").as_posix(), path, None) for path in found]
    if not files:
        raise MHNetError(f"There are no images in {place}: put them there, or name another folder with --input_dir")
    taken: dict[str, Path] = {}
    for stem, path, _ in files:
        if taken.setdefault(stem.lower(), path) != path:
            raise MHNetError(f"{taken[stem.lower()]} and {path} would have one result: rename one of them")
    return FoundSet(known.name if known else name, files, known.protocol if known else task.protocol, known)


def _degraded_side(place: Path) -> Path:
    """Where the images without clean ones are: in `input` or its like, if there is one."""
    sides = [child for child in place.iterdir() if child.is_dir() and side_of(child.name) in DEGRADED_SIDES]
    return sides[0] if len(sides) == 1 else place


def _below(path: Path, folder: Path | None) -> bool:
    return folder is not None and folder.resolve() in path.resolve().parents
