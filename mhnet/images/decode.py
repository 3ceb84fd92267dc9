"""A file's bytes to pixels.

OpenCV decodes JPEG and PNG for training, since it is faster than Pillow, and 16-bit PNG, which Pillow cuts to 8 bits.
tifffile decodes TIFF, as far as it does so without further libraries; the libraries of `extras` decode their kinds;
OpenCV decodes what else has more than 8 bits, and Pillow the rest.
"""

import io
from typing import Any

import cv2
import numpy as np
from tifffile import TiffFile

from mhnet.images.colours import bgr_to_rgb, cmyk_to_rgb, divide_by_alpha, key_to_alpha, split_alpha, stretch, to_8_bits
from mhnet.images.extras import decode_heif, decode_jxl, decode_raw
from mhnet.images.header import Header, open_by_pillow
from mhnet.images.png import PIXEL_CHUNKS, select_chunks

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # what it warns of is raised as an ImageError, or no harm

_EXTRAS = {"HEIF": decode_heif, "JXL": decode_jxl, "RAW": decode_raw}
_MODES = {"1": "L", "La": "LA", "RGBX": "RGB", "RGBa": "RGBA", "YCbCr": "RGB"}  # to be converted


def check(data: bytes, head: Header) -> None:
    """Raises for what is not decoded, and where a file's own marks show damage that decoders pass over."""
    if head.refusal:
        raise ValueError(head.refusal)
    if head.kind == "PNG":
        with open_by_pillow(data) as picture:
            picture.verify()  # checksums: libpng would print what it finds to stderr


def decode_rgb(data: bytes, head: Header) -> np.ndarray:
    """uint8 H×W×3 RGB, upright; 16-bit values v become round(v / 257), alpha is dropped."""
    data = _pixels_alone(data, head)
    if (head.kind == "PNG" and head.mode not in ("P", "1")) or (head.kind in ("JPEG", "MPO") and head.mode != "CMYK"):
        pixels = to_8_bits(_by_opencv(data, head, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH))
        return turn_upright(_expected(bgr_to_rgb(pixels), head), head)
    pixels = to_8_bits(decode_samples(data, head)[0])
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def decode_samples(data: bytes, head: Header) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
    """H×W×C, grey or RGB, and H×W alpha or None; uint8 or uint16 as in the file, upright.

    The third is what the libraries of `extras` find beside the pixels.
    """
    data, notes = _pixels_alone(data, head), {}
    if head.kind in _EXTRAS:
        stored, notes = _EXTRAS[head.kind](data)
    elif head.decoder == "tifffile":
        stored = _by_tifffile(data)[..., : (1 if head.grey else 3) + head.alpha]
    elif head.decoder == "opencv":
        stored = _samples_by_opencv(data, head)
    else:
        stored = _by_pillow(data)
    stored = turn_upright(_expected(stored, head), head)
    if head.inverted:
        count = stored.shape[2] - head.alpha
        stored[..., :count] = np.iinfo(stored.dtype).max - stored[..., :count]
    if head.multiplied:
        divide_by_alpha(stored)
    if stored.shape[2] in (1, 3):
        return stored, _keyed(stored, head, data), notes
    pixels, alpha = split_alpha(stored)
    return pixels, None if head.kind == "BMP" and not alpha.any() else alpha, notes  # many programs leave it at zero


def _pixels_alone(data: bytes, head: Header) -> bytes:
    """The file without what decoders would complain about."""
    return select_chunks(data, PIXEL_CHUNKS) if head.kind == "PNG" else data


def turn_upright(pixels: np.ndarray, head: Header) -> np.ndarray:
    """H×W×C by its EXIF orientation (Exif 2.32, tag 274), unless its decoder has turned it; contiguous."""
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


def _expected(pixels: np.ndarray, head: Header) -> np.ndarray:
    """The pixels; raises where they are not what the header says."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its samples are {pixels.dtype}, whole numbers of 8 or 16 bits are read")
    if pixels.shape[:2] != (head.upright_size if head.turned else (head.height, head.width)):
        raise ValueError("its header and its pixels differ in size")
    return pixels


def _by_tifffile(data: bytes) -> np.ndarray:
    """A TIFF's first page as stored, H×W×C, not turned."""
    with TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0].aspage()
        pixels = page.asarray(maxworkers=1)
        if int(page.planarconfig) == 2 and pixels.ndim == 3:
            pixels = pixels.transpose(1, 2, 0)
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1))


def _by_opencv(data: bytes, head: Header, flags: int) -> np.ndarray:
    """What the flags ask for, in the order BGR, not turned (a TIFF is)."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags if flags < 0 else flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("its pixels cannot be decoded")
    return pixels


def _samples_by_opencv(data: bytes, head: Header) -> np.ndarray:
    """H×W×C: grey or RGB, and alpha where there is one; uint16 where the file has more than 8 bits."""
    pixels = _grey_or_rgb(data, head)
    return stretch(pixels, head.bits) if pixels.dtype == np.uint16 and head.bits < 16 else pixels


def _grey_or_rgb(data: bytes, head: Header) -> np.ndarray:
    if head.alpha:
        pixels = _by_opencv(data, head, cv2.IMREAD_UNCHANGED)
        if pixels.ndim != 3 or pixels.shape[2] != 4:
            raise ValueError(f"{pixels.shape} values were decoded")
        return pixels[..., [0, 3]] if head.grey else bgr_to_rgb(pixels)
    if head.grey:
        return _by_opencv(data, head, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)[..., None]
    return bgr_to_rgb(_by_opencv(data, head, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH))


def _by_pillow(data: bytes) -> np.ndarray:
    """uint8 H×W×C."""
    with open_by_pillow(data) as picture:
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
        pixels = np.array(converted)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _keyed(pixels: np.ndarray, head: Header, data: bytes) -> np.ndarray | None:
    """The alpha of a PNG that names one grey or colour as transparent."""
    if head.kind != "PNG" or head.mode == "P":
        return None
    with open_by_pillow(data) as picture:
        key = picture.info.get("transparency")
    if key is None:
        return None
    stretched = 255 // (2**head.bits - 1) if head.bits in (2, 4) else 1  # Pillow stretches a single bit's
    return key_to_alpha(pixels, tuple(stretched * value for value in (key if isinstance(key, tuple) else (key,))))
