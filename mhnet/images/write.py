"""Arrays to image files: uint8 RGB, or an image with its depth, its alpha, and what is said beside the pixels."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mhnet.core.files import StrPath, replacing
from mhnet.images import exif
from mhnet.images.colours import over_white, profile_space, to_8_bits
from mhnet.images.header import ImageError
from mhnet.images.metadata import XMP_TEXT, Metadata
from mhnet.images.png import encode_16, with_chunks
from mhnet.images.read import ImageData

Parts = list[bytes | memoryview]

_QUALITY = 95
_LOSSLESS_WEBP = {"lossless": True, "quality": 0, "method": 0, "exact": True}
_LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383, ".png": 1_000_000}
_LONGEST_MARKER = 65533  # bytes of a JPEG's marker (ITU T.81, B.1.1.4)
_XMP_START, _IPTC_START = b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0"
_INCH = 0.0254  # metres
_SPACES = {1: "GRAY", 3: "RGB"}
_DEEP, _CLEAR = (".png", ".tif", ".tiff"), (".png", ".tif", ".tiff", ".webp")  # what holds 16 bits, what an alpha


def write_rgb(path: StrPath, pixels: np.ndarray) -> None:
    """Write uint8 H×W×3 RGB pixels, whole or not at all, in the format of the path's extension.

    JPEG at quality 95 without chroma subsampling, everything else lossless. Missing parent folders are made; a file
    of that name is replaced.

    Raises:
        ImageError: another type or shape, an unknown extension, or the system refuses.
    """
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        found = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ImageError(f"{path} cannot hold {found}; an image to write is a uint8 array of shape H×W×3.")
    write_image(path, ImageData(pixels))


def write_image(path: StrPath, image: ImageData) -> None:
    """Write an image, whole or not at all, in the format of the path's extension.

    PNG and TIFF hold everything but what only the other has room for: texts and the meaning of a PNG's numbers stay
    among PNGs, IPTC among JPEGs and TIFFs. JPEG, WebP and BMP hold 8 bits: 16-bit values v become round(v / 257). JPEG
    and BMP have no alpha: transparent parts are laid on white. WebP has no grey, and is lossless unless the image came
    from a lossy file; JPEG has quality 95 without chroma subsampling. BMP holds no metadata but the resolution.

    Missing parent folders are made; a file of that name is replaced.

    Raises:
        ImageError: another type or shape, an unknown extension, more pixels than the format holds, or the system
            refuses.
    """
    path = Path(path)
    parts = _encoded(path, image)
    try:
        with replacing(path) as part, part.open("wb") as file:
            file.writelines(parts)
    except OSError as error:
        raise ImageError(f"{path} cannot be written ({error.strerror}); choose another place.") from error


def encode_image(path: StrPath, image: ImageData) -> bytes:
    """The bytes that `write_image` would put into a file of that name; raises ImageError as it does."""
    return b"".join(_encoded(Path(path), image))


def format_losses(path: StrPath, image: ImageData) -> list[str]:
    """What of an image's pixels `write_image` cannot keep in a format, as sentences."""
    extension, lost = Path(path).suffix.lower(), []
    if image.pixels.dtype == np.uint16 and extension not in _DEEP:
        lost.append(f"{extension} holds 8 of its 16 bits; .png and .tif hold all.")
    if image.alpha is not None and extension not in _CLEAR:
        lost.append(f"{extension} holds no transparency: it was laid on white; .png, .tif and .webp hold it.")
    return lost


def _encoded(path: Path, image: ImageData) -> Parts:
    """The bytes, in parts, of a file of that name."""
    pixels, alpha = image.pixels, image.alpha
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ImageError(f"{path} cannot hold {pixels.dtype} {pixels.shape}; an image is uint8 or uint16, H×W×1 or 3.")
    if alpha is not None and (alpha.dtype != pixels.dtype or alpha.shape != pixels.shape[:2]):
        wanted = f"{pixels.dtype} {pixels.shape[:2]}"
        raise ImageError(f"{path} cannot hold an alpha of {alpha.dtype} {alpha.shape}; its pixels need {wanted}.")
    extension, shape = path.suffix.lower(), f"{pixels.shape[0]}×{pixels.shape[1]} pixels"
    if extension not in _WRITERS:
        raise ImageError(f"{path} has no image extension; use one of {', '.join(sorted(_WRITERS))}.")
    if pixels.size == 0:
        raise ImageError(f"{path} cannot hold {shape}; an image has at least one.")
    most = _LONGEST_SIDE.get(extension)
    if most and max(pixels.shape[:2]) > most:
        raise ImageError(f"{path} cannot hold {shape}: its format has at most {most} a side; use .tif.")
    try:
        return _WRITERS[extension](pixels, alpha, image.metadata)
    except (OSError, ValueError, SystemError, struct.error, OverflowError) as error:
        raise ImageError(f"{path} cannot hold {shape} ({error}); use .png.") from error


def _jpeg(pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    """8 bits, on white where transparent, without chroma subsampling; what does not fit into a marker is left out."""
    iptc = _IPTC_START + struct.pack(">I", len(metadata.iptc)) + metadata.iptc + b"\0" * (len(metadata.iptc) % 2)
    markers = _marker(0xED, iptc) if metadata.iptc and len(iptc) <= _LONGEST_MARKER else b""
    if metadata.comment:  # Pillow before 13 has no room for a long `comment`, but for any `extra`
        markers += _marker(0xFE, metadata.comment[:_LONGEST_MARKER])
    profile = _profile(metadata, pixels.shape[2])
    options = {
        "quality": _QUALITY,
        "subsampling": 0,
        "exif": b"Exif\0\0" + metadata.exif if 0 < len(metadata.exif) <= _LONGEST_MARKER - 6 else b"",
        "xmp": metadata.xmp if len(metadata.xmp) <= _LONGEST_MARKER - len(_XMP_START) else b"",
        "icc_profile": profile if len(profile) <= 255 * (_LONGEST_MARKER - 14) else b"",
        "extra": markers,
        **_dpi(metadata),
    }
    return [_flat_by_pillow(pixels, alpha, "JPEG", options)]


def _png(pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    chunks = list(metadata.chunks)
    if profile := _profile(metadata, pixels.shape[2]):
        chunks = [chunk for chunk in chunks if chunk[0] != b"sRGB"]
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    if metadata.dpi:
        sides = [min(round(value / _INCH), 0x7FFFFFFF) for value in metadata.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *sides, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", XMP_TEXT + bytes(5) + metadata.xmp))
    if metadata.comment:
        chunks.append((b"tEXt", b"Comment\0" + metadata.comment.replace(b"\0", b"")))
    joined = _joined(pixels, alpha)
    if joined.dtype == np.uint16:
        return with_chunks(encode_16(joined), chunks)
    # Level 6 takes four times as long for 7 % less.
    return with_chunks(_by_pillow(_picture(joined), "PNG", {"compress_level": 1}), chunks)


def _tiff(pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    """Compressed by zlib after differencing, without loss; EXIF's fields stand in the directory."""
    import tifffile

    endian: exif.Endian = "<"
    described: list[exif.Field] = []
    with contextlib.suppress(ValueError):  # what is damaged is left out
        described, endian = exif.descriptive(exif.parse_fields(metadata.exif)), exif.byte_order(metadata.exif)
    blobs = ((700, "B", metadata.xmp), (33723, "B", metadata.iptc))
    encoded, joined = io.BytesIO(), _joined(pixels, alpha)
    samples = joined.shape[2]
    tifffile.imwrite(
        encoded,
        joined if samples > 1 else joined[..., 0],
        photometric="rgb" if pixels.shape[2] == 3 else "minisblack",
        planarconfig="contig" if samples > 1 else None,
        byteorder=endian,
        bigtiff=False,
        compression="zlib",
        compressionargs={"level": 3},
        predictor=True,
        rowsperstrip=max((1 << 20) // joined[0].nbytes, 1),
        extrasamples=["unassalpha"] if alpha is not None else None,
        iccprofile=_profile(metadata, pixels.shape[2]) or None,
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


def _webp(pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    """8 bits, RGB; without loss where the image came from a file without loss."""
    pixels = to_8_bits(pixels)
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    options = {
        **(_LOSSLESS_WEBP if metadata.lossless else {"quality": _QUALITY}),
        "icc_profile": _profile(metadata, 3),
        "exif": metadata.exif or _resolution_exif(metadata),
        "xmp": metadata.xmp,
    }
    return [_by_pillow(_picture(_joined(pixels, None if alpha is None else to_8_bits(alpha))), "WEBP", options)]


def _bmp(pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> Parts:
    """8 bits, on white where transparent: few programs know the BMPs that have an alpha."""
    return [_flat_by_pillow(pixels, alpha, "BMP", _dpi(metadata))]


def _by_pillow(picture: Image.Image, kind: str, options: dict) -> memoryview:
    encoded = io.BytesIO()
    picture.save(encoded, kind, **options)
    return encoded.getbuffer()


def _flat_by_pillow(pixels: np.ndarray, alpha: np.ndarray | None, kind: str, options: dict) -> memoryview:
    picture = _picture(to_8_bits(pixels))
    return _by_pillow(picture if alpha is None else over_white(picture, to_8_bits(alpha)), kind, options)


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _joined(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    return pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)


def _profile(metadata: Metadata, channels: int) -> bytes:
    """The profile, where it is one for such pixels."""
    return metadata.profile if profile_space(metadata.profile) == _SPACES[channels] else b""


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


_WRITERS: dict[str, Callable[[np.ndarray, np.ndarray | None, Metadata], Parts]] = {
    ".jpg": _jpeg, ".jpeg": _jpeg, ".png": _png, ".bmp": _bmp, ".tif": _tiff, ".tiff": _tiff, ".webp": _webp,
}  # fmt: skip
IMAGE_EXTENSIONS = frozenset(_WRITERS)
