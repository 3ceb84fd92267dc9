"""Pixels and metadata to a file's bytes, in the format of its extension."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mhnet.core.files import replacing
from mhnet.images import exif, png, tiff
from mhnet.images.colours import over_white, profile_space, to_8_bits
from mhnet.images.header import ImageError
from mhnet.images.metadata import XMP_TEXT, Metadata

Parts = list[bytes | memoryview]

_QUALITY = 95
_LOSSLESS_WEBP = {"lossless": True, "quality": 0, "method": 0, "exact": True}
_LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}
_LONGEST_MARKER = 65533  # bytes of a JPEG's marker (ITU T.81, B.1.1.4)
_XMP_START, _IPTC_START = b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0"
_INCH = 0.0254  # metres
_SPACES = {1: "GRAY", 3: "RGB"}


def save(path: Path, pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> None:
    """Write H×W×C pixels, uint8 or uint16, grey or RGB, whole or not at all.

    Raises:
        ImageError: as `encoded` does, and when the system refuses.
    """
    parts = encoded(path, pixels, alpha, metadata)
    try:
        with replacing(path) as part, part.open("wb") as file:
            file.writelines(parts)
    except OSError as error:
        raise ImageError(f"{path} cannot be written ({error.strerror}); choose another place.") from error


def encoded(path: Path, pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    """The bytes, in parts, of a file of that name.

    Raises:
        ImageError: the extension is none of an image, or the format does not hold so many pixels.
    """
    write = WRITERS.get(path.suffix.lower())
    if write is None:
        raise ImageError(f"{path} has no image extension; use one of {', '.join(sorted(WRITERS))}.")
    shape = f"{pixels.shape[0]}×{pixels.shape[1]} pixels"
    if pixels.size == 0:
        raise ImageError(f"{path} cannot hold {shape}; an image has at least one.")
    most = _LONGEST_SIDE.get(path.suffix.lower())
    if most and max(pixels.shape[:2]) > most:
        raise ImageError(f"{path} cannot hold {shape}: its format has at most {most} a side; use .png.")
    try:
        return write(pixels, alpha, metadata)
    except (OSError, ValueError, SystemError, struct.error, OverflowError) as error:
        raise ImageError(f"{path} cannot hold {shape} ({error}); use .png.") from error


def _jpeg(pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    """8 bits, on white where transparent, without chroma subsampling; what does not fit into a marker is left out."""
    markers = b""
    if 0 < len(metadata.xmp) <= _LONGEST_MARKER - len(_XMP_START):
        markers += _marker(0xE1, _XMP_START + metadata.xmp)
    iptc = _IPTC_START + struct.pack(">I", len(metadata.iptc)) + metadata.iptc + b"\0" * (len(metadata.iptc) % 2)
    if metadata.iptc and len(iptc) <= _LONGEST_MARKER:
        markers += _marker(0xED, iptc)
    if metadata.comment:  # Pillow before 13 has no room for a long `comment`, but for any `extra`
        markers += _marker(0xFE, metadata.comment[:_LONGEST_MARKER])
    kept_exif = b"Exif\0\0" + metadata.exif if metadata.exif else b""
    profile = _profile(metadata, pixels.shape[2])
    options = {
        "quality": _QUALITY,
        "subsampling": 0,
        "exif": kept_exif if len(kept_exif) <= _LONGEST_MARKER else b"",
        "icc_profile": profile if len(profile) <= 255 * (_LONGEST_MARKER - 14) else b"",
        "extra": markers,
        **_dpi(metadata),
    }
    return [_by_pillow(_flat(pixels, alpha), "JPEG", options)]


def _png(pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    chunks: list[tuple[bytes, bytes]] = []
    if profile := _profile(metadata, pixels.shape[2]):
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    chunks += [chunk for chunk in metadata.chunks if not (chunk[0] == b"sRGB" and profile)]
    if metadata.dpi:
        sides = [min(round(value / _INCH), 0xFFFFFFFF) for value in metadata.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *sides, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", XMP_TEXT + bytes(5) + metadata.xmp))
    if metadata.comment:
        chunks.append((b"tEXt", b"Comment\0" + metadata.comment.replace(b"\0", b"")))
    together = _together(pixels, alpha)
    if together.dtype == np.uint16:
        return png.encode_16(together, chunks)
    encoded = _by_pillow(together, "PNG", {"compress_level": 1})  # level 6 takes four times as long for 7 % less
    return png.with_chunks(encoded, chunks)


def _tiff(pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    endian: exif.Endian = "<"
    fields: list[exif.Field] = []
    with contextlib.suppress(ValueError):  # what is damaged is left out
        fields = [field for field in exif.descriptive(exif.fields(metadata.exif)) if field.tag != exif.ORIENTATION]
        endian = exif.order(metadata.exif)
    blobs = {700: metadata.xmp, 33723: metadata.iptc, 34675: _profile(metadata, pixels.shape[2])}
    fields += [tiff.blob(tag, value) for tag, value in blobs.items() if value]
    if metadata.dpi and not any(field.tag in exif.RESOLUTION for field in fields):
        fields += tiff.resolution(metadata.dpi, endian)
    return tiff.encode(_together(pixels, alpha), alpha is not None, fields, endian)


def _webp(pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    """8 bits, RGB; without loss where the image came from a file without loss."""
    pixels = to_8_bits(pixels)
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    options = {
        **(_LOSSLESS_WEBP if metadata.lossless else {"quality": _QUALITY}),
        "icc_profile": _profile(metadata, 3),
        "exif": metadata.exif or (exif.block(tiff.resolution(metadata.dpi, "<"), "<") if metadata.dpi else b""),
        "xmp": metadata.xmp,
    }
    return [_by_pillow(_together(pixels, None if alpha is None else to_8_bits(alpha)), "WEBP", options)]


def _bmp(pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    """8 bits, on white where transparent: few programs know the BMPs that have an alpha."""
    return [_by_pillow(_flat(pixels, alpha), "BMP", _dpi(metadata))]


def _by_pillow(pixels: np.ndarray, kind: str, options: dict) -> memoryview:
    encoded = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(encoded, kind, **options)
    return encoded.getbuffer()


def _flat(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    pixels = to_8_bits(pixels)
    return pixels if alpha is None else over_white(pixels, to_8_bits(alpha))


def _together(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    return pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)


def _profile(metadata: Metadata, channels: int) -> bytes:
    """The profile, where it is one for such pixels."""
    return metadata.profile if profile_space(metadata.profile) == _SPACES[channels] else b""


def _dpi(metadata: Metadata) -> dict:
    return {"dpi": metadata.dpi} if metadata.dpi else {}


def _marker(number: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, number, 2 + len(content)) + content


WRITERS: dict[str, Callable[[np.ndarray, np.ndarray | None, Metadata], Parts]] = {
    ".jpg": _jpeg, ".jpeg": _jpeg, ".png": _png, ".bmp": _bmp, ".tif": _tiff, ".tiff": _tiff, ".webp": _webp,
}  # fmt: skip
