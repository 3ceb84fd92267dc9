"""Image files as uint8 arrays H×W×3, RGB, upright; and where they lie.

This is what training and scoring see. `mhnet.images.rgb.pictures` keeps what else is in a file; `mhnet.codecs` reads and writes
for both.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from natsort import natsorted, ns

from mhnet.images.decode import check, rgb8
from mhnet.images.encode import WRITERS, save
from mhnet.images.header import MAX_PIXELS, ImageError, damage, load, read_header
from mhnet.images.metadata import Metadata
from mhnet.images.png import corner

__all__ = ["IMAGE_EXTENSIONS", "MAX_PIXELS", "ImageError", "Info", "StrPath", "find_images", "has_image_extension",
           "info", "read", "read_crop", "size", "walk", "write"]  # fmt: skip

StrPath = str | os.PathLike[str]

IMAGE_EXTENSIONS = frozenset(WRITERS)


class Info(NamedTuple):
    """What a file says of its image: height and width when upright, and Pillow's name for the kind of its pixels."""

    height: int
    width: int
    mode: str

    @property
    def in_colour(self) -> bool:
        """Whether the file holds colours (a palette's entries among them), not grey alone."""
        return self.mode not in ("1", "L", "LA", "La", "I", "F") and not self.mode.startswith("I;16")


def read(path: StrPath) -> np.ndarray:
    """Read an image as uint8 H×W×3, RGB.

    Grey and palette images become RGB, alpha is dropped, CMYK is converted, the EXIF orientation is applied, 16-bit
    values v become round(v / 257). Raises ImageError for a file that is missing, empty, truncated, damaged, not an
    image, or larger than MAX_PIXELS.
    """
    return _read(Path(path), None)


def read_crop(path: StrPath, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Read a part of an image: `read(path)[top : top + height, left : left + width]`, of a PNG in half the time.

    Raises ImageError as `read` does; damage outside the part is found only where the file's checksums show it.
    """
    return _read(Path(path), (top, left, height, width))


def _read(path: Path, box: tuple[int, int, int, int] | None) -> np.ndarray:
    data, head = load(path)
    top, left, height, width = box or (0, 0, head.height, head.width)
    with damage(path):
        check(data, head)
        if head.kind == "PNG" and head.decoder == "opencv" and head.orientation == 1:
            bottom, right = min(top + height, head.height), min(left + width, head.width)
            if bottom * right < 0.9 * head.height * head.width and (cut := corner(data, bottom, right)):
                data, head = cut, replace(head, height=bottom, width=right)
        pixels = rgb8(data, head)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width]) if box else pixels


def info(path: StrPath) -> Info:
    """What a file says of its image before the pixels; raises ImageError as `read` does."""
    head = read_header(Path(path))
    return Info(*head.upright_size, head.mode)


def size(path: StrPath) -> tuple[int, int]:
    """Height and width of an upright image, from the file's header alone; raises ImageError as `read` does."""
    found = info(path)
    return found.height, found.width


def write(path: StrPath, image: np.ndarray) -> None:
    """Write a uint8 H×W×3 RGB image, whole or not at all, in the format of the path's extension.

    JPEG at quality 95 without chroma subsampling, everything else lossless. Missing parent folders are made; a file
    of that name is replaced. Raises ImageError for another type or shape, an unknown extension, and when the system
    refuses.
    """
    path = Path(path)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"{path} cannot hold {found}; an image to write is a uint8 array of shape H×W×3.")
    save(path, image, None, Metadata())


def find_images(folder: StrPath, recursive: bool = False) -> list[Path]:
    """Image files in a folder in natural order (2 before 10), known by extension; hidden files are skipped."""
    folder = Path(folder)
    found = []
    for here, subfolders, names in walk(folder):
        found += [here / name for name in names if has_image_extension(name)]
        if not recursive:
            subfolders.clear()
    return natsorted(found, key=lambda path: path.relative_to(folder).as_posix(), alg=ns.PATH | ns.IGNORECASE)


def walk(folder: StrPath) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Like os.walk from the top, sorted, through links but never in a circle, and without hidden names.

    Raises ImageError where the folder is missing or a folder cannot be listed.
    """
    if not Path(folder).is_dir():
        raise ImageError(f"There is no folder {folder}; check the path.")
    seen = set()
    for here, subfolders, names in os.walk(folder, onerror=_unlisted, followlinks=True):
        place = os.path.realpath(here)
        subfolders[:] = [] if place in seen else sorted(name for name in subfolders if not name.startswith("."))
        if place not in seen:
            seen.add(place)
            yield Path(here), subfolders, sorted(name for name in names if not name.startswith("."))


def has_image_extension(name: str) -> bool:
    """Whether a file name ends like an image's."""
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS  # noqa: PTH122  (ten times as fast as Path.suffix)


def _unlisted(error: OSError) -> None:
    raise ImageError(f"The folder {error.filename} cannot be listed ({error.strerror}); check its permissions.")
