"""Which image files lie in a folder."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from natsort import natsorted, ns
from PIL import Image

from mhnet.core.files import StrPath
from mhnet.images.header import ImageError
from mhnet.images.kinds import KIND_OF_EXTENSION, kind_of_file

Refusing = Callable[[Path, str], object]  # what is told of a folder, and why it cannot be listed


def find_images(folder: StrPath, recursive: bool = False) -> list[Path]:
    """Image files in a folder in natural order (2 before 10), by extension; below it where `recursive`; none hidden."""
    folder = Path(folder)
    found = []
    for here, subfolders, names in walk_folder(folder):
        found += [here / name for name in names if has_image_extension(name)]
        if not recursive:
            subfolders.clear()
    return natsorted(found, key=lambda path: path.relative_to(folder).as_posix(), alg=ns.PATH | ns.IGNORECASE)


def walk_folder(folder: StrPath, below: Refusing | None = None) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Like os.walk from the top, sorted, through links but never in a circle, and without hidden names; ImageError
    where the folder is missing or a folder cannot be listed, except that `below` is told of those below it."""

    def unlisted(error: OSError) -> None:
        why = f"The folder {error.filename} cannot be listed ({error.strerror}); check its permissions."
        if below is None or Path(error.filename) == Path(folder):
            raise ImageError(why)
        below(Path(error.filename), why)

    if not Path(folder).is_dir():
        raise ImageError(f"There is no folder {folder}; check the path.")
    seen = set()
    for here, subfolders, names in os.walk(folder, onerror=unlisted, followlinks=True):
        place = os.path.realpath(here)
        subfolders[:] = [] if place in seen else sorted(name for name in subfolders if not name.startswith("."))
        if place not in seen:
            seen.add(place)
            yield Path(here), subfolders, sorted(name for name in names if not name.startswith("."))


def is_image_file(path: Path) -> bool:
    """Whether a file is an image or claims to be one, by its first bytes or its name; an animated GIF is a film."""
    kind = kind_of_file(path)
    if kind == "GIF":
        with contextlib.suppress(Exception), Image.open(path, formats=("GIF",)) as picture:
            return not getattr(picture, "is_animated", False)
    return bool(kind) or has_image_extension(path.name)


def has_image_extension(name: str) -> bool:
    """Whether a file name ends like that of an image of a kind that is read."""
    return os.path.splitext(name)[1].lower() in KIND_OF_EXTENSION  # noqa: PTH122  (ten times as fast as Path.suffix)
