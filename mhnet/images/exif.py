"""The directories of fields that EXIF and TIFF share, byte by byte (TIFF 6.0, section 2; Exif 2.32, 4.6).

Fields are carried over as they stand, types and byte order with them: a library that understands them would write back
what it understood.
"""

import struct
from typing import Literal, NamedTuple

RESOLUTION = (282, 283, 296)  # across, down, and which unit
ORIENTATION, EXIF, GPS, INTEROP = 0x0112, 0x8769, 0x8825, 0xA005
_PIXEL_SIDES = (0xA002, 0xA003)  # width and height, in the EXIF directory
_THUMBNAIL, _THUMBNAIL_LENGTH = 0x0201, 0x0202
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_LONG = 4
# Of a TIFF's first directory, what describes the photograph and not how its pixels lie in the file: document, caption,
# maker, model, resolution, software, date, artist, host, rating, copyright, EXIF and GPS, Windows' title to subject.
_DESCRIPTIVE = {
    269,
    270,
    271,
    272,
    *RESOLUTION,
    305,
    306,
    315,
    316,
    0x4746,
    0x4749,
    33432,
    EXIF,
    GPS,
    *range(0x9C9B, 0x9CA0),
}


Endian = Literal["<", ">"]


class Field(NamedTuple):
    """A field as it stands: number, type, how many values, and its value's bytes or the fields of its directory."""

    tag: int
    kind: int
    length: int
    value: "bytes | list[Field]"


def order(data: bytes) -> Endian:
    """The byte order, '<' or '>', of EXIF or a TIFF.

    Raises:
        ValueError: it is neither.
    """
    orders: dict[bytes, Endian] = {b"II*\0": "<", b"MM\0*": ">"}
    if len(data) < 8 or data[:4] not in orders:
        raise ValueError("no directory of fields")
    return orders[data[:4]]


def fields(data: bytes) -> list[Field]:
    """The fields of the first directory, those of its EXIF, GPS and interoperability directories inside.

    Raises:
        ValueError: the structure is damaged.
    """
    return _fields(data, order(data), _number(data, order(data), 4), (EXIF, GPS), [len(data)])


def descriptive(found: list[Field]) -> list[Field]:
    """Those fields of a TIFF's first directory that describe the photograph."""
    return [field for field in found if field.tag in _DESCRIPTIVE]


def block(found: list[Field], endian: Endian) -> bytes:
    """EXIF that holds these fields."""
    head = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(endian + "I", 8)
    return head + directory(found, endian, 8)


def directory(found: list[Field], endian: Endian, start: int) -> bytes:
    """A directory and its values, to stand at byte `start`.

    Raises:
        struct.error: it ends beyond 4 GiB.
    """
    found = sorted(found, key=lambda field: field.tag)
    place = start + 2 + 12 * len(found) + 4
    entries, values = [struct.pack(endian + "H", len(found))], []
    for tag, kind, count, value in found:
        if isinstance(value, bytes) and len(value) <= 4:
            entry = value.ljust(4, b"\0")
        else:
            entry = struct.pack(endian + "I", place)
            content = value if isinstance(value, bytes) else directory(value, endian, place)
            values.append(content + b"\0" * (len(content) % 2))
            place += len(values[-1])
        entries.append(struct.pack(endian + "HHI", tag, kind, count) + entry)
    return b"".join([*entries, bytes(4), *values])


def neutral(data: bytes, orientation: int) -> bytes:
    """EXIF for an image that has been turned upright: orientation 1, width and height as they are now, no thumbnail.

    Everything else stays in its place, so that what a camera's own notes say of places remains true. The thumbnail
    shows the image before its restoration, turned as it was: it goes.

    Args:
        data: without the `Exif` that stands before it in JPEG files.
        orientation: 1 to 8, of the image in the file.

    Raises:
        ValueError: the structure is damaged.
    """
    endian, changed = order(data), bytearray(data)
    first = _number(data, endian, 4)
    entries, following = _entries(data, endian, first)
    for tag, kind, _, at in entries:
        if tag == ORIENTATION:
            one = struct.pack(endian + "H", 1) if kind == 3 else struct.pack(endian + "I", 1)
            changed[at + 8 : at + 12] = one.ljust(4, b"\0")
        if tag == EXIF and orientation >= 5:
            inner, _ = _entries(data, endian, _number(data, endian, at + 8))
            sides = [place for wanted in _PIXEL_SIDES for number, _, _, place in inner if number == wanted]
            if len(sides) == 2:
                for to, source in (sides, sides[::-1]):
                    changed[to + 2 : to + 12] = data[source + 2 : source + 12]
    link = first + 2 + 12 * len(entries)
    if following:
        changed[link : link + 4] = bytes(4)
        start, length = _thumbnail(data, endian, following)
        if start + length == len(data):
            del changed[start:]
        else:
            changed[start : start + length] = bytes(length)
    return bytes(changed)


def _thumbnail(data: bytes, endian: Endian, at: int) -> tuple[int, int]:
    """Where the second directory's JPEG starts, and its length; 0, 0 where there is none."""
    try:
        numbers = {tag: _number(data, endian, place + 8) for tag, _, _, place in _entries(data, endian, at)[0]}
    except ValueError:
        return 0, 0
    start, length = numbers.get(_THUMBNAIL, 0), numbers.get(_THUMBNAIL_LENGTH, 0)
    return (
        (start, length)
        if start >= 8 and data[start : start + 2] == b"\xff\xd8" and start + length <= len(data)
        else (0, 0)
    )


def _fields(data: bytes, endian: Endian, at: int, inner: tuple[int, ...], left: list[int]) -> list[Field]:
    """`left` holds how many bytes the values may still take: in an honest file none stands for two fields."""
    found: dict[int, Field] = {}
    for tag, kind, count, place in _entries(data, endian, at)[0]:
        if tag in found:
            continue
        if tag in inner:
            deeper = (INTEROP,) if tag == EXIF else ()
            below = _fields(data, endian, _number(data, endian, place + 8), deeper, left)
            found[tag] = Field(tag, _LONG, 1, below)
        elif size := _SIZES.get(kind, 0) * count:
            start = place + 8 if size <= 4 else _number(data, endian, place + 8)
            if start + size <= len(data):  # a field whose value lies outside is left out
                left[0] -= size
                if left[0] < 0:
                    raise ValueError("fields lie on top of each other")
                found[tag] = Field(tag, kind, count, data[start : start + size])
    return list(found.values())


def _entries(data: bytes, endian: Endian, at: int) -> tuple[list[tuple[int, int, int, int]], int]:
    """A directory's entries as tag, type, count and the place of the entry; where the next directory is, 0 for none."""
    try:
        (count,) = struct.unpack_from(endian + "H", data, at)
        entries = [(*struct.unpack_from(endian + "HHI", data, at + 2 + 12 * i), at + 2 + 12 * i) for i in range(count)]
        return entries, _number(data, endian, at + 2 + 12 * count)
    except struct.error:
        raise ValueError("a directory of fields is cut off") from None


def _number(data: bytes, endian: Endian, at: int) -> int:
    try:
        return struct.unpack_from(endian + "I", data, at)[0]
    except struct.error:
        raise ValueError("a directory of fields is cut off") from None
