"""The upper left corner of a PNG as a smaller PNG, without looking at the pixels outside it.

A PNG's rows are compressed one after the other, and each pixel is noted as the difference from its neighbours to the
left and above (PNG specification, third edition, sections 9 and 10): what lies below a corner need not be
decompressed, and what lies to its right need not be added up. A decoder that is given such a corner does a crop in
about half the time of the whole image.
"""

import struct
import zlib

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type; palettes (3) are left to whole decoding
_BLOCK = 0xFFFF  # bytes in a stored block (RFC 1951, 3.2.4)


def corner(data: bytes, height: int, width: int) -> bytes | None:
    """The PNG of an image's first rows and columns; what stands before the pixels is kept.

    Args:
        data: a PNG whose checksums are right.
        height, width: of the corner, within the image.

    Returns:
        The file's bytes, or None where the image is interlaced, a palette or not of 8 bits.

    Raises:
        ValueError: the compressed data is damaged or ends too early.
    """
    full_width, _, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if not data.startswith(_SIGNATURE) or depth != 8 or interlaced or colour not in _CHANNELS:
        return None
    row, wanted = 1 + full_width * _CHANNELS[colour], 1 + width * _CHANNELS[colour]
    first, compressed = _pixels(data)
    try:
        rows = zlib.decompressobj().decompress(compressed, height * row)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(rows) < height * row:
        raise ValueError("image file is truncated")
    if wanted < row:
        rows = np.frombuffer(rows, np.uint8).reshape(height, row)[:, :wanted].tobytes()
    head = struct.pack(">II", width, height) + data[24:29]
    parts = [
        _SIGNATURE,
        *_chunk(b"IHDR", [head]),
        data[33:first],
        *_chunk(b"IDAT", _stored(rows)),
        *_chunk(b"IEND", []),
    ]
    return b"".join(parts)


def _pixels(data: bytes) -> tuple[int, bytes]:
    """Where the first IDAT chunk begins, and the contents of all."""
    position, first, parts, view = len(_SIGNATURE), 0, [], memoryview(data)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            first = first or position
            parts.append(view[position + 8 : position + 8 + length])
        position += 12 + length
    return first, b"".join(parts)


def _stored(rows: bytes) -> list[bytes | memoryview]:
    """The parts of a zlib stream (RFC 1950) that holds bytes as they are."""
    parts: list[bytes | memoryview] = [b"\x78\x01"]
    for start in range(0, len(rows), _BLOCK):
        block = memoryview(rows)[start : start + _BLOCK]
        last = start + _BLOCK >= len(rows)
        parts += [struct.pack("<BHH", last, len(block), len(block) ^ _BLOCK), block]
    return [*parts, struct.pack(">I", zlib.adler32(rows))]


def _chunk(kind: bytes, content: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """The parts of a chunk: length, kind, content, checksum."""
    length, checksum = 0, zlib.crc32(kind)
    for part in content:
        length, checksum = length + len(part), zlib.crc32(part, checksum)
    return [struct.pack(">I", length), kind, *content, struct.pack(">I", checksum)]
