"""Kinds that libraries of the extra `photos` read: HEIC by pillow-heif, JPEG XL by pillow-jxl-plugin, camera raw by
rawpy. Each is imported where it is used; where it is absent, that is an ImportError.

Headers are given as Pillow's name for a pixel, height and width as stored, EXIF orientation, bits of a sample; pixels
as H×W×C, upright, uint8 or uint16, with what stands beside them under Pillow's names.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from mhnet.images.colours import stretch

HeaderFields = tuple[str, int, int, int, int]
Decoded = tuple[np.ndarray, dict[Any, Any]]

_JXL_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_JXL_HEAD = 12  # bytes of the smallest image
_JXL_DEPTHS = (8, 10, 12)
_RAW_TURNS = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's numbers for EXIF's
_SRGB_GAMMA = (2.4, 12.92)


def heif_header(data: bytes) -> HeaderFields:
    """Of a HEIC's main image."""
    found = _open_heif(data)
    mode = str(found.mode).partition(";")[0]
    return "L" if mode == "I" else mode, found.size[1], found.size[0], 1, found.info["bit_depth"]


def decode_heif(data: bytes) -> Decoded:
    """A HEIC's main image."""
    found = _open_heif(data)
    pixels, bits = np.array(found), found.info["bit_depth"]
    if pixels.dtype == np.uint16:
        pixels = stretch(pixels >> (16 - bits), (1 << bits) - 1)
    return np.atleast_3d(pixels), {**found.info, "pictures": len(found)}


def _open_heif(data: bytes) -> Any:
    import pillow_heif

    return pillow_heif.open_heif(data, convert_hdr_to_8bit=False)


def jxl_header(data: bytes) -> HeaderFields:
    """Of a JPEG XL (ISO/IEC 18181-1, annex D): the library would decode the pixels to know their number."""
    import pillow_jxl  # noqa: F401  (so that its absence is told before anything else)

    boxes = iterate_boxes(data)
    codes = (content[4 * (kind == b"jxlp") :] for kind, content in boxes if kind in (b"jxlc", b"jxlp"))
    code = data if data.startswith(b"\xff\x0a") else b"".join(islice(codes, 4))
    if len(code) < _JXL_HEAD:
        raise ValueError("image file is truncated")
    take = _bit_reader(code[2:])
    height, width = _jxl_size(take)
    bits = orientation = 0
    if not take(1):  # not all is as usual
        if take(1):
            orientation = take(3)
            if take(1):
                _jxl_size(take)
            if take(1) or take(1):
                raise ValueError("it is animated or has a preview; export it as a plain image")
        if not take(1):  # whole numbers
            kind = take(2)
            bits = _JXL_DEPTHS[kind] if kind < 3 else 1 + take(6)
    return "RGB", height, width, orientation + 1, bits or 8


def decode_jxl(data: bytes) -> Decoded:
    """A JPEG XL's image; of a JPEG that was packed into one, that JPEG's. The library gives colours of 8 bits."""
    from pillow_jxl import Decoder

    is_jpeg, about, content, profile, _ = Decoder(num_threads=-1)(data)  # pyright: ignore[reportGeneralTypeIssues]
    if is_jpeg:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
            return np.atleast_3d(np.array(ImageOps.exif_transpose(picture))), dict(picture.info)
    dtype = np.uint16 if about.mode == "I;16" else np.uint8
    pixels = np.frombuffer(content, dtype).reshape(about.height, about.width, -1).copy()
    boxes = dict(iterate_boxes(data))
    found = boxes.get(b"Exif", b"")
    found = found if found[:2] in (b"II", b"MM") else found[4:]  # some leave out the place where it begins
    return pixels, {"icc_profile": profile, "exif": found, "xmp": boxes.get(b"xml ", b"")}


def raw_header(data: bytes) -> HeaderFields:
    """Of a camera's raw."""
    import rawpy

    with rawpy.imread(io.BytesIO(data)) as raw:
        return "RGB", raw.sizes.iheight, raw.sizes.iwidth, _RAW_TURNS.get(raw.sizes.flip, 1), 16


def decode_raw(data: bytes) -> Decoded:
    """A camera's raw, developed by LibRaw to sRGB of 16 bits, in the white that the camera measured."""
    import rawpy

    with rawpy.imread(io.BytesIO(data)) as raw:
        notes: dict[str, Any] = {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
        with contextlib.suppress(Exception):  # not every camera adds a preview
            thumbnail = raw.extract_thumb()
            if thumbnail.format == rawpy.ThumbFormat.JPEG:
                with Image.open(io.BytesIO(bytes(thumbnail.data)), formats=("JPEG",)) as picture:
                    notes["exif"] = picture.info.get("exif", b"")
        return raw.postprocess(use_camera_wb=True, output_bps=16, gamma=_SRGB_GAMMA), notes


def iterate_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kinds and contents of a file's whole boxes (ISO/IEC 14496-12, 4.2)."""
    position = 0
    while position + 8 <= len(data):
        length, kind, head = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8], 8
        if length == 1:
            length, head = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        end = position + length if length else len(data)
        if end < position + head or end > len(data):
            return
        yield kind, data[position + head : end]
        position = end


def _jxl_size(take: Callable[[int], int]) -> tuple[int, int]:
    """A SizeHeader: height and width."""
    eighths = take(1)

    def side() -> int:
        return 8 * (1 + take(5)) if eighths else 1 + take((9, 13, 18, 30)[take(2)])

    height = side()
    ratio = take(3)
    across, down = _JXL_RATIOS[ratio - 1]
    return height, height * across // down if ratio else side()


def _bit_reader(data: bytes) -> Callable[[int], int]:
    """A function that takes so many bits, the lowest first."""
    bits = iter(np.unpackbits(np.frombuffer(data[:64].ljust(64, b"\0"), np.uint8), bitorder="little").tolist())
    return lambda count: sum(next(bits) << place for place in range(count))
