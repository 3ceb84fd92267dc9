"""Pixels and metadata to a file's bytes, kind by kind."""

import contextlib
import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import tifffile
from PIL import Image

from mhnet.images import exif
from mhnet.images.colours import is_srgb, over_white, profile_space, to_8_bits, to_bits, to_picture, to_srgb
from mhnet.images.kinds import KINDS
from mhnet.images.metadata import XMP_TEXT, Metadata
from mhnet.images.png import encode_16, with_chunks

Parts = list[bytes | memoryview]

_QUALITY = 95
_LOSSLESS_WEBP = {"lossless": True, "quality": 0, "method": 0, "exact": True}
_LONGEST_MARKER = 65533  # bytes of a JPEG's marker (ITU T.81, B.1.1.4)
_XMP_START, _IPTC_START = b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0"
_INCH = 0.0254  # metres
_LARGE_HEIF = 4096  # pixels a side
_MATRICES = (1, 5, 6, 9)  # of colours that are kept as brightness and differences (ITU-T H.273, table 4)
_NCLX_START = re.compile(rb"(colrnclx).{4}", re.DOTALL)


def encode(kind: str, pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    """The bytes of a file of a kind that is written, in parts.

    What its kind does not hold is changed first: 16 bits to 8, transparency to white, WebP's grey to RGB; a profile for
    other colours is left out.
    """
    if KINDS[kind].bits == 8:
        pixels, alpha = to_8_bits(pixels), None if alpha is None else to_8_bits(alpha)
    if kind == "WEBP" and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if profile_space(metadata.profile) != ("GRAY" if pixels.shape[2] == 1 else "RGB"):
        metadata = replace(metadata, profile=b"")
    if alpha is not None and KINDS[kind].alpha:
        pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
    elif alpha is not None:
        pixels = over_white(pixels, alpha)
    return ENCODERS[kind](pixels, metadata)


def _jpeg(pixels: np.ndarray, metadata: Metadata) -> Parts:
    """Without chroma subsampling; what does not fit into a marker is left out."""
    iptc = _IPTC_START + struct.pack(">I", len(metadata.iptc)) + metadata.iptc + b"\0" * (len(metadata.iptc) % 2)
    markers = _marker(0xED, iptc) if metadata.iptc and len(iptc) <= _LONGEST_MARKER else b""
    if metadata.comment:  # Pillow before 13 has no room for a long `comment`, but for any `extra`
        markers += _marker(0xFE, metadata.comment[:_LONGEST_MARKER])
    options = {
        "quality": _QUALITY,
        "subsampling": 0,
        "exif": b"Exif\0\0" + metadata.exif if 0 < len(metadata.exif) <= _LONGEST_MARKER - 6 else b"",
        "xmp": metadata.xmp if len(metadata.xmp) <= _LONGEST_MARKER - len(_XMP_START) else b"",
        "icc_profile": metadata.profile if len(metadata.profile) <= 255 * (_LONGEST_MARKER - 14) else b"",
        "extra": markers,
        **_dpi(metadata),
    }
    return [_by_pillow(pixels, "JPEG", options)]


def _png(pixels: np.ndarray, metadata: Metadata) -> Parts:
    chunks = list(metadata.chunks)
    if metadata.profile:
        chunks = [chunk for chunk in chunks if chunk[0] != b"sRGB"]
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.profile)))
    elif metadata.codes and not any(kind == b"cICP" for kind, _ in chunks):
        chunks.append((b"cICP", bytes([*(code & 0xFF for code in metadata.codes[:2]), 0, 1])))
    if metadata.dpi:
        sides = [min(round(value / _INCH), 0x7FFFFFFF) for value in metadata.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *sides, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", XMP_TEXT + bytes(5) + metadata.xmp))
    if metadata.comment:
        chunks.append((b"tEXt", b"Comment\0" + metadata.comment.replace(b"\0", b"")))
    if pixels.dtype == np.uint16:
        return with_chunks(encode_16(pixels), chunks)
    # Level 6 takes four times as long for 7 % less.
    return with_chunks(_by_pillow(pixels, "PNG", {"compress_level": 1}), chunks)


def _tiff(pixels: np.ndarray, metadata: Metadata) -> Parts:
    """Compressed by zlib after differencing, without loss; EXIF's fields stand in the directory."""
    endian: exif.Endian = "<"
    described: list[exif.Field] = []
    with contextlib.suppress(ValueError, struct.error):  # what is damaged is left out
        described, endian = exif.descriptive(exif.parse_fields(metadata.exif)), exif.byte_order(metadata.exif)
    blobs = ((700, "B", metadata.xmp), (33723, "B", metadata.iptc))
    encoded, samples = io.BytesIO(), pixels.shape[2]
    tifffile.imwrite(
        encoded,
        pixels if samples > 1 else pixels[..., 0],
        photometric="rgb" if samples > 2 else "minisblack",
        planarconfig="contig" if samples > 1 else None,
        byteorder=endian,
        bigtiff=False,
        compression="zlib",
        compressionargs={"level": 3},
        predictor=True,
        rowsperstrip=max((1 << 20) // pixels[0].nbytes, 1),
        extrasamples=["unassalpha"] if samples in (2, 4) else None,
        iccprofile=metadata.profile or None,
        resolution=metadata.dpi or (1, 1),
        resolutionunit="INCH" if metadata.dpi else "NONE",
        extratags=[(tag, kind, len(value), value, True) for tag, kind, value in blobs if value],
        metadata=None,
        software=False,
    )
    if not described:
        return [encoded.getbuffer()]
    # A directory in the first one's place, with the same strips: tifffile has no room for EXIF's own directories.
    data = encoded.getvalue() + b"\0" * (encoded.tell() % 2)
    replaced = {field.tag for field in described}
    fields = [field for field in exif.parse_fields(data) if field.tag not in replaced]
    head = data[:4] + struct.pack(endian + "I", len(data))
    return [head, memoryview(data)[8:], exif.build_directory([*fields, *described], endian, len(data))]


def _webp(pixels: np.ndarray, metadata: Metadata) -> Parts:
    """Without loss where the image came from a file without loss."""
    quality = _LOSSLESS_WEBP if metadata.lossless else {"quality": _QUALITY}
    kept = {"icc_profile": metadata.profile, "exif": metadata.exif or _resolution_exif(metadata), "xmp": metadata.xmp}
    return [_by_pillow(pixels, "WEBP", quality | kept)]


def _heif(pixels: np.ndarray, metadata: Metadata) -> Parts:
    """Of 8 or 10 bits, with the halved colour resolution that phones write and show."""
    import pillow_heif

    (height, width, samples), encoded = pixels.shape, io.BytesIO()
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples] + (";16" if pixels.dtype == np.uint16 else "")
    options: dict = {"quality": _QUALITY, "chroma": 420, "exif": metadata.exif, "xmp": metadata.xmp,
                     "icc_profile": metadata.profile}  # fmt: skip
    if metadata.codes:
        primaries, transfer, matrix = metadata.codes
        options["nclx_profile"] = {"color_primaries": primaries, "transfer_characteristics": transfer,
                                   "matrix_coefficients": matrix if matrix in _MATRICES else 6,
                                   "full_range_flag": 1}  # fmt: skip
    if samples in (1, 3) and max(height, width) > _LARGE_HEIF:  # in tiles, as phones do: players take no larger one
        options["tile_size"] = 512
    elif samples in (2, 4) and height * width > _LARGE_HEIF**2:
        raise ValueError("the library writes no transparency that large")
    options = {name: one for name, one in options.items() if one}
    pillow_heif.encode(mode, (width, height), pixels.tobytes(), encoded, **options)
    return [encoded.getbuffer()]


def _avif(pixels: np.ndarray, metadata: Metadata) -> Parts:
    """Of 8, 10 or 12 bits, with full colour resolution. Pillow would write EXIF as it understands it, and 8 bits."""
    bits = 8
    if pixels.dtype == np.uint16:
        bits = 10 if metadata.depth <= 10 else 12
        pixels = to_bits(pixels, bits)
    told = {
        cv2.IMAGE_METADATA_EXIF: metadata.exif,
        cv2.IMAGE_METADATA_XMP: metadata.xmp,
        cv2.IMAGE_METADATA_ICCP: metadata.profile,
    }
    told = {kind: np.frombuffer(one, np.uint8) for kind, one in told.items() if one}
    options = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, _QUALITY, cv2.IMWRITE_AVIF_SPEED, 8]
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
    data = cv2.imencodeWithMetadata(".avif", pixels[..., order], list(told), list(told.values()), options)[1].tobytes()
    if metadata.codes:  # the library writes those of sRGB
        named = struct.pack(">HH", *metadata.codes[:2])
        data = _NCLX_START.sub(lambda found: found[1] + named, data, count=1)
    return [data]


def _jxl(pixels: np.ndarray, metadata: Metadata) -> Parts:
    """In sRGB, which is all that the library writes; without loss where the image came from such a file."""
    import pillow_jxl  # noqa: F401  (adds the kind to Pillow)

    if metadata.profile and not is_srgb(metadata.profile):
        pixels = to_srgb(pixels, metadata.profile)
    kept_exif = bytes(4) + metadata.exif if metadata.exif else b""  # after the place where it begins
    options = {"quality": _QUALITY, "lossless": metadata.lossless, "exif": kept_exif, "xmp": metadata.xmp}
    return [_by_pillow(pixels, "JXL", options)]


def _by_pillow(pixels: np.ndarray, kind: str, options: dict) -> memoryview:
    encoded = io.BytesIO()
    to_picture(pixels).save(encoded, kind, **options)
    return encoded.getbuffer()


def _dpi(metadata: Metadata) -> dict:
    return {"dpi": metadata.dpi} if metadata.dpi else {}


def _marker(number: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, number, 2 + len(content)) + content


def _resolution_exif(metadata: Metadata) -> bytes:
    """EXIF that says pixels per inch, for a kind that says it nowhere else."""
    if not metadata.dpi:
        return b""
    found = Image.Exif()
    found.update(zip(exif.RESOLUTION, (*metadata.dpi, 2), strict=True))
    return found.tobytes()


ENCODERS: dict[str, Callable[[np.ndarray, Metadata], Parts]] = {
    "JPEG": _jpeg, "PNG": _png, "TIFF": _tiff, "WEBP": _webp, "HEIF": _heif, "AVIF": _avif, "JXL": _jxl,
    "BMP": lambda pixels, metadata: [_by_pillow(pixels, "BMP", _dpi(metadata))],
}  # fmt: skip
