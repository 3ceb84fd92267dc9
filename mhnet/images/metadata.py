"""What an image file says besides its pixels, as far as it goes along when the image is written again."""

import contextlib
import io
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mhnet.images import exif
from mhnet.images.exif import Endian, Field
from mhnet.images.header import Header, open_by_pillow
from mhnet.images.left import told_of, without_promises
from mhnet.images.png import Chunk, iterate_chunks, select_chunks

XMP_TEXT = b"XML:com.adobe.xmp"
_EXIF_START = b"Exif\0\0"
_XMP, _IPTC, _PROFILE = 700, 33723, 34675
_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))[2-8]')
_WEBP_PIXELS = re.compile(rb"VP8[ L]")  # the chunk of a lossy and of a lossless WebP's pixels (RFC 9649, 2.5)
_NCLX = re.compile(rb"colrnclx(.{6})", re.DOTALL)  # ISO/IEC 23008-12, 6.5.5
_LOSSY = ("JPEG", "MPO", "HEIF", "AVIF", "JXL")
_IPTC_RESOURCE = 0x0404
_PER_INCH = {2: 1.0, 3: 2.54}  # by the number that says which unit: inch, centimetre
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_READ_CHUNKS = (b"iCCP", b"pHYs", b"eXIf", b"iTXt")
_COLOUR_LENGTHS = {b"cHRM": 32, b"gAMA": 4, b"sRGB": 1, b"cICP": 4, b"mDCV": 24, b"cLLI": 8}  # bytes


@dataclass(frozen=True)
class Metadata:
    """What goes along with the pixels.

    Args:
        kind: of the file it came from, of `kinds.KINDS`; '' for none.
        depth: bits per sample in that file.
        lossless: whether that file holds its pixels exactly.
        profile: the ICC profile.
        exif: from its byte order mark on, orientation 1, without a thumbnail.
        xmp: XML.
        iptc: records of captions and keywords, as newspapers use them (IPTC-IIM).
        dpi: pixels per inch, across and down.
        comment: of a JPEG or a GIF.
        chunks: of a PNG, texts and what its numbers mean in colours: kinds and contents.
        codes: primaries, transfer and matrix of a HEIC's or AVIF's colours (ITU-T H.273).
        left: what of the file does not go along, as sentences.
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
    chunks: tuple[Chunk, ...] = field(default=(), repr=False)
    codes: tuple[int, int, int] | None = None
    left: tuple[str, ...] = ()


def read_metadata(data: bytes, head: Header, notes: Mapping[Any, Any]) -> Metadata:
    """The metadata of a file's bytes; what of it is damaged is left out.

    Args:
        notes: what `decode_samples` found beside the pixels.
    """
    tiff = head.kind == "TIFF" or (head.kind == "RAW" and data[:4] in (b"II*\0", b"MM\0*"))
    found = _of_tiff(data, head.orientation) if tiff else _of_others(data, head, notes)
    webp = _WEBP_PIXELS.search(data) if head.kind == "WEBP" else None
    lossy = head.kind in _LOSSY or (webp and webp[0] == b"VP8 ")
    profile = _bytes(notes.get("icc_profile")) or found.profile
    return replace(
        found,
        kind=head.kind,
        depth=max(head.bits, 8),
        lossless=not lossy,
        profile=profile if head.mode != "CMYK" else b"",  # the pixels become sRGB
        xmp=_XMP_ORIENTATION.sub(rb"\g<1>1", without_promises(found.xmp)),
        left=tuple(told_of(data, head, notes, found.xmp)),
    )


def _of_others(data: bytes, head: Header, notes: Mapping[Any, Any]) -> Metadata:
    """Of a file that is no TIFF."""
    if not notes:
        with open_by_pillow(select_chunks(data, _READ_CHUNKS) if head.kind == "PNG" else data) as picture:
            notes = picture.info
    kept_exif = _upright(notes.get("exif"), head.orientation)
    photoshop = notes.get("photoshop")
    codes = _NCLX.search(data) if head.kind in ("HEIF", "AVIF") else None
    return Metadata(
        profile=_bytes(notes.get("icc_profile")),
        exif=kept_exif,
        xmp=_bytes(notes.get("xmp")),
        iptc=_bytes(photoshop.get(_IPTC_RESOURCE)) if isinstance(photoshop, dict) else b"",
        dpi=_dpi(notes, head.kind, kept_exif),
        comment=_bytes(notes.get("comment")) if head.kind != "JPEG2000" else b"",  # there it names a program
        chunks=_sound_chunks(data) if head.kind == "PNG" else (),
        codes=struct.unpack(">HHH", codes[1]) if codes else None,
    )


def _of_tiff(data: bytes, orientation: int) -> Metadata:
    """Of a TIFF: its first directory holds everything."""
    try:
        endian, found = exif.byte_order(data), exif.parse_fields(data)
        described = exif.descriptive(found)
        kept = exif.upright_exif(exif.build_exif(described, endian), orientation) if described else b""
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


def _upright(value: object, orientation: int) -> bytes:
    data = _bytes(value)
    while data.startswith(_EXIF_START):
        data = data[len(_EXIF_START) :]
    with contextlib.suppress(ValueError):
        return exif.upright_exif(data, orientation)
    return b""


def _sound_chunks(data: bytes) -> tuple[Chunk, ...]:
    """A PNG's texts, and what it says of its colours where the standard lets it: before the pixels, once, in full."""
    kept: dict[bytes, Chunk] = {}
    texts = [chunk for chunk in iterate_chunks(io.BytesIO(data), _TEXTS) if b"\0" in chunk[1][1:80]]
    for kind, content in iterate_chunks(io.BytesIO(data), (*_COLOUR_LENGTHS, b"PLTE", b"IDAT")):
        if kind in (b"PLTE", b"IDAT"):
            break
        if len(content) == _COLOUR_LENGTHS[kind]:
            kept.setdefault(kind, (kind, content))
    return (*kept.values(), *(chunk for chunk in texts if not chunk[1].startswith(XMP_TEXT)))


def _dpi(notes: Mapping[Any, Any], kind: str, kept_exif: bytes) -> tuple[float, float] | None:
    """Pixels per inch as the file says itself, or else its EXIF."""
    found = notes.get("dpi")
    if kind in ("JPEG", "MPO") and notes.get("jfif_unit") not in (1, 2):
        found = None  # Pillow says 72 where nothing is said
    if found is None and kept_exif:
        with contextlib.suppress(ValueError):
            return _resolution(exif.parse_fields(kept_exif), exif.byte_order(kept_exif))
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
