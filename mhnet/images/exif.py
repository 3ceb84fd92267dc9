"""The directories of fields that EXIF and TIFF share, byte by byte (TIFF 6.0, section 2; Exif 2.32, 4.6).

Fields are carried over as they stand, types and byte order with them: a library that understands them would write back
what it understood.
"""

import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

RESOLUTION = (282, 283, 296)  # across, down, and which unit
ORIENTATION, EXIF, GPS, INTEROP = 0x0112, 0x8769, 0x8825, 0xA005
_PIXEL_SIDES = (0xA002, 0xA003)  # width and height, in the EXIF directory
_THUMBNAIL, _THUMBNAIL_LENGTH = 0x0201, 0x0202
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_LONG = 4
# Of a TIFF's first directory, what describes the photograph and not how its pixels lie in the file: document, caption,
# maker, model, resolution, software, date, artist, host, rating, copyright, EXIF and GPS, Windows' title to subject.
_DESCRIPTIVE = {269, 270, 271, 272, *RESOLUTION, 305, 306, 315, 316, 0x4746, 0x4749, 33432, EXIF, GPS,
                *range(0x9C9B, 0x9CA0)}  # fmt: skip

Endian = Literal["<", ">"]


class Field(NamedTuple):
    """A field as it stands: number, type, how many values, and its value's bytes or the fields of its directory."""

    tag: int
    kind: int
    length: int
    value: "bytes | list[Field]"


def byte_order(data: bytes) -> Endian:
    """The byte order, '<' or '>', of EXIF or a TIFF; ValueError for what is neither."""
    orders: dict[bytes, Endian] = {b"II*\0": "<", b"MM\0*": ">"}
    if len(data) < 8 or data[:4] not in orders:
        raise ValueError("no directory of fields")
    return orders[data[:4]]


def parse_fields(data: bytes) -> list[Field]:
    """The fields of the first directory, those of its EXIF, GPS and interoperability directories inside; ValueError or
    struct.error for a damaged structure."""
    endian = byte_order(data)
    return _fields(data, endian, _number(data, endian, 4), (EXIF, GPS), [len(data)])


def descriptive(found: list[Field]) -> list[Field]:
    """Those fields of a TIFF's first directory that describe the photograph."""
    return [field for field in found if field.tag in _DESCRIPTIVE]


def build_directory(found: list[Field], endian: Endian, start: int) -> bytes:
    """A directory and its values, to stand at byte `start`; struct.error where it ends beyond 4 GiB."""
    found = sorted(found, key=lambda field: field.tag)
    place = start + 2 + 12 * len(found) + 4
    entries, values = [struct.pack(endian + "H", len(found))], []
    for tag, kind, count, value in found:
        if isinstance(value, bytes) and len(value) <= 4:
            entry = value.ljust(4, b"\0")
        else:
            entry = struct.pack(endian + "I", place)
            content = value if isinstance(value, bytes) else build_directory(value, endian, place)
            values.append(content + b"\0" * (len(content) % 2))
            place += len(values[-1])
        entries.append(struct.pack(endian + "HHI", tag, kind, count) + entry)
    return b"".join([*entries, bytes(4), *values])


def upright_exif(data: bytes, orientation: int) -> bytes:
    """EXIF, without the `Exif` before it in JPEG files, for an image of that orientation, 1 to 8, which has been turned
    upright: orientation 1, width and height as they are now.

    The thumbnail, of the image before its restoration, goes; everything else stays in its place, so that what a
    camera's own notes say of places remains true. ValueError or struct.error where it is damaged.
    """
    endian, changed = byte_order(data), bytearray(data)
    first = _number(data, endian, 4)
    entries = list(_entries(data, endian, first))
    for tag, kind, _, place in entries:
        if tag == ORIENTATION:
            changed[place : place + 4] = struct.pack(endian + ("H2x" if kind == 3 else "I"), 1)
        if tag == EXIF and orientation >= 5:
            inner = {tag: at for tag, _, _, at in _entries(data, endian, _number(data, endian, place))}
            if all(side in inner for side in _PIXEL_SIDES):
                across, down = (inner[side] for side in _PIXEL_SIDES)
                for to, source in ((across, down), (down, across)):  # type, number and value
                    changed[to - 6 : to + 4] = data[source - 6 : source + 4]
    link = first + 2 + 12 * len(entries)
    if following := _number(data, endian, link):
        changed[link : link + 4] = bytes(4)
        start, length = _thumbnail(data, endian, following)
        changed[start : start + length] = b"" if start + length == len(data) else bytes(length)
    return bytes(changed)


def _thumbnail(data: bytes, endian: Endian, at: int) -> tuple[int, int]:
    """Where the second directory's JPEG starts, and its length; 0, 0 where there is none."""
    try:
        numbers = {tag: _number(data, endian, place) for tag, _, _, place in _entries(data, endian, at)}
    except struct.error:
        return 0, 0
    start, length = numbers.get(_THUMBNAIL, 0), numbers.get(_THUMBNAIL_LENGTH, 0)
    sound = start >= 8 and data[start : start + 2] == b"\xff\xd8" and start + length <= len(data)
    return (start, length) if sound else (0, 0)


def _fields(data: bytes, endian: Endian, at: int, inner: tuple[int, ...], left: list[int]) -> list[Field]:
    """`left` holds how many bytes the values may still take: in an honest file none stands for two fields."""
    found: dict[int, Field] = {}
    for tag, kind, count, place in _entries(data, endian, at):
        if tag in found:
            continue
        if tag in inner:
            deeper = (INTEROP,) if tag == EXIF else ()
            found[tag] = Field(tag, _LONG, 1, _fields(data, endian, _number(data, endian, place), deeper, left))
        elif size := _SIZES.get(kind, 0) * count:
            start = place if size <= 4 else _number(data, endian, place)
            if start + size <= len(data):  # a field whose value lies outside is left out
                left[0] -= size
                if left[0] < 0:
                    raise ValueError("fields lie on top of each other")
                found[tag] = Field(tag, kind, count, data[start : start + size])
    return list(found.values())


def _entries(data: bytes, endian: Endian, at: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, type and how many values of a directory's fields, and where its value is or the value's place."""
    (count,) = struct.unpack_from(endian + "H", data, at)
    for place in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(endian + "HHI", data, place)
        yield tag, kind, length, place + 8


def _number(data: bytes, endian: Endian, at: int) -> int:
    return struct.unpack_from(endian + "I", data, at)[0]
