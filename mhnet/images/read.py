"""Image files to arrays: as uint8 RGB, which training and scoring see, or with all that is in the file.

OpenCV decodes JPEG and PNG for training, since it is faster than Pillow, and 16-bit PNG, which Pillow cuts to 8 bits.
tifffile decodes TIFF, as far as it does so without further libraries; the libraries of `extras` decode their kinds;
OpenCV decodes what else has more than 8 bits, and Pillow the rest.
"""

import contextlib
import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from tifffile import TiffFile

from mhnet.core.files import StrPath
from mhnet.images.colours import bgr_to_rgb, cmyk_to_rgb, divide_by_alpha, split_alpha, stretch, to_8_bits, to_array
from mhnet.images.extras import decode_heif, decode_jxl, decode_raw
from mhnet.images.header import (
    LONGEST_SIDE,
    MAX_PIXELS,
    Header,
    ImageError,
    count_images,
    load_file,
    open_by_pillow,
    read_header,
    refuse_damage,
)
from mhnet.images.metadata import Metadata, read_metadata
from mhnet.images.png import PIXEL_CHUNKS, corner, select_chunks

# What it warns of is raised as an ImageError, or no harm.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_EXTRAS = {"HEIF": decode_heif, "JXL": decode_jxl, "RAW": decode_raw}
_MODES = {"1": "L", "La": "LA", "RGBX": "RGB", "RGBa": "RGBA", "YCbCr": "RGB"}  # to be converted


@dataclass(frozen=True)
class ImageData:
    """What an image file holds.

    Args:
        pixels: H×W×C, upright, uint8 or uint16; C is 1 for grey, 3 for RGB.
        alpha: H×W of the same type, 0 for transparent; None where there is none.
        metadata: from `read_image`; what is said there of orientation is that the image is upright.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = field(default_factory=Metadata)


def read_rgb(path: StrPath) -> np.ndarray:
    """Read an image as uint8 H×W×3, RGB.

    Grey and palette images become RGB, alpha is dropped, CMYK is converted, the EXIF orientation is applied, 16-bit
    values v become round(v / 257).

    Raises:
        ImageError: the file is missing, empty, truncated, damaged, not an image, or larger than MAX_PIXELS.
    """
    return read_rgb_crop(path, 0, 0, LONGEST_SIDE, LONGEST_SIDE)


def read_rgb_crop(path: StrPath, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Read a part of an image: `read_rgb(path)[top : top + height, left : left + width]`, of a PNG in half the time.

    Raises:
        ImageError: as by `read_rgb`; damage outside the part is found only where the file's checksums show it.
    """
    path = Path(path)
    data, head = load_file(path)
    bottom, right = min(top + height, head.height), min(left + width, head.width)
    with refuse_damage(path):
        _check(data, head)
        small = bottom * right < 0.9 * head.height * head.width
        if head.kind == "PNG" and head.orientation == 1 and small and (cut := corner(data, bottom, right)):
            data, head = cut, replace(head, height=bottom, width=right)
        pixels = _decode_rgb(data, head)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def image_size(path: StrPath, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width of an upright image, from the file's header alone; raises ImageError as `read_image` does."""
    return read_header(Path(path), max_pixels).upright_size


def read_image(path: StrPath, max_pixels: int = MAX_PIXELS, stream: BinaryIO | None = None) -> ImageData:
    """Read an image as it is in the file, upright; or in an open `stream`, which `path` names in errors.

    Samples of up to 8 bits become uint8, those of more uint16, stretched to its range. A camera's raw is developed by
    LibRaw to sRGB of 16 bits, in the white that the camera measured. Of several pages or views, the first is read;
    `metadata.left` tells what does not go along. Palettes become RGB, CMYK becomes sRGB of 8 bits by the
    file's profile, which then does not go along; a colour that the file calls transparent, and a palette's
    transparency, become an alpha. An alpha that is multiplied into the colours is taken out of them.

    Raises:
        ImageError: the file is missing, empty, truncated, damaged, not an image, animated, or larger than `max_pixels`,
            or than what its kind may have where it takes more memory (docs/restoring.md); its samples are not whole
            numbers of up to 16 bits, or the library for its kind is absent.
    """
    path = Path(path)
    data, head = load_file(path, max_pixels, stream)
    with refuse_damage(path):
        _check(data, head)
        count = count_images(data, head)
        if count > 1 and head.kind not in ("TIFF", "MPO"):
            raise ImageError(f"{path} has {count} frames, of which one would remain; save them as files of their own.")
        pixels, alpha, notes = _decode_samples(data, head)
        return ImageData(pixels, alpha, read_metadata(data, head, notes))


def _check(data: bytes, head: Header) -> None:
    """Raises for what is not decoded, and where a file's own marks show damage that decoders pass over."""
    if head.refusal:
        raise ValueError(head.refusal)
    if head.kind == "PNG":
        with open_by_pillow(data) as picture:
            picture.verify()  # checksums: libpng would print what it finds to stderr


def _decode_rgb(data: bytes, head: Header) -> np.ndarray:
    """uint8 H×W×3 RGB, upright; 16-bit values v become round(v / 257), alpha is dropped."""
    if (head.kind == "PNG" and head.mode not in ("P", "1")) or (head.kind in ("JPEG", "MPO") and head.mode != "CMYK"):
        with contextlib.suppress(ValueError):  # where libpng is stricter than Pillow, by which `read_image` goes
            return _upright(to_8_bits(_by_opencv(data, replace(head, mode="RGB"))), head)
    pixels = to_8_bits(_decode_samples(data, head)[0])
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def _decode_samples(data: bytes, head: Header) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
    """H×W×C, grey or RGB, and H×W alpha or None; uint8 or uint16 as in the file, upright. The third is what the
    libraries of `extras` find beside the pixels."""
    notes = {}
    if head.kind in _EXTRAS:
        stored, notes = _EXTRAS[head.kind](data)
    elif head.decoder == "tifffile":
        stored = _by_tifffile(data)[..., : (1 if head.grey else 3) + head.alpha]
    elif head.decoder == "opencv":
        stored = _by_opencv(data, head)
    else:
        stored = _by_pillow(data, head)
    stored = _upright(stored, head)
    if head.inverted:
        count = stored.shape[2] - head.alpha
        stored[..., :count] = np.iinfo(stored.dtype).max - stored[..., :count]
    if head.multiplied:
        divide_by_alpha(stored)
    if stored.shape[2] in (1, 3):
        return stored, _keyed(stored, head, data), notes
    pixels, alpha = split_alpha(stored)
    return pixels, None if head.kind == "BMP" and not alpha.any() else alpha, notes  # many programs leave it at zero


def _upright(pixels: np.ndarray, head: Header) -> np.ndarray:
    """H×W×C by its EXIF orientation (Exif 2.32, tag 274), unless its decoder has turned it; contiguous. Raises where
    the pixels are not what the header says."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its samples are {pixels.dtype}, whole numbers of 8 or 16 bits are read")
    if pixels.shape[:2] != (head.upright_size if head.turned else (head.height, head.width)):
        raise ValueError("its header and its pixels differ in size")
    if not head.turned:
        if head.orientation >= 5:
            pixels = pixels.transpose(1, 0, 2)
        if head.orientation in (2, 3, 6, 7):
            pixels = pixels[:, ::-1]
        if head.orientation in (3, 4, 7, 8):
            pixels = pixels[::-1]
    if any(stride < 0 for stride in pixels.strides):
        return pixels.copy()  # NumPy calls a single row contiguous whichever way it is walked
    return np.ascontiguousarray(pixels)


def _by_tifffile(data: bytes) -> np.ndarray:
    """A TIFF's first page as stored, H×W×C, not turned."""
    with TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0].aspage()
        pixels = page.asarray(maxworkers=1)
        if int(page.planarconfig) == 2 and pixels.ndim == 3:
            pixels = pixels.transpose(1, 2, 0)
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1))


def _by_opencv(data: bytes, head: Header) -> np.ndarray:
    """H×W×C, not turned (a TIFF is): grey or RGB, and alpha where there is one; uint16 where there are over 8 bits."""
    flags = (cv2.IMREAD_GRAYSCALE if head.grey else cv2.IMREAD_COLOR) | cv2.IMREAD_ANYDEPTH
    flags = cv2.IMREAD_UNCHANGED if head.alpha else flags | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(_pixels_alone(data, head), np.uint8), flags)
    if pixels is None:
        raise ValueError("its pixels cannot be decoded")
    if head.alpha and (pixels.ndim != 3 or pixels.shape[2] != 4):
        raise ValueError(f"{pixels.shape} values were decoded")
    if not head.grey:
        bgr_to_rgb(pixels)
    elif head.alpha:
        pixels = pixels[..., [0, 3]]
    else:
        pixels = pixels[..., None]
    most = _ppm_white(data) if head.kind == "PPM" else (1 << head.bits) - 1
    return stretch(pixels, most) if pixels.dtype == np.uint16 and 0 < most < 65535 else pixels


def _ppm_white(data: bytes) -> int:
    """What a PPM or PGM calls white; 0 where that is usual."""
    with open_by_pillow(data) as picture:
        decoding = picture.tile[0][3]  # type: ignore[attr-defined]
        return int(decoding[-1]) if isinstance(decoding, tuple) else 0


def _by_pillow(data: bytes, head: Header) -> np.ndarray:
    """uint8 H×W×C."""
    with open_by_pillow(_pixels_alone(data, head)) as picture:
        if picture.mode in ("P", "PA"):
            transparent = picture.mode == "PA" or "transparency" in picture.info
            converted = picture.convert("RGBA" if transparent else "RGB")
        elif picture.mode == "CMYK":
            picture.load()
            converted = cmyk_to_rgb(picture)
        else:
            picture.info.pop("transparency", None)  # see _keyed
            wanted = _MODES.get(picture.mode, picture.mode)
            converted = picture if wanted == picture.mode else picture.convert(wanted)
        if converted.mode not in ("L", "LA", "RGB", "RGBA"):
            raise ValueError(f"its pixels are of the kind {picture.mode}")
        return to_array(converted)


def _pixels_alone(data: bytes, head: Header) -> bytes:
    """The file without what decoders would complain about."""
    return select_chunks(data, PIXEL_CHUNKS) if head.kind == "PNG" else data


def _keyed(pixels: np.ndarray, head: Header, data: bytes) -> np.ndarray | None:
    """The alpha of a PNG that names one grey or colour as transparent."""
    if head.kind != "PNG" or head.mode == "P":
        return None
    with open_by_pillow(data) as picture:
        key = picture.info.get("transparency")
    if key is None:
        return None
    stretched = 255 // (2**head.bits - 1) if head.bits in (2, 4) else 1  # Pillow stretches a single bit's
    key = tuple(stretched * value for value in (key if isinstance(key, tuple) else (key,)))
    opaque = 255 - cv2.inRange(pixels, key, key)
    return opaque.astype(pixels.dtype) * (np.iinfo(pixels.dtype).max // 255)
