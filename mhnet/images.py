"""Image files: the one place where pictures are read and written.

An image is a uint8 array H×W×3, RGB, upright. OpenCV decodes JPEG, PNG and everything with 16 bits: it is faster than
Pillow, which also cuts 16-bit colour to 8 bits. Pillow reads the headers, decodes the rest and encodes.
"""

import contextlib
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from natsort import natsorted, ns
from PIL import Image, UnidentifiedImageError

from mhnet.errors import MHNetError
from mhnet.files import replacing
from mhnet.png import corner

StrPath = str | os.PathLike[str]

IMAGE_EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 500_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit refuses the photographs of a 200-megapixel phone

_JPEG = ("JPEG", {"quality": 95, "subsampling": 0})
_TIFF = ("TIFF", {"compression": "tiff_adobe_deflate"})
_ENCODERS = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".png": ("PNG", {"compress_level": 1}),  # level 6 takes four times as long for 7 % less
    ".bmp": ("BMP", {}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": ("WEBP", {"lossless": True, "quality": 0, "method": 0}),
}
_ORIENTATION_TAG, _WIDTH_TAG, _HEIGHT_TAG = 0x0112, 0x0100, 0x0101
_JPEG_END = b"\xff\xd9"


class ImageError(MHNetError):
    """An image file that cannot be read or written."""


class Info(NamedTuple):
    """What a file says of its image: height and width when upright, and Pillow's name for the kind of its pixels."""

    height: int
    width: int
    mode: str

    @property
    def in_colour(self) -> bool:
        """Whether the file holds colours (a palette's entries among them), not grey alone."""
        return self.mode not in ("1", "L", "LA", "La", "I", "F") and not self.mode.startswith("I;16")


class _Header(NamedTuple):
    """What a file says before its pixels: kind, stored size, EXIF orientation 1 to 8, where reading stopped."""

    kind: str
    mode: str
    height: int
    width: int
    orientation: int
    end: int
    for_opencv: bool


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
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unopened(path, error) from error
    header = _header(path, io.BytesIO(data))
    top, left, height, width = box or (0, 0, header.height, header.width)
    try:
        if header.kind == "PNG":
            Image.open(io.BytesIO(data)).verify()  # checksums: libpng would print what it finds to stderr
            bottom, right = min(top + height, header.height), min(left + width, header.width)
            if header.for_opencv and header.orientation == 1 and bottom * right < 0.9 * header.height * header.width:
                data = corner(data, bottom, right) or data
        elif header.kind in ("JPEG", "MPO") and data.find(_JPEG_END, header.end) < 0:
            raise OSError("image file is truncated")  # OpenCV before 4.11 fills the rest with grey
        pixels = _decode_opencv(data) if header.for_opencv else _decode_pillow(data)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise ImageError(f"{path} is damaged or of a rare kind ({reason}); copy or export it again.") from error
    if header.kind != "TIFF":  # both libraries turn a TIFF upright themselves
        pixels = _upright(pixels, header.orientation)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width]) if box else pixels


def info(path: StrPath) -> Info:
    """What a file says of its image before the pixels; raises ImageError as `read` does."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            header = _header(path, stream)
    except OSError as error:
        raise _unopened(path, error) from error
    size = (header.width, header.height) if header.orientation >= 5 else (header.height, header.width)
    return Info(*size, header.mode)


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
    if path.suffix.lower() not in _ENCODERS:
        raise ImageError(f"{path} has no image extension; use one of {', '.join(sorted(IMAGE_EXTENSIONS))}.")
    kind, options = _ENCODERS[path.suffix.lower()]
    encoded = io.BytesIO()
    try:
        Image.fromarray(image).save(encoded, kind, **options)
    except (OSError, ValueError, SystemError, struct.error) as error:
        shape = f"{image.shape[0]}×{image.shape[1]}"
        raise ImageError(f"{path} cannot hold {shape} pixels as {kind} ({error}); use .png.") from error
    try:
        with replacing(path) as part:
            part.write_bytes(encoded.getbuffer())
    except OSError as error:
        raise ImageError(f"{path} cannot be written ({error.strerror}); choose another place.") from error


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


def _unopened(path: Path, error: OSError) -> ImageError:
    """Why the system did not open a file, as a sentence."""
    if path.is_dir():
        return ImageError(f"{path} is a folder, not an image; name a file.")
    if isinstance(error, FileNotFoundError):
        return ImageError(f"There is no file {path}; check the path.")
    return ImageError(f"{path} cannot be opened ({error.strerror}); check the path and its permissions.")


def _header(path: Path, stream: BinaryIO) -> _Header:
    """Read what stands before the pixels; ImageError for what is no image, and for a decompression bomb."""
    try:
        with Image.open(stream) as picture:
            kind, notes, end = str(picture.format), picture.info, stream.tell()
            width, height = picture.size
            mode = picture.mode
            if tags := getattr(picture, "tag_v2", None) if kind == "TIFF" else None:
                width, height = tags[_WIDTH_TAG], tags[_HEIGHT_TAG]  # Pillow versions differ in which way is up
            deep = kind in ("PNG", "TIFF") and ";16" in str(picture.tile[:1])
            # For a PNG without EXIF before its pixels, getexif() would decode them all to look behind.
            orientation = _orientation(picture) if kind != "PNG" or "exif" in notes else 1
    except Image.DecompressionBombError:
        raise ImageError(f"{path} has over {2 * MAX_PIXELS / 1e6:.0f} megapixels; cut it into parts.") from None
    except UnidentifiedImageError:
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty; copy it again or remove it.") from None
        raise ImageError(f"{path} is not an image of a known kind; convert it to PNG or remove it.") from None
    except Exception as error:  # Pillow raises nearly anything on damaged headers
        raise ImageError(f"{path} has a damaged header ({error}); copy it again or remove it.") from error
    if height * width > MAX_PIXELS:
        limit = f"the {MAX_PIXELS / 1e6:.0f} megapixels that are read"
        raise ImageError(f"{path} has {height}×{width} pixels, more than {limit}; cut it into parts.")
    # libpng prints a warning for every PNG whose colour profile it dislikes; Pillow does not look at it.
    for_opencv = deep or kind in ("JPEG", "MPO") or (kind == "PNG" and "icc_profile" not in notes)
    return _Header(kind, mode, height, width, orientation, end, for_opencv)


def _orientation(picture: Image.Image) -> int:
    with contextlib.suppress(OSError, SyntaxError, ValueError, KeyError, struct.error):
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
        return value if value in range(1, 9) else 1
    return 1  # damaged EXIF is no reason to refuse the picture


def _decode_opencv(data: bytes) -> np.ndarray:
    """JPEG, PNG and 16-bit TIFF bytes to uint8 H×W×3 RGB as stored."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    with _silent_opencv():
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError("its pixels cannot be decoded")
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def _decode_pillow(data: bytes) -> np.ndarray:
    """Bytes of any other kind to uint8 H×W×3 RGB."""
    with Image.open(io.BytesIO(data)) as picture:
        if picture.mode.startswith(("F", "I")):
            raise ValueError("its samples have 32 bits, 8 or 16 are read")
        return np.array(picture.convert("RGB"))


@contextlib.contextmanager
def _silent_opencv() -> Iterator[None]:
    """Keep OpenCV from logging what is raised as an ImageError anyway."""
    log = getattr(cv2.utils, "logging", None)  # not in every build
    level = log.setLogLevel(log.LOG_LEVEL_SILENT) if log else None
    try:
        yield
    finally:
        if log:
            log.setLogLevel(level)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (Exif 2.32, tag 274) to H×W×3."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
