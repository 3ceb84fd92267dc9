"""Pictures of every kind, made without our own writers."""

import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from small import PHOTOS

from mhnet.images.metadata import Metadata
from mhnet.images.read import ImageData

RNG = np.random.default_rng(0)
PHOTO = np.asarray(Image.open(PHOTOS / "lake-sherburne.jpg").convert("RGB"))[:64, :96]
HEIGHT, WIDTH = PHOTO.shape[:2]
ALPHA = np.linspace(0, 255, HEIGHT * WIDTH).astype(np.uint8).reshape(HEIGHT, WIDTH)


def deep(pixels: np.ndarray) -> np.ndarray:
    """A photograph of 8 bits as one of 16, its lower bytes filled by noise."""
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint16)  # the same in whatever order
    return pixels.astype(np.uint16) * 256 + noise


def picture(bits: int = 8, channels: int = 3, alpha: bool = False, metadata: Metadata | None = None) -> ImageData:
    pixels, mask = PHOTO if channels == 3 else PHOTO[..., 1:2], ALPHA
    if bits == 16:
        pixels, mask = deep(pixels), deep(mask)
    return ImageData(pixels, mask if alpha else None, metadata or Metadata())


@cache  # LittleCMS notes the second in which it is made
def profile(space: str = "RGB") -> bytes:
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data[:16] + space.ljust(4).encode() + data[20:]


def exif(orientation: int = 1, endian: str = "<", thumbnail: bytes = b"") -> bytes:
    """A camera's EXIF, built field by field: maker, date, a note with places in it, image sides, GPS, thumbnail."""

    def entry(tag: int, kind: int, count: int, value: bytes | int) -> bytes:
        stored = value.ljust(4, b"\0") if isinstance(value, bytes) else struct.pack(endian + "I", value)
        return struct.pack(endian + "HHI", tag, kind, count) + stored

    def short(value: int) -> bytes:
        return struct.pack(endian + "H", value)

    inner, gps, second, values = 100, 160, 190, 250
    note = b"Nikon\0" + bytes(range(64))
    data = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(endian + "I", 8)
    data += short(4) + entry(0x010F, 2, 6, values) + entry(0x0112, 3, 1, short(orientation))
    data += entry(0x8769, 4, 1, inner) + entry(0x8825, 4, 1, gps)
    data += struct.pack(endian + "I", second if thumbnail else 0)
    data = data.ljust(inner, b"\0") + short(3) + entry(0x927C, 7, len(note), values + 8)
    data += entry(0xA002, 3, 1, short(WIDTH)) + entry(0xA003, 3, 1, short(HEIGHT)) + bytes(4)
    data = data.ljust(gps, b"\0") + short(1) + entry(0x0001, 2, 2, b"N") + bytes(4)
    if thumbnail:
        data = data.ljust(second, b"\0") + short(3) + entry(0x0112, 3, 1, short(orientation))
        data += entry(0x0201, 4, 1, 400) + entry(0x0202, 4, 1, len(thumbnail)) + bytes(4)
    data = data.ljust(values, b"\0") + b"Nikon\0\0\0" + note
    return data.ljust(400, b"\0") + thumbnail


def png(pixels: np.ndarray, colour: int, depth: int, *chunks: tuple[bytes, bytes], late: bool = False) -> bytes:
    """A PNG file written without any library; the chunks go before the pixels, or after."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = pixels.astype(">u2") if depth == 16 else pixels
    packed = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    more = b"".join(chunk(*one) for one in chunks)
    head = struct.pack(">IIBBBBB", pixels.shape[1] * 8 // depth if depth < 8 else pixels.shape[1], len(pixels), depth,
                       colour, 0, 0, 0)  # fmt: skip
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + (packed + more if late else more + packed) + chunk(b"IEND", b"")
    )


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path
