"""What folders and files are called: sides, splits, and names as they are compared."""

import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from natsort import ns

from mhnet.core.errors import MHNetError

DEGRADED_SIDES = ("input", "blur", "rain", "rainy", "lq", "degraded")
TARGET_SIDES = ("target", "sharp", "norain", "clean", "gt", "hq")
SPLITS = ("train", "val", "test")
NATURAL = ns.PATH | ns.IGNORECASE

PREFIX = re.compile(r"^(norain|rain|blur|gt)(?:_(?=.)|(?=\d))")


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


def without_split(place: Path, split: str | None) -> Path:
    """A folder below the root without the parts that name its split."""
    return Path(*(part for part in place.parts if part.lower() != split))
