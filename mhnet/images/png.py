"""PNG by its chunks: a corner of the image, 16 bits, and what stands beside the pixels.

A corner is a smaller PNG, made without looking at the pixels outside it. A PNG's rows are compressed one after the
other, and each pixel is noted as the difference from its neighbours to the left and above (PNG specification, third
edition, sections 9 and 10): what lies below a corner need not be decompressed, and what lies to its right need not be
added up. A decoder that is given such a corner does a crop in about half the time of the whole image.
"""

import os
import struct
import zlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type; palettes (3) are left to whole decoding
_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of samples
_HEAD = 33  # bytes of the signature and the first chunk
_AVERAGE = 3  # the row filter
_STRIP = 1 << 20  # bytes of pixels that a thread compresses at a time
_ADLER = 65521
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


def chunks(stream: BinaryIO, kinds: Collection[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The kinds and contents of the chunks of these kinds, before the pixels and after them."""
    position = len(_SIGNATURE)
    while True:
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if kind in kinds:
            yield kind, stream.read(length)
        position += 12 + length


def with_chunks(encoded: memoryview, more: list[tuple[bytes, bytes]]) -> list[bytes | memoryview]:
    """The parts of a PNG with more chunks before its pixels."""
    own = [part for kind, content in more for part in _chunk(kind, [content])]
    return [encoded[:_HEAD], *own, encoded[_HEAD:]]


def encode_16(pixels: np.ndarray, more: list[tuple[bytes, bytes]]) -> list[bytes | memoryview]:
    """The parts of a PNG file of uint16 H×W×C: grey, grey and alpha, RGB, or RGB and alpha.

    Each pixel is noted as the difference from the mean of its left and upper neighbours: on photographs with 16 bits
    the other filters give files within 2 % of that. Threads compress strips of rows, each ended at a byte (RFC 1951,
    3.2.3), so that together they are one stream.
    """
    height, width, count = pixels.shape
    row = width * count * 2
    rows = max(_STRIP // row, 1)

    def strip(top: int) -> tuple[bytes, int, int]:
        start = max(top - 1, 0)
        part = pixels[start : top + rows].astype(">u2").view(np.uint8).reshape(-1, row)
        above = np.concatenate([part[:0] if top else np.zeros((1, row), np.uint8), part[:-1]])
        part = part[top - start :]
        left = np.zeros_like(part)
        left[:, 2 * count :] = part[:, : -2 * count]
        filtered = np.full((len(part), 1 + row), _AVERAGE, np.uint8)
        np.subtract(part, (left & above) + ((left ^ above) >> 1), out=filtered[:, 1:])
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        end = zlib.Z_FINISH if top + rows >= height else zlib.Z_FULL_FLUSH
        packed = packer.compress(filtered.data) + packer.flush(end)
        return packed, zlib.adler32(filtered.data), filtered.size

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        strips = list(pool.map(strip, range(0, height, rows)))
    checksum = 1
    for _, part, length in strips:
        checksum = _joined(checksum, part, length)
    head = struct.pack(">IIBBBBB", width, height, 16, _COLOURS[count], 0, 0, 0)
    parts = [_SIGNATURE, *_chunk(b"IHDR", [head])]
    for kind, content in more:
        parts += _chunk(kind, [content])
    parts += _chunk(b"IDAT", [b"\x78\x01"])
    for packed, _, _ in strips:
        parts += _chunk(b"IDAT", [packed])
    return [*parts, *_chunk(b"IDAT", [struct.pack(">I", checksum)]), *_chunk(b"IEND", [])]


def _joined(first: int, second: int, length: int) -> int:
    """The Adler-32 (RFC 1950, section 8.2) of two byte strings in a row, from those of both and the second's length."""
    low = ((first & 0xFFFF) + (second & 0xFFFF) - 1) % _ADLER
    high = ((first >> 16) + (second >> 16) + length * ((first & 0xFFFF) - 1)) % _ADLER
    return high << 16 | low


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
