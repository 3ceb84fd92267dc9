"""What an image file says before its pixels, and what is refused for it: no image, a bomb, a pipe, a folder."""

import contextlib
import io
import operator
import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from mhnet.core.errors import MHNetError
from mhnet.images import png, tiff

MAX_PIXELS = 500_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit refuses the photographs of a 200-megapixel phone

# What it warns of is either refused or no harm. Threads read images: catch_warnings is not for them.
warnings.filterwarnings("ignore", module=r"PIL\.")

_KINDS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")  # others start programs (EPS) or are no photographs
_ORIENTATION = 0x0112
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _PLANES, _EXTRA, _FORMAT = 256, 257, 258, 262, 277, 284, 338, 339
_STRIPS, _ROWS, _TILE_WIDTH, _TILE_HEIGHT, _TILES = 273, 278, 322, 323, 324
_GREY_OR_RGB, _INVERTED = (0, 1, 2), 0
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LONGEST_SIDE = 1 << 20  # OpenCV's limit
_LARGE = 1 << 26  # bytes up to which a file is read whatever it holds
_LARGEST_PIXEL = 64  # bytes of a file per pixel of its image


class ImageError(MHNetError):
    """An image file that cannot be read or written."""


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels."""

    kind: str  # PNG, JPEG, MPO, TIFF, BMP, WEBP or GIF
    mode: str  # Pillow's name for what a pixel is
    height: int  # as stored
    width: int
    orientation: int = 1  # of EXIF, 1 to 8
    end: int = 0  # where reading the header stopped
    bits: int = 8  # of a sample
    decoder: str = "pillow"  # or opencv, tifffile
    refusal: str = ""  # why it is not decoded
    keyed: bool = False  # one grey or colour is transparent
    inverted: bool = False  # black is the largest number
    multiplied: bool = False  # alpha is multiplied into the colours

    @property
    def grey(self) -> bool:
        """Whether the file holds grey alone, and no palette."""
        return self.mode in ("1", "L", "LA", "La", "F") or self.mode.startswith("I")

    @property
    def alpha(self) -> bool:
        """Whether the pixels have an alpha of their own."""
        return self.mode in ("LA", "La", "RGBA", "RGBa")

    @property
    def turned(self) -> bool:
        """Whether the decoder turns the image upright itself."""
        return self.kind == "TIFF" and self.decoder != "tifffile"

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width when upright."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def by_pillow(stream: BinaryIO) -> Image.Image:
    """Pillow's view of a file, of the kinds that are read."""
    return Image.open(stream, formats=_KINDS)


def read_header(path: Path) -> Header:
    """A file's header; ImageError for what is no image, a decompression bomb, or no file."""
    with _opened(path) as stream:
        return _header(path, stream)


def load(path: Path) -> tuple[bytes, Header]:
    """A file's bytes and header; ImageError also for a file that is far too large for its image."""
    with _opened(path) as stream:
        return loaded(path, stream, os.fstat(stream.fileno()).st_size)


def loaded(path: Path, stream: BinaryIO, length: int) -> tuple[bytes, Header]:
    """What `load` gives, of a stream of so many bytes; `path` names it in errors."""
    if length > _LARGE:
        found = _header(path, stream)
        if length > _LARGE + _LARGEST_PIXEL * found.height * found.width:
            sizes = f"{length / 1e9:.1f} GB for an image of {found.height}×{found.width} pixels"
            raise ImageError(f"{path} has {sizes}; export the image again.")
        stream.seek(0)
    data = stream.read()
    return data, _header(path, io.BytesIO(data))


@contextlib.contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turns what decoders raise, nearly anything on damaged files, into an ImageError."""
    try:
        yield
    except MHNetError:
        raise
    except MemoryError as error:
        raise ImageError(f"{path} needs more memory than there is; cut it into parts.") from error
    except Exception as error:
        raise ImageError(f"{path} is damaged or of a rare kind ({_reason(error)}); copy or export it again.") from error


def _reason(error: Exception) -> str:
    """A decoder's words, as much of them as a sentence bears."""
    first = str(error).strip().partition("\n")[0].rstrip(".")
    return (first if len(first) < 150 else f"{first[:150]} …") or type(error).__name__


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file for reading; ImageError for what is missing, closed to us, a folder, a pipe or a device."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            if path.is_dir():
                raise ImageError(f"{path} is a folder, not an image; name a file.")
            raise ImageError(f"{path} is a pipe or a device, not a file; save the image as a file.")
        with open(path, "rb", opener=_at_once) as stream:
            yield stream
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {path}; check the path.") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be opened ({error.strerror}); check the path and its permissions.") from error


def _at_once(path: str, flags: int) -> int:
    """Opens without waiting for a pipe's other end, should one have taken the file's place."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _header(path: Path, stream: BinaryIO) -> Header:
    try:
        with by_pillow(stream) as picture:
            found = _described(picture, stream)
    except Image.DecompressionBombError:
        raise ImageError(f"{path} has over {2 * MAX_PIXELS / 1e6:.0f} megapixels; cut it into parts.") from None
    except UnidentifiedImageError:
        stream.seek(0)
        start = stream.read(4)
        if not start:
            raise ImageError(f"{path} is empty; copy it again or remove it.") from None
        if start not in _TIFFS:
            raise ImageError(f"{path} is not an image of a known kind; convert it to PNG or remove it.") from None
        found = _rare_tiff(path, stream)
    except Exception as error:  # Pillow raises nearly anything on damaged headers
        raise ImageError(f"{path} has a damaged header ({_reason(error)}); copy it again or remove it.") from error
    size, sides = f"{path} has {found.height}×{found.width} pixels", (found.height, found.width)
    if found.height * found.width > MAX_PIXELS or max(sides) > _LONGEST_SIDE:
        limits = f"{MAX_PIXELS / 1e6:.0f} megapixels and {_LONGEST_SIDE} a side"
        raise ImageError(f"{size}, more than the {limits} that are read; cut it into parts.")
    if min(sides) < 1:
        raise ImageError(f"{size}, which is no image; remove it.")
    return found


def _described(picture: Image.Image, stream: BinaryIO) -> Header:
    end, kind, mode, notes = stream.tell(), str(picture.format), picture.mode, picture.info
    width, height = picture.size
    orientation = _orientation(picture, stream)
    if kind == "TIFF":
        length = stream.seek(0, io.SEEK_END)
        return replace(_tiff_header(picture, mode, length), orientation=orientation, end=end)
    decoder, bits = "pillow", 8
    if kind == "PNG":
        layout = str(getattr(picture, "tile", [])[:1])
        bits = 16 if ";16" in layout else 8
        mode = "LA" if "LA;16" in layout else mode
        # libpng prints a warning for every PNG whose colour profile it dislikes; Pillow does not look at it.
        decoder = "opencv" if bits == 16 or "icc_profile" not in notes else "pillow"
    elif kind in ("JPEG", "MPO") and mode in ("L", "RGB"):
        decoder = "opencv"
    keyed = kind == "PNG" and mode != "P" and "transparency" in notes
    return Header(kind, mode, height, width, orientation, end, bits, decoder, keyed=keyed)


def _tiff_header(picture: Image.Image, mode: str, length: int) -> Header:
    tags = getattr(picture, "tag_v2")  # noqa: B009  (TIFFs alone have it)
    bits, photometric, formats = max(tags.get(_BITS, (1,))), tags.get(_PHOTOMETRIC), tags.get(_FORMAT, (1,))
    # Pillow versions differ in which way is up: the tags hold the stored size.
    found = Header("TIFF", mode, operator.index(tags[_HEIGHT]), operator.index(tags[_WIDTH]), bits=bits)
    if not _complete(tags, length):
        return replace(found, refusal="image file is truncated")
    if set(formats) != {1} or bits not in (1, 2, 4, 8, 16):
        return replace(found, refusal=_number(bits, max(formats)))
    if bits < 16 or photometric not in _GREY_OR_RGB:
        return found
    decoder = "tifffile" if tags.get(_PLANES, 1) == 2 and tags.get(_SAMPLES, 1) > 1 else "opencv"
    multiplied = mode == "RGBA" and tags.get(_EXTRA, (0,))[0] == 1
    return replace(found, decoder=decoder, inverted=photometric == _INVERTED, multiplied=multiplied)


def _complete(tags: Mapping[int, Any], length: int) -> bool:
    """Whether all parts of the pixels begin in the file: Pillow leaves black what is missing.

    Where a part ends is left to its decoder: some programs note lengths beyond the file's end.
    """
    height, width = tags[_HEIGHT], tags[_WIDTH]
    tiled = _TILES in tags
    rows, columns = (tags[_TILE_HEIGHT], tags[_TILE_WIDTH]) if tiled else (tags.get(_ROWS, height), width)
    planes = tags.get(_SAMPLES, 1) if tags.get(_PLANES, 1) == 2 else 1
    starts = tags.get(_TILES if tiled else _STRIPS, ())
    needed = -(-height // rows) * -(-width // columns) * planes
    return len(starts) >= needed and max(starts) < length


def _rare_tiff(path: Path, stream: BinaryIO) -> Header:
    """The header of a TIFF that Pillow does not open."""
    with damage(path):
        found = tiff.layout(stream)
    colours = found.samples - (found.alpha is not None)
    mode = {1: "L", 3: "RGB"}.get(colours, "?") + ("A" if found.alpha else "")
    head = Header("TIFF", mode, found.height, found.width, found.orientation, 0, found.bits, "tifffile")
    if found.number_format != 1 or found.bits not in (8, 16):
        return replace(head, refusal=_number(found.bits, found.number_format))
    if colours not in (1, 3) or found.photometric not in _GREY_OR_RGB:
        return replace(head, refusal=f"its pixels are {found.samples} samples of kind {found.photometric}")
    return replace(head, inverted=found.photometric == _INVERTED, multiplied=found.alpha == 1)


def _number(bits: int, number_format: int) -> str:
    kind = {2: " with a sign", 3: " with a fraction"}.get(number_format, "")
    return f"its samples have {bits} bits{kind}, whole numbers of 8 or 16 bits are read"


def _orientation(picture: Image.Image, stream: BinaryIO) -> int:
    with contextlib.suppress(Exception):  # damaged EXIF is no reason to refuse the picture
        if picture.format == "PNG" and "exif" not in picture.info:
            exif = Image.Exif()  # getexif() would decode the pixels to look behind them
            for _, content in png.chunks(stream, (b"eXIf",)):
                exif.load(content)
        else:
            exif = picture.getexif()
        value = exif.get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 1
    return 1
