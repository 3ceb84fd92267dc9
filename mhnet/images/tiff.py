"""TIFF: what Pillow and OpenCV do not read of it, and how it is written (TIFF 6.0; TIFF Technical Note 1)."""

import io
import logging
import operator
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from mhnet.images.exif import Endian, Field, directory

if TYPE_CHECKING:
    from tifffile import TiffFile

_PREVIEW_OR_MASK = 1 | 4
_STRIP = 1 << 20  # bytes of pixels in a strip
_SHORT, _LONG, _RATIONAL, _UNDEFINED, _BYTE = 3, 4, 5, 7, 1


class Layout(NamedTuple):
    """How a TIFF's first page holds its samples."""

    height: int
    width: int
    bits: int
    samples: int
    in_planes: bool
    photometric: int
    number_format: int  # 1 whole, 2 with a sign, 3 with a fraction
    alpha: int | None  # 1 multiplied into the colours, 2 not, None for no alpha
    orientation: int


def layout(stream: BinaryIO) -> Layout:
    """Of a TIFF that Pillow does not open.

    Raises:
        Exception: whatever tifffile raises on a damaged file.
    """
    stream.seek(0)
    with _file(stream) as file:
        page = file.pages[0].aspage()
        bits = max(page.bitspersample) if isinstance(page.bitspersample, tuple) else page.bitspersample
        extra = [int(value) for value in page.extrasamples]
        formats = page.sampleformat if isinstance(page.sampleformat, tuple) else (page.sampleformat,)
        turned = page.tags.valueof(274, 1)
        return Layout(
            operator.index(page.imagelength),
            operator.index(page.imagewidth),
            int(bits),
            int(page.samplesperpixel),
            int(page.planarconfig) == 2,
            int(page.photometric),
            max(int(value) for value in formats),
            extra[0] if len(extra) == 1 and extra[0] in (1, 2) else None,
            turned if turned in range(1, 9) else 1,
        )


def pages(data: bytes) -> int:
    """How many pages a TIFF has, previews and masks (NewSubfileType) apart.

    Raises:
        Exception: whatever tifffile raises on a damaged file.
    """
    with _file(io.BytesIO(data)) as file:
        return sum(not page.aspage().subfiletype & _PREVIEW_OR_MASK for page in file.pages)


def samples(data: bytes) -> np.ndarray:
    """The first page as stored, H×W×C, not turned; of any layout of the compressions that tifffile knows.

    Raises:
        Exception: whatever tifffile raises on a damaged file.
    """
    with _file(io.BytesIO(data)) as file:
        page = file.pages[0].aspage()
        pixels = page.asarray(maxworkers=1)
        if int(page.planarconfig) == 2 and pixels.ndim == 3:
            pixels = pixels.transpose(1, 2, 0)
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1))


def _file(stream: BinaryIO) -> "TiffFile":
    from tifffile import TiffFile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it warns of is either refused or no harm
    return TiffFile(stream)


def encode(pixels: np.ndarray, alpha: bool, fields: list[Field], endian: Endian) -> list[bytes | memoryview]:
    """A TIFF file's parts: strips compressed by zlib after differencing, then one directory.

    Args:
        pixels: uint8 or uint16 H×W×C; grey or RGB, and an alpha that is not multiplied into them.
        alpha: whether the last of the samples is one.
        fields: more fields for the directory.
        endian: '<' or '>', the byte order of the fields, and of the file.

    Raises:
        struct.error: the file would be larger than 4 GiB.
    """
    height, width, count = pixels.shape
    rows = max(_STRIP // (width * count * pixels.itemsize), 1)

    def strip(top: int) -> bytes:
        stored = pixels[top : top + rows].astype(pixels.dtype.newbyteorder(endian))
        part = pixels[top : top + rows]
        stored[:, 1:] = part[:, 1:] - part[:, :-1]
        return zlib.compress(stored.data, 3)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        strips = list(pool.map(strip, range(0, height, rows)))
    lengths = [len(part) for part in strips]
    places = np.cumsum([8, *lengths]).tolist()
    end = places.pop() + sum(lengths) % 2

    def numbers(tag: int, kind: int, *values: int) -> Field:
        letter = {_SHORT: "H", _LONG: "I"}[kind]
        return Field(tag, kind, len(values), struct.pack(f"{endian}{len(values)}{letter}", *values))

    own = [
        numbers(256, _LONG, width),
        numbers(257, _LONG, height),
        numbers(258, _SHORT, *[pixels.itemsize * 8] * count),
        numbers(259, _SHORT, 8),  # zlib
        numbers(262, _SHORT, 2 if count >= 3 else 1),  # RGB, or black is zero
        numbers(273, _LONG, *places),
        numbers(274, _SHORT, 1),
        numbers(277, _SHORT, count),
        numbers(278, _LONG, rows),
        numbers(279, _LONG, *lengths),
        numbers(284, _SHORT, 1),
        numbers(317, _SHORT, 2),  # differences of neighbours
        *([numbers(338, _SHORT, 2)] if alpha else []),
    ]
    head = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(endian + "I", end)
    return [head, *strips, bytes(sum(lengths) % 2), directory([*own, *fields], endian, end)]


def resolution(dpi: tuple[float, float], endian: Endian) -> list[Field]:
    """Fields for pixels per inch, across and down."""
    sides = [struct.pack(endian + "II", round(value * 10_000), 10_000) for value in dpi]
    unit = Field(296, _SHORT, 1, struct.pack(endian + "H", 2))
    return [Field(282, _RATIONAL, 1, sides[0]), Field(283, _RATIONAL, 1, sides[1]), unit]


def blob(tag: int, value: bytes) -> Field:
    """A field of bytes: XMP (700), IPTC (33723) or a colour profile (34675)."""
    return Field(tag, _BYTE if tag == 700 else _UNDEFINED, len(value), value)
