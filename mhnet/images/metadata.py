"""What an image file says besides its pixels, as far as it goes along when the image is written again."""

import contextlib
import io
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mhnet.images import exif, png
from mhnet.images.exif import Endian, Field
from mhnet.images.header import Header, by_pillow

XMP_TEXT = b"XML:com.adobe.xmp"
_EXIF_START, _XMP_START = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_XMP, _IPTC, _PROFILE = 700, 33723, 34675
_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))[2-8]')
_IPTC_RESOURCE = 0x0404
_PER_INCH = {2: 1.0, 3: 2.54}  # by the number that says which unit: inch, centimetre
_KEPT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_LARGEST_TEXT = 1 << 24


@dataclass(frozen=True)
class Metadata:
    """What goes along with the pixels.

    Args:
        kind: of the file it came from, PNG, JPEG, MPO, TIFF, BMP, WEBP or GIF; '' for none.
        depth: bits per sample in that file.
        lossless: whether that file holds its pixels exactly.
        profile: the ICC profile.
        exif: from its byte order mark on, orientation 1, without a thumbnail.
        xmp: XML.
        iptc: records of captions and keywords, as newspapers use them (IPTC-IIM).
        dpi: pixels per inch, across and down.
        comment: of a JPEG or a GIF.
        chunks: of a PNG, texts and what its numbers mean in colours: kinds and contents.
    """

    kind: str = ""
    depth: int = 8
    lossless: bool = True
    profile: bytes = field(default=b"", repr=False)
    exif: bytes = field(default=b"", repr=False)
    xmp: bytes = field(default=b"", repr=False)
    iptc: bytes = field(default=b"", repr=False)
    dpi: tuple[float, float] | None = None
    comment: bytes = b""
    chunks: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)


def read(data: bytes, head: Header) -> Metadata:
    """The metadata of a file's bytes; what of it is damaged is left out."""
    found = _of_tiff(data, head.orientation) if head.kind == "TIFF" else _of_others(data, head)
    lossy = head.kind in ("JPEG", "MPO") or (head.kind == "WEBP" and _lossy_webp(data))
    return replace(
        found,
        kind=head.kind,
        depth=head.bits,
        lossless=not lossy,
        profile=found.profile if head.mode != "CMYK" else b"",  # the pixels become sRGB
        xmp=_XMP_ORIENTATION.sub(rb"\g<1>1", found.xmp),
    )


def _of_others(data: bytes, head: Header) -> Metadata:
    """Of a file that Pillow opens and that is no TIFF."""
    with by_pillow(io.BytesIO(data)) as picture:
        notes, markers = picture.info, getattr(picture, "applist", [])
    chunks = list(png.chunks(io.BytesIO(data), (*_KEPT_CHUNKS, b"eXIf"))) if head.kind == "PNG" else []
    kept_exif = _upright_exif(notes.get("exif") or dict(chunks).get(b"eXIf"), head.orientation)
    packets = [content[len(_XMP_START) :] for kind, content in markers if content.startswith(_XMP_START)]
    packets += [_text(content) for kind, content in chunks if kind == b"iTXt" and content.startswith(XMP_TEXT)]
    photoshop = notes.get("photoshop")
    return Metadata(
        profile=_bytes(notes.get("icc_profile")),
        exif=kept_exif,
        xmp=packets[0] if packets else _bytes(notes.get("xmp")),
        iptc=_bytes(photoshop.get(_IPTC_RESOURCE)) if isinstance(photoshop, dict) else b"",
        dpi=_dpi(notes, head.kind, kept_exif),
        comment=_bytes(notes.get("comment")),
        chunks=tuple((kind, text) for kind, text in chunks if kind != b"eXIf" and not text.startswith(XMP_TEXT)),
    )


def _of_tiff(data: bytes, orientation: int) -> Metadata:
    """Of a TIFF: its first directory holds everything."""
    try:
        endian, found = exif.order(data), exif.fields(data)
        described = [entry for entry in exif.descriptive(found) if entry.tag != exif.ORIENTATION]
        kept = exif.neutral(exif.block(described, endian), orientation) if described else b""
    except ValueError:  # a BigTIFF has larger directories
        return Metadata()
    blobs = {entry.tag: entry.value for entry in found if isinstance(entry.value, bytes)}
    return Metadata(
        profile=blobs.get(_PROFILE, b""),
        exif=kept,
        xmp=blobs.get(_XMP, b"").rstrip(b"\0"),
        iptc=blobs.get(_IPTC, b""),
        dpi=_resolution(found, endian),
    )


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _upright_exif(value: object, orientation: int) -> bytes:
    data = _bytes(value)
    while data.startswith(_EXIF_START):
        data = data[len(_EXIF_START) :]
    with contextlib.suppress(ValueError):
        return exif.neutral(data, orientation)
    return b""


def _dpi(notes: dict, kind: str, kept_exif: bytes) -> tuple[float, float] | None:
    """Pixels per inch as the file says itself, or else its EXIF."""
    found = notes.get("dpi")
    if kind in ("JPEG", "MPO") and notes.get("jfif_unit") not in (1, 2):
        found = None  # Pillow says 72 where nothing is said
    if found is None and kept_exif:
        with contextlib.suppress(ValueError):
            return _resolution(exif.fields(kept_exif), exif.order(kept_exif))
    return _sound(found)


def _resolution(found: Sequence[Field], endian: Endian) -> tuple[float, float] | None:
    values = {entry.tag: entry.value for entry in found if isinstance(entry.value, bytes)}
    with contextlib.suppress(KeyError, struct.error, ZeroDivisionError):
        across, down, unit = exif.RESOLUTION
        factor = _PER_INCH[struct.unpack(endian + "H", values.get(unit, struct.pack(endian + "H", 2)))[0]]
        sides = [struct.unpack(endian + "II", values[tag]) for tag in (across, down)]
        return _sound(tuple(above / below * factor for above, below in sides))
    return None


def _sound(dpi: object) -> tuple[float, float] | None:
    if isinstance(dpi, tuple) and len(dpi) == 2:
        with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
            across, down = float(dpi[0]), float(dpi[1])
            return (across, down) if 0.01 < across < 1e5 and 0.01 < down < 1e5 else None
    return None


def _text(content: bytes) -> bytes:
    """The text of an iTXt chunk (PNG, third edition, 11.3.3.4)."""
    try:
        packed = content[len(XMP_TEXT) + 1]
        text = content[len(XMP_TEXT) + 3 :].split(b"\0", 2)[2]
        return zlib.decompressobj().decompress(text, _LARGEST_TEXT) if packed else text
    except (IndexError, zlib.error):
        return b""


def _lossy_webp(data: bytes) -> bool:
    """Whether a WebP's image is a VP8 chunk (RFC 9649, 2.5), not a VP8L one."""
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8 "
        position += 8 + length + length % 2
    return False
