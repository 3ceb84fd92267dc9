"""What of a file does not go along with its image: gain maps, films, depth maps, further pictures, channels.

It is told, and XMP that promises it is made true.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from mhnet.images.header import Header, count_images, open_by_pillow

_FILM = re.compile(rb"\0\0\0[\x08-\x80]ftyp(mp4|iso|qt  |avc|hvc)|mpvd")
_GAIN_MAPS = (b"hdr-gain-map", b"hdrgainmap", b"GainMap")
_GAIN_MAP_BOX = re.compile(rb"ftyp.{0,64}tmap|jhgm", re.DOTALL)  # ISO 21496-1; JPEG XL
_DEPTH_MAPS = (b"photos/1.0/depthmap", b"google.com/photos/dd/1.0/depthmap", b'Semantic="Depth')
_PROMISES = ("http://ns.google.com/photos/", "http://ns.adobe.com/hdr-gain-map/", "http://ns.adobe.com/xmp/note/",
             "http://ns.apple.com/HDRGainMap/")  # fmt: skip
_LARGEST_XMP = 1 << 20  # bytes that are parsed


def told_of(data: bytes, head: Header, notes: Mapping[Any, Any], xmp: bytes) -> Iterator[str]:
    """What does not go along, as sentences.

    Args:
        data, head: the file.
        notes: what its library found beside the pixels.
        xmp: its XMP as it stands.
    """
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
        if _views(data, head, notes) > 1 + gain_map + depth_map:
            yield "Its further pictures are not kept: the first was restored."
    if head.kind == "TIFF" and (count := count_images(data, head)) > 1:
        yield f"It has {count} pages: the first was restored, the others are not kept."
    if head.left_channels:
        what = "channel beside its colours is" if head.left_channels == 1 else "channels beside its colours are"
        yield f"{head.left_channels} {what} not kept."
    if head.kind == "JXL" and head.bits > 8:
        yield f"Its {head.bits} bits were read as 8, all that the library for .jxl gives."


def _views(data: bytes, head: Header, notes: Mapping[Any, Any]) -> int:
    """How many pictures a file holds beside its thumbnails."""
    if head.kind == "MPO":
        with open_by_pillow(data) as picture:
            return getattr(picture, "n_frames", 1)
    return int(notes.get("pictures", 1))


def without_promises(xmp: bytes) -> bytes:
    """XMP without the words of gain maps, motion photos, depth maps and parts that follow the image."""
    if not any(name.encode() in xmp for name in _PROMISES):
        return xmp
    try:
        document = minidom.parseString(xmp) if len(xmp) <= _LARGEST_XMP else None
    except (ExpatError, ValueError):
        document = None
    if document is None:
        return b""  # rather nothing than what is not true
    for element in document.getElementsByTagName("*"):
        for attribute in list(element.attributes.values()):
            if (attribute.namespaceURI or "").startswith(_PROMISES) or attribute.value.startswith(_PROMISES):
                element.removeAttributeNode(attribute)
        if (element.namespaceURI or "").startswith(_PROMISES) and element.parentNode:
            element.parentNode.removeChild(element)
    return document.documentElement.toxml("utf-8") if document.documentElement else b""
