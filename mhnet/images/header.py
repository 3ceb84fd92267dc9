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
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image, UnidentifiedImageError

from mhnet.core.errors import MHNetError
from mhnet.images.png import iterate_chunks

if TYPE_CHECKING:
    from tifffile import TiffFile

MAX_PIXELS = 500_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit refuses the photographs of a 200-megapixel phone

# What it warns of is either refused or no harm. Threads read images: catch_warnings is not for them.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_PILLOWS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")  # others start programs (EPS) or are no photographs
_ORIENTATION = 0x0112
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PREVIEW_OR_MASK = 1 | 4  # of a TIFF's NewSubfileType
_INVERTED, _BLACK_IS_ZERO, _RGB, _PALETTE = range(4)  # of a TIFF's PhotometricInterpretation
_BY_TIFFFILE = (1, 8, 32946, 34925, 32773)  # not compressed, Deflate, LZMA, PackBits: without a further library
_LONGEST_SIDE = 1_000_000  # of PNG's library
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
    bits: int = 8  # of a sample
    decoder: str = "pillow"  # or opencv, tifffile
    refusal: str = ""  # why it is not decoded
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


def open_by_pillow(data: bytes) -> Image.Image:
    """Pillow's view of a file, of the kinds that are read."""
    return Image.open(io.BytesIO(data), formats=_PILLOWS)


def open_tiff(stream: BinaryIO) -> "TiffFile":
    """tifffile's view of a TIFF."""
    from tifffile import TiffFile

    return TiffFile(stream)


def read_header(path: Path) -> Header:
    """A file's header; ImageError for what is no image, a decompression bomb, or no file."""
    with _opened(path) as stream:
        return _header(path, stream)


def load_file(path: Path) -> tuple[bytes, Header]:
    """A file's bytes and header; ImageError also for a file that is far too large for its image."""
    with _opened(path) as stream:
        return load_stream(path, stream, os.fstat(stream.fileno()).st_size)


def load_stream(path: Path, stream: BinaryIO, length: int) -> tuple[bytes, Header]:
    """What `load_file` gives, of a stream of so many bytes; `path` names it in errors."""
    if length > _LARGE:
        found = _header(path, stream)
        if length > _LARGE + _LARGEST_PIXEL * found.height * found.width:
            sizes = f"{length / 1e9:.1f} GB for an image of {found.height}×{found.width} pixels"
            raise ImageError(f"{path} has {sizes}; export the image again.")
        stream.seek(0)
    data = stream.read()
    return data, _header(path, io.BytesIO(data))


def count_images(data: bytes, head: Header) -> int:
    """How many images a file holds; smaller copies of the first and the further views of a phone are not counted."""
    if head.kind == "TIFF":
        with open_tiff(io.BytesIO(data)) as file:
            return sum(not page.aspage().subfiletype & _PREVIEW_OR_MASK for page in file.pages)
    if head.kind in ("JPEG", "MPO"):
        return 1
    with open_by_pillow(data) as picture:
        return getattr(picture, "n_frames", 1)


@contextlib.contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
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
    start = stream.read(4)
    stream.seek(0)
    if not start:
        raise ImageError(f"{path} is empty; copy it again or remove it.")
    try:
        found = _tiff_header(stream) if start in _TIFFS else _pillow_header(stream)
    except Image.DecompressionBombError:
        raise ImageError(f"{path} has over {2 * MAX_PIXELS / 1e6:.0f} megapixels; cut it into parts.") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image of a known kind; convert it to PNG or remove it.") from None
    except Exception as error:  # libraries raise nearly anything on damaged headers
        raise ImageError(f"{path} has a damaged header ({_reason(error)}); copy it again or remove it.") from error
    size, sides = f"{path} has {found.height}×{found.width} pixels", (found.height, found.width)
    if found.height * found.width > MAX_PIXELS or max(sides) > _LONGEST_SIDE:
        limits = f"{MAX_PIXELS / 1e6:.0f} megapixels and {_LONGEST_SIDE} a side"
        raise ImageError(f"{size}, more than the {limits} that are read; cut it into parts.")
    if min(sides) < 1:
        raise ImageError(f"{size}, which is no image; remove it.")
    return found


def _pillow_header(stream: BinaryIO) -> Header:
    with Image.open(stream, formats=_PILLOWS) as picture:
        kind, mode, (width, height) = str(picture.format), picture.mode, picture.size
        orientation, bits, decoder = _orientation(picture, stream), 8, "pillow"
        if kind == "PNG":
            stream.seek(24)
            bits, colour = stream.read(2)
            mode = "LA" if colour == 4 else mode  # Pillow makes RGBA of 16 bits
            decoder = "opencv" if bits == 16 else "pillow"
    return Header(kind, mode, height, width, orientation, bits, decoder)


def _tiff_header(stream: BinaryIO) -> Header:
    """Of a TIFF's first page. Grey and RGB are decoded by tifffile, or by OpenCV where it has 16 bits; all else by
    Pillow."""
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    with open_tiff(stream) as file:
        page = file.pages[0].aspage()
        bits, formats = _largest(page.bitspersample), _largest(page.sampleformat)
        photometric, orientation = int(page.photometric or 0), page.tags.valueof(_ORIENTATION, 1)
        height, width, compression = page.imagelength, page.imagewidth, int(page.compression)
        extra = [int(value) for value in page.extrasamples]
        planes = page.samplesperpixel if int(page.planarconfig) == 2 else 1
        rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip or height, width)
        starts, samples = page.dataoffsets, page.samplesperpixel
    plain = photometric in (_INVERTED, _BLACK_IS_ZERO, _RGB) and bits in (8, 16)
    alpha = plain and bool(extra) and extra[0] in (1, 2)
    mode = ("RGB" if photometric >= _RGB else "1" if bits == 1 else "L") + ("A" if alpha else "")
    mode = {_PALETTE: "P", 5: "CMYK"}.get(photometric, mode)
    refusal = ""
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
    )  # fmt: skip


def _largest(value: int | tuple[int, ...]) -> int:
    return int(max(value)) if isinstance(value, tuple) else int(value)


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
