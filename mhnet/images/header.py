"""What an image file says before its pixels, and what is refused for it: no image, a bomb, a pipe, a folder."""

import contextlib
import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from tifffile import TiffFile, TiffPage

from mhnet.core.chatter import without_chatter
from mhnet.core.errors import MHNetError, in_brackets
from mhnet.images.extras import heif_header, jxl_header, raw_header
from mhnet.images.kinds import START, kind_of
from mhnet.images.png import iterate_chunks

MAX_PIXELS = 200_000_000
LONGEST_SIDE = 1_000_000  # of PNG's library
Image.MAX_IMAGE_PIXELS = None  # our own limit is looked at before any pixel is decoded

# What it warns of is either refused or no harm. Threads read images: catch_warnings is not for them.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("tifffile").addHandler(logging.NullHandler())

# Others start programs (EPS) or are no photographs.
_PILLOWS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")
_EXTRAS = {"HEIF": heif_header, "JXL": jxl_header, "RAW": raw_header}
_ORIENTATION = 0x0112
_PREVIEW_OR_MASK = 1 | 4  # of a TIFF's NewSubfileType
_INVERTED, _BLACK_IS_ZERO, _RGB, _PALETTE = range(4)  # of a TIFF's PhotometricInterpretation
_DNG_VERSION, _SENSOR = 50706, (32803, 34892)  # a tag, and PhotometricInterpretation, of cameras' raws
_BY_TIFFFILE = (1, 8, 32946, 34925, 32773)  # not compressed, Deflate, LZMA, PackBits: without a further library
# Bytes of memory for a pixel that is read and written again, by `benchmarks/restoring.py --kinds`: of 8 bits, with
# alpha, of more bits, with alpha. What takes more than is usual may have the fewer pixels.
_USUAL = 12.5
_OTHERS = (12, 12, 14, 22)  # of kinds that are not listed
_MEMORY = {
    "WEBP": (25, 28, 25, 28),
    "HEIF": (25, 46, 40, 75),
    "AVIF": (28, 39, 49, 75),
    "JXL": (47, 62, 47, 62),
    "JPEG2000": (21, 21, 21, 21),
    "PPM": (12, 12, 18, 18),
    "TGA": (13, 13, 13, 13),
    "RAW": (18, 18, 18, 18),  # of cameras' files: none is written there
}
HUNGRIEST = 6  # so many times more pixels than a limit's pass it, however much memory they take
_ENOUGH = 1 << 16  # bytes that hold a header
_LARGE = 1 << 26  # bytes up to which a file is read whatever it holds
_LARGEST_PIXEL = 64  # bytes of a file per pixel of its image


class ImageError(MHNetError):
    """An image file that cannot be read or written."""


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels."""

    kind: str  # of `kinds.KINDS`
    mode: str  # Pillow's name for what a pixel is
    height: int  # as stored
    width: int
    orientation: int = 1  # of EXIF, 1 to 8
    bits: int = 8  # of a sample
    decoder: str = "pillow"  # or opencv, tifffile
    refusal: str = ""  # why it is not decoded
    inverted: bool = False  # black is the largest number
    multiplied: bool = False  # alpha is multiplied into the colours
    left_channels: int = 0  # of a TIFF, beside colours and alpha

    @property
    def memory(self) -> int:
        """Bytes for each pixel that it takes to read the image and write it again."""
        each = _MEMORY.get(self.kind, _OTHERS)[2 * (self.bits > 8) + self.alpha]
        return each + 2 * self.left_channels * self.bits // 8  # which are decoded too

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
        return self.kind in _EXTRAS or (self.kind == "TIFF" and self.decoder != "tifffile")

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width when upright."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def open_by_pillow(file: bytes | BinaryIO) -> Image.Image:
    """Pillow's view of a file, of the kinds that are read."""
    return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=_PILLOWS)


def read_header(path: Path, max_pixels: int = MAX_PIXELS) -> Header:
    """A file's header; ImageError for what is no image, has more than so many pixels, or is no file."""
    with _opened(path) as stream:
        return header_of(path, stream, max_pixels)


def load_file(path: Path, max_pixels: int = MAX_PIXELS, stream: BinaryIO | None = None) -> tuple[bytes, Header]:
    """A file's bytes and header, or those of an open one that lies elsewhere, which `path` names in errors; ImageError
    also for a file that is far too large for its image."""
    if stream is None:
        with _opened(path) as stream:
            return load_file(path, max_pixels, stream)
    length = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if length > _LARGE:
        found = header_of(path, stream, max_pixels)
        if length > _LARGE + _LARGEST_PIXEL * found.height * found.width:
            sizes = f"{length / 1e9:.1f} GB for an image of {found.height}×{found.width} pixels"
            raise ImageError(f"{path} has {sizes}; export the image again.")
        stream.seek(0)
    data = stream.read()
    return data, header_of(path, io.BytesIO(data), max_pixels)


def count_images(data: bytes, head: Header) -> int:
    """How many images a file holds; smaller copies of the first and a HEIC's further views are not counted."""
    if head.kind == "TIFF":
        with TiffFile(io.BytesIO(data)) as file:
            return sum(not page.aspage().subfiletype & _PREVIEW_OR_MASK for page in file.pages)
    if head.kind in ("JPEG", *_EXTRAS):
        return 1
    with open_by_pillow(data) as picture:
        return getattr(picture, "n_frames", 1)


@contextlib.contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
    """Turns what decoders raise, nearly anything on damaged files, into an ImageError; drops what they print."""
    try:
        with without_chatter():
            yield
    except MHNetError:
        raise
    except ImportError as error:
        raise ImageError(f"{path} needs {error.name}; pip install 'mhnet[photos]' brings it.") from error
    except MemoryError as error:
        raise ImageError(f"{path} needs more memory than there is; cut it into parts.") from error
    except Exception as error:
        what = f"damaged or of a rare kind{in_brackets(error)}"
        raise ImageError(f"{path} is {what}; copy or export it again.") from error


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


def header_of(path: Path, stream: BinaryIO, max_pixels: int = MAX_PIXELS) -> Header:
    """What `read_header` gives, of an open file; `path` names it in errors."""
    start = stream.read(START)
    stream.seek(0)
    if not start:
        raise ImageError(f"{path} is empty; copy it again or remove it.")
    kind = kind_of(start, path.name)
    if not kind:
        raise ImageError(f"{path} is not an image of a known kind; convert it to PNG or remove it.")
    try:
        found = _tiff_header(stream) if kind == "TIFF" else None
        kind = found.kind if found else kind
        stream.seek(0)
        if kind in _EXTRAS:
            found = Header(kind, *_EXTRAS[kind](stream.read()))
        found = found or _pillow_header(stream)
    except ImportError as error:
        raise ImageError(f"{path} is {kind} and needs {error.name}; pip install 'mhnet[photos]' brings it.") from error
    except Exception as error:  # libraries raise nearly anything on damaged headers
        raise ImageError(f"{path} has a damaged header{in_brackets(error)}; copy it again or remove it.") from error
    size, sides = f"{path} has {found.height}×{found.width} pixels", (found.height, found.width)
    if max(sides) > LONGEST_SIDE:
        raise ImageError(f"{size}, more than the {LONGEST_SIDE} a side that are read; cut it into parts.")
    most = int(min(max_pixels * _USUAL / found.memory, max_pixels))
    if found.height * found.width > most:
        needed = -(-found.height * found.width * max_pixels // most // 1_000_000)
        found_and_most = f"{found.height * found.width / 1e6:.4g} megapixels, more than the {most / 1e6:.4g}"
        raise ImageError(f"{size}, {found_and_most} that are read; cut it into parts, or --max-megapixels {needed}.")
    if min(sides) < 1:
        raise ImageError(f"{size}, which is no image; remove it.")
    return found


def _pillow_header(stream: BinaryIO) -> Header:
    start = stream.read(_ENOUGH)
    with open_by_pillow(stream) as picture:
        kind, mode, (width, height) = str(picture.format), picture.mode, picture.size
        bits, decoder, orientation = _bits(kind, start, picture), "pillow", _orientation(picture, stream)
    if kind == "PNG" and start[25] == 4:
        mode = "LA"  # Pillow makes RGBA of 16 bits
    if kind == "WEBP" or bits > 8:
        decoder = "opencv"  # Pillow gives 8 bits, and takes much memory for a WebP
    return Header(kind, mode, height, width, orientation, bits, decoder)


def _bits(kind: str, start: bytes, picture: Image.Image) -> int:
    """Bits of a sample, which Pillow does not tell."""
    if kind == "PNG":
        return start[24]
    if kind == "AVIF" and (at := start.find(b"av1C")) >= 0:  # AV1 in ISOBMFF, 2.3.3
        return (12 if start[at + 6] & 0x20 else 10) if start[at + 6] & 0x40 else 8
    if kind == "JPEG2000":  # ISO/IEC 15444-1, I.5.3.1 and A.5.1
        at = start.find(b"ihdr")
        return 1 + (start[at + 14 if at >= 0 else 42] & 0x7F)
    if kind == "PPM" and (tile := getattr(picture, "tile", None)) and isinstance(tile[0][3], tuple):
        return int(tile[0][3][-1]).bit_length()
    return 16 if picture.mode == "I" else 8


def _tiff_header(stream: BinaryIO) -> Header:
    """Of a TIFF's first page. Grey and RGB are decoded by tifffile, or by OpenCV where it has 16 bits; all else by
    Pillow."""
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    with TiffFile(stream) as file:
        page = file.pages[0].aspage()
        bits, formats = int(np.max(page.bitspersample)), int(np.max(page.sampleformat))
        photometric, orientation = int(page.photometric or 0), page.tags.valueof(_ORIENTATION, 1)
        # a damaged tag may hold several numbers, of which `int` makes an error
        height, width, compression = int(page.imagelength), int(page.imagewidth), int(page.compression)
        extra, samples = [int(value) for value in page.extrasamples], int(page.samplesperpixel)
        planes, starts = samples if int(page.planarconfig) == 2 else 1, page.dataoffsets
        rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip or height, width)
        reduced = page.subfiletype & 1 and len(file.pages) > 1 and not file.pages[1].aspage().subfiletype & 1
        camera = _DNG_VERSION in page.tags or _is_raw(page)
    if camera:
        return Header("RAW", "RGB", height, width)
    plain = photometric in (_INVERTED, _BLACK_IS_ZERO, _RGB) and bits in (8, 16)
    alpha = plain and bool(extra) and extra[0] in (1, 2)
    mode = ("RGB" if photometric >= _RGB else "1" if bits == 1 else "L") + ("A" if alpha else "")
    mode = "F" if formats == 3 else {_PALETTE: "P", 5: "CMYK"}.get(photometric, mode)
    refusal = "its first page is a small copy of the picture; save it with the picture first" if reduced else ""
    if formats != 1 or bits not in (1, 2, 4, 8, 16):
        kind = {2: " with a sign", 3: " with a fraction"}.get(formats, "")
        refusal = f"its samples have {bits} bits{kind}, whole numbers of 8 or 16 bits are read"
    elif plain and samples < (3 if photometric == _RGB else 1):
        refusal = f"its pixels are {samples} samples of kind {photometric}"
    elif len(starts) < -(-height // rows) * -(-width // columns) * planes or max(starts) >= length:
        refusal = "image file is truncated"  # decoders leave black what is missing
    decoder = "tifffile" if plain and compression in _BY_TIFFFILE else "opencv" if plain and bits == 16 else "pillow"
    own = decoder != "pillow"  # Pillow turns these round itself
    orientation = orientation if orientation in range(1, 9) else 1
    return Header(
        "TIFF", mode, height, width, orientation, bits, decoder, refusal,
        inverted=own and photometric == _INVERTED, multiplied=own and alpha and extra[0] == 1,
        left_channels=len(extra) - alpha,
    )  # fmt: skip


def _is_raw(page: TiffPage) -> bool:
    """Whether a TIFF's first page, or what lies below it, are a sensor's numbers."""
    below = page.pages if page.subifds else ()
    photometrics = [page.photometric, *(one.aspage().photometric for one in below or ())]
    return any(int(one or 0) in _SENSOR for one in photometrics)


def _orientation(picture: Image.Image, stream: BinaryIO) -> int:
    with contextlib.suppress(Exception):  # damaged EXIF is no reason to refuse the picture
        if picture.format == "PNG" and "exif" not in picture.info:
            exif = Image.Exif()  # getexif() would decode the pixels to look behind them
            exif.load(next(iterate_chunks(stream, (b"eXIf",)))[1])
        else:
            exif = picture.getexif()
        value = exif.get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 1
    return 1
