"""What an image file says besides its pixels: what goes along when the image is written again, and what does not.

What does not is told: gain maps, films, depth maps, further pictures, channels. XMP that promises it is made true.
"""

import contextlib
import io
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from PIL import Image
from tifffile import TiffFile

from mhnet.images import exif
from mhnet.images.extras import iterate_boxes
from mhnet.images.header import Header, count_images, open_by_pillow
from mhnet.images.png import Chunk, iterate_chunks, select_chunks

XMP_TEXT = b"XML:com.adobe.xmp"
_XMP, _IPTC, _PROFILE = 700, 33723, 34675
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>)\s*)[2-8]""")
_WEBP_PIXELS = re.compile(rb"VP8[ L]")  # the chunk of a lossy and of a lossless WebP's pixels (RFC 9649, 2.5)
_NCLX = re.compile(rb"colrnclx(.{6})", re.DOTALL)  # ISO/IEC 23008-12, 6.5.5
_LOSSY = ("JPEG", "MPO", "HEIF", "AVIF", "JXL")
_IPTC_RESOURCE = 0x0404
_PER_INCH = {2: 1.0, 3: 2.54}  # by the number that says which unit: inch, centimetre
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_READ_CHUNKS = (b"iCCP", b"pHYs", b"eXIf", b"iTXt")
_FILM = re.compile(rb"\0\0\0[\x08-\x80]ftyp(mp4|iso|qt  |avc|hvc|3g)|mpvd")
_GAIN_MAPS = (b"hdr-gain-map", b"hdrgainmap", b"GainMap")
_GAIN_MAP_BOX = re.compile(rb"ftyp.{0,64}tmap|jhgm", re.DOTALL)  # ISO 21496-1; JPEG XL
_DEPTH_MAPS = (b"photos/1.0/depthmap", b"google.com/photos/dd/1.0/depthmap", b'Semantic="Depth')
_PROMISES = ("http://ns.google.com/photos/", "http://ns.adobe.com/hdr-gain-map/", "http://ns.adobe.com/xmp/note/",
             "http://ns.apple.com/HDRGainMap/")  # fmt: skip
_PANORAMA = "http://ns.google.com/photos/1.0/panorama/"  # which promises nothing
_LARGEST_XMP = 1 << 20  # bytes that are parsed
_COLOUR_LENGTHS = {b"cHRM": 32, b"gAMA": 4, b"sRGB": 1, b"cICP": 4, b"mDCV": 24, b"cLLI": 8}  # bytes


@dataclass(frozen=True)
class Metadata:
    """What goes along with the pixels."""

    kind: str = ""  # of the file it came from, of `kinds.KINDS`; '' for none
    depth: int = 8  # bits per sample in that file
    lossless: bool = True  # whether that file holds its pixels exactly
    profile: bytes = field(default=b"", repr=False)  # ICC's
    exif: bytes = field(default=b"", repr=False)  # from its byte order mark on, orientation 1, without a thumbnail
    xmp: bytes = field(default=b"", repr=False)
    iptc: bytes = field(default=b"", repr=False)  # captions and keywords, as newspapers use them (IPTC-IIM)
    dpi: tuple[float, float] | None = None  # pixels per inch, across and down
    comment: bytes = b""  # of a JPEG or a GIF
    chunks: tuple[Chunk, ...] = field(default=(), repr=False)  # a PNG's texts, and what its numbers mean in colours
    codes: tuple[int, int, int] | None = None  # primaries, transfer, matrix of a HEIC's or AVIF's colours (ITU-T H.273)
    left: tuple[str, ...] = ()  # what of the file does not go along, as sentences


def read_metadata(data: bytes, head: Header, notes: Mapping[Any, Any]) -> Metadata:
    """The metadata of a file's bytes; what of it is damaged is left out. `notes` were found beside the pixels."""
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
        xmp=_XMP_ORIENTATION.sub(rb"\g<1>1", _without_promises(found.xmp)),
        left=tuple(_left_behind(data, head, notes, found.xmp)),
    )


def _of_others(data: bytes, head: Header, notes: Mapping[Any, Any]) -> Metadata:
    """Of a file that is no TIFF."""
    if not notes:
        with open_by_pillow(select_chunks(data, _READ_CHUNKS) if head.kind == "PNG" else data) as picture:
            notes = picture.info
    kept_exif = _upright(notes.get("exif"), head.orientation)
    photoshop = notes.get("photoshop")
    codes = None
    if head.kind == "HEIF" and isinstance(colours := notes.get("nclx_profile"), dict):
        codes = (colours["color_primaries"], colours["transfer_characteristics"], colours["matrix_coefficients"])
    elif head.kind == "AVIF" and (found := _NCLX.search(data)):
        codes = struct.unpack(">HHH", found[1])
    return Metadata(
        profile=_jp2_profile(data) if head.kind == "JPEG2000" else _bytes(notes.get("icc_profile")),
        exif=kept_exif,
        xmp=_bytes(notes.get("xmp")),
        iptc=_bytes(photoshop.get(_IPTC_RESOURCE)) if isinstance(photoshop, dict) else b"",
        dpi=_dpi(notes, head.kind, kept_exif),
        comment=_bytes(notes.get("comment")) if head.kind != "JPEG2000" else b"",  # there it names a program
        chunks=_sound_chunks(data) if head.kind == "PNG" else (),
        codes=codes,
    )


def _jp2_profile(data: bytes) -> bytes:
    """The ICC profile of a JP2 (ISO/IEC 15444-1, I.5.3.3)."""
    header = dict(iterate_boxes(data)).get(b"jp2h", b"")
    boxes = (content for kind, content in iterate_boxes(header) if kind == b"colr")
    return next((content[3:] for content in boxes if content[:1] == b"\2"), b"")


def _of_tiff(data: bytes, orientation: int) -> Metadata:
    """Of a TIFF: its first directory holds everything."""
    try:
        endian, found = exif.byte_order(data), exif.parse_fields(data)
        described = exif.descriptive(found)
        directory = exif.build_directory(described, endian, 8)
        kept = exif.upright_exif(data[:4] + struct.pack(endian + "I", 8) + directory, orientation)
    except (ValueError, struct.error):  # a BigTIFF has larger directories
        return _of_bigtiff(data)
    blobs = {entry.tag: entry.value for entry in found if isinstance(entry.value, bytes)}
    return Metadata(
        profile=blobs.get(_PROFILE, b""),
        exif=kept if described else b"",
        xmp=blobs.get(_XMP, b"").rstrip(b"\0"),
        iptc=blobs.get(_IPTC, b""),
        dpi=_resolution(kept),
    )


def _of_bigtiff(data: bytes) -> Metadata:
    """Of a BigTIFF: what stands beside its EXIF and captions."""
    with contextlib.suppress(Exception), TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].aspage().tags
        blobs = {tag: bytes(tags.valueof(tag, b"")) for tag in (_PROFILE, _XMP, _IPTC)}
        across, down, unit = (tags.valueof(tag) for tag in exif.RESOLUTION)
        factor = _PER_INCH.get(int(unit or 2), 0)  # which makes none of it
        dpi = _sound([factor * one[0] / one[1] for one in (across, down)]) if across and down else None
        return Metadata(profile=blobs[_PROFILE], xmp=blobs[_XMP].rstrip(b"\0"), iptc=blobs[_IPTC], dpi=dpi)
    return Metadata()


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _upright(value: object, orientation: int) -> bytes:
    data = re.sub(rb"\A(Exif\0\0)+", b"", _bytes(value))
    with contextlib.suppress(ValueError, struct.error):
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
    return _resolution(kept_exif) if found is None else _sound(found)


def _resolution(kept_exif: bytes) -> tuple[float, float] | None:
    with contextlib.suppress(Exception):  # what is damaged is none
        found = Image.Exif()
        found.load(kept_exif)
        across, down, unit = exif.RESOLUTION
        factor = _PER_INCH[found.get(unit, 2)]
        return _sound((found[across] * factor, found[down] * factor))
    return None


def _sound(dpi: Any) -> tuple[float, float] | None:
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        across, down = map(float, dpi)
        return (across, down) if 0.01 < across < 1e5 and 0.01 < down < 1e5 else None
    return None


def _left_behind(data: bytes, head: Header, notes: Mapping[Any, Any], xmp: bytes) -> Iterator[str]:
    """What does not go along, as sentences; `notes` and `xmp` are as they stand in the file."""
    boxed = head.kind in ("HEIF", "AVIF", "JXL")
    if head.kind in ("JPEG", "MPO") or boxed:
        searched = data if boxed or head.kind == "MPO" else xmp
        gain_map = any(name in searched for name in _GAIN_MAPS) or (boxed and _GAIN_MAP_BOX.search(data) is not None)
        depth_map = any(name in xmp for name in _DEPTH_MAPS) or bool(notes.get("depth_images"))
        if gain_map:
            yield "Its HDR gain map is not kept: the result has the ordinary range of brightness."
        if _FILM.search(data, 64):
            yield "The film of its motion photo is not kept: the result is the picture alone."
        if depth_map:
            yield "Its depth map is not kept."
        elif b"HasExtendedXMP" in xmp:
            yield "Its XMP beyond the first 64 KB is not kept."
        views = count_images(data, head) if head.kind == "MPO" else int(notes.get("pictures", 1))
        if views > 1 + gain_map + depth_map:
            yield "Its further pictures are not kept: the first was restored."
    if head.kind == "TIFF" and data[2:4] in (b"+\0", b"\0+"):
        yield "It is a BigTIFF: its EXIF and captions are not kept."
    if head.kind == "JXL" and any(kind == b"brob" for kind, _ in iterate_boxes(data)):
        yield "Its compressed EXIF or XMP is not kept; cjxl --compress_boxes=0 writes it plain."
    if head.kind == "TIFF" and (count := count_images(data, head)) > 1:
        yield f"It has {count} pages: the first was restored, the others are not kept."
    if head.left_channels:
        what = "channel beside its colours is" if head.left_channels == 1 else "channels beside its colours are"
        yield f"{head.left_channels} {what} not kept."
    if head.kind == "JXL" and head.bits > 8:
        yield f"Its {head.bits} bits were read as 8, all that the library for .jxl gives."


def _without_promises(xmp: bytes) -> bytes:
    """XMP without the words of gain maps, motion photos, depth maps and parts that follow the image."""
    if not any(name.encode() in xmp for name in _PROMISES):
        return xmp
    if len(xmp) > _LARGEST_XMP:
        return b""  # rather nothing than what is not true
    try:
        document = minidom.parseString(xmp)
    except (ExpatError, ValueError):
        return b""
    for element in document.getElementsByTagName("*"):
        for attribute in list(element.attributes.values()):
            if _is_promise(attribute.namespaceURI) or _is_promise(attribute.value):
                element.removeAttributeNode(attribute)
        if _is_promise(element.namespaceURI) and element.parentNode:
            element.parentNode.removeChild(element)
    return document.documentElement.toxml("utf-8") if document.documentElement else b""


def _is_promise(name: str | None) -> bool:
    return bool(name) and name.startswith(_PROMISES) and not name.startswith(_PANORAMA)
