"""What folders and files are called: sides, splits, names as they are compared, and RealBlur's list files.

A line of `RealBlur_J_test_list.txt` names a clean image and its blurred one, from the folder of the list
(Rim et al., "Real-world blur dataset for learning and benchmarking deblurring algorithms", ECCV 2020).
"""

import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from natsort import ns

from mhnet.core.errors import MHNetError, shortened
from mhnet.images.listing import walk_folder

DEGRADED_SIDES = ("input", "blur", "rain", "rainy", "lq", "degraded")
TARGET_SIDES = ("target", "sharp", "norain", "clean", "gt", "hq")
_SIDE_OF = {name: side for side, names in (("degraded", DEGRADED_SIDES), ("target", TARGET_SIDES)) for name in names}
SPLITS = ("train", "val", "test")
NATURAL = ns.PATH | ns.IGNORECASE

PREFIX = re.compile(r"^(norain|rain|blur|gt)(?:_(?=.)|(?=\d))")
_LIST = re.compile(r"realblur[-_]([jr])[-_](train|val|test)[-_]list\.txt", re.IGNORECASE)


class PairError(MHNetError):
    """Folders or names from which no pairs can be made."""


class Pair(NamedTuple):
    """A degraded image, its clean one, and a name for both: the path below the root without side and extension."""

    degraded: Path
    target: Path
    name: str


def comparable(name: str) -> str:
    """A name as it is compared: small letters, '_' for '-'."""
    return unicodedata.normalize("NFC", name).lower().replace("-", "_")


def side_of(folder: str) -> str:
    """A folder's name as it is compared with the names of sides."""
    return folder.lower().removesuffix("_crops")


def split_of(place: Path) -> str | None:
    """The split that a folder below the root belongs to."""
    return next((part.lower() for part in place.parts if part.lower() in SPLITS), None)


def read_lists(root: Path) -> dict[str, list[Pair]]:
    """The pairs of the list files at or below a folder, or beside it, by split; those outside the folder are left out.
    PairError where a list names a file that is missing, or has a line that is no pair; ImageError, as `walk_folder`."""
    found = [here / name for here, _, names in walk_folder(root) for name in names if _LIST.fullmatch(name)]
    splits: dict[str, list[Pair]] = {}
    for path in sorted(found or root.resolve().parent.glob("*.txt")):
        if (match := _LIST.fullmatch(path.name)) and (pairs := _read_list(path, root)):
            splits.setdefault(match[2].lower(), []).extend(pairs)
    return splits


def _read_list(path: Path, root: Path) -> list[Pair]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PairError(f"{path} cannot be read as text ({error}); copy it again.") from error
    beside = root.resolve() if path.parent == root.resolve().parent else None
    pairs, missing = [], []
    for number, line in enumerate(lines, 1):
        if not (names := line.split()):
            continue
        sides = {_SIDE_OF.get(side_of(Path(name).parent.name)): path.parent / name for name in names}
        if len(names) != 2 or set(sides) != {"degraded", "target"} or any(Path(name).is_absolute() for name in names):
            raise PairError(f"{path}, line {number}, names no clean image and its blurred one; copy the list again.")
        if beside:
            if not all(file.is_relative_to(beside) for file in sides.values()):
                continue
            sides = {side: root / file.relative_to(beside) for side, file in sides.items()}
        missing += [file for file in sides.values() if not file.is_file()]
        place = sides["degraded"].relative_to(root)
        name = Path(*(part for part in place.parts[:-1] if side_of(part) not in DEGRADED_SIDES), place.stem)
        pairs.append(Pair(sides["degraded"], sides["target"], name.as_posix()))
    if missing:
        raise PairError(f"{path} names {shortened(missing)}, which is missing; unpack the images beside the list.")
    return pairs
