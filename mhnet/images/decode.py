"""A file's bytes to pixels.

OpenCV decodes JPEG, PNG and nearly everything with 16 bits: it is faster than Pillow, which also cuts 16-bit colour to
8 bits. Pillow decodes the rest, tifffile the 16-bit TIFFs that neither reads.
"""

import contextlib
import io
from collections.abc import Iterator

import cv2
import numpy as np

from mhnet.images import png, tiff
from mhnet.images.colours import cmyk_to_rgb, divided_by_alpha, to_8_bits
from mhnet.images.header import Header, by_pillow

_JPEG_END = b"\xff\xd9"
_PLAIN = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA", "RGBa": "RGBA",
          "YCbCr": "RGB"}  # fmt: skip


def check(data: bytes, head: Header) -> None:
    """Raises for what is not decoded, and where a file's own marks show damage that decoders pass over."""
    if head.refusal:
        raise ValueError(head.refusal)
    if head.kind == "PNG":
        with by_pillow(io.BytesIO(data)) as picture:
            picture.verify()  # checksums: libpng would print what it finds to stderr
    elif head.kind in ("JPEG", "MPO") and data.find(_JPEG_END, head.end) < 0:
        raise OSError("image file is truncated")  # OpenCV before 4.11 fills the rest with grey


def rgb8(data: bytes, head: Header) -> np.ndarray:
    """uint8 H×W×3 RGB, upright; 16-bit values v become round(v / 257), alpha is dropped."""
    if head.decoder == "opencv" and head.mode not in ("P", "1") and not (head.inverted or head.multiplied):
        pixels = to_8_bits(_opencv(data, cv2.IMREAD_COLOR))
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
        _expect(pixels, head)
        return pixels if head.turned else upright(pixels, head.orientation)
    pixels = to_8_bits(samples(data, head)[0])
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def samples(data: bytes, head: Header) -> tuple[np.ndarray, np.ndarray | None]:
    """H×W×C, grey or RGB, and H×W alpha or None; uint8 or uint16 as in the file, upright."""
    if head.decoder == "tifffile":
        stored = tiff.samples(data)[..., : (1 if head.grey else 3) + head.alpha]
    elif head.decoder == "opencv" and head.mode not in ("P", "1"):
        stored = _from_opencv(data, head)
    else:
        stored = _from_pillow(data)
    _expect(stored, head)
    if not head.turned:
        stored = upright(stored, head.orientation)
    if head.inverted:
        count = stored.shape[2] - head.alpha
        stored[..., :count] = np.iinfo(stored.dtype).max - stored[..., :count]
    if head.multiplied:
        stored = divided_by_alpha(stored)
    if stored.shape[2] in (1, 3):
        return stored, _keyed(stored, head, data)
    pixels, alpha = np.ascontiguousarray(stored[..., :-1]), np.ascontiguousarray(stored[..., -1])
    return pixels, None if head.kind == "BMP" and not alpha.any() else alpha  # many programs leave it at zero


def pages(data: bytes, head: Header) -> int:
    """How many images a file holds; smaller copies of the first and the further views of a phone are not counted."""
    if head.kind == "TIFF":
        return tiff.pages(data)
    if head.kind in ("JPEG", "MPO"):
        return 1
    with by_pillow(io.BytesIO(data)) as picture:
        return getattr(picture, "n_frames", 1)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (Exif 2.32, tag 274) to H×W×C."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _expect(pixels: np.ndarray, head: Header) -> None:
    """Raises where pixels that were just decoded are not what the header says."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its samples are {pixels.dtype}, whole numbers of 8 or 16 bits are read")
    size = head.upright_size if head.turned else (head.height, head.width)
    if pixels.shape[:2] != size:
        raise ValueError("its header and its pixels differ in size")


def _opencv(data: bytes, flags: int) -> np.ndarray:
    """JPEG, PNG or 16-bit TIFF bytes to what the flags ask for, not turned (a TIFF is), in the order BGR."""
    flags |= 0 if flags == cv2.IMREAD_UNCHANGED else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    with _silent_opencv():
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError("its pixels cannot be decoded")
    return pixels


def _from_opencv(data: bytes, head: Header) -> np.ndarray:
    """H×W×C: grey or RGB, and alpha where there is one."""
    if head.alpha:
        pixels = _opencv(data, cv2.IMREAD_UNCHANGED)
        if pixels.ndim != 3 or pixels.shape[2] != 4:
            raise ValueError(f"{pixels.shape} values were decoded")
        return pixels[..., [0, 3]] if head.grey else cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA, dst=pixels)
    if head.grey:
        return _opencv(data, cv2.IMREAD_GRAYSCALE)[..., None]
    pixels = _opencv(data, cv2.IMREAD_COLOR)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def _from_pillow(data: bytes) -> np.ndarray:
    """uint8 H×W×C of any other kind."""
    with by_pillow(io.BytesIO(data)) as picture:
        mode = picture.mode
        if mode in ("P", "PA"):
            transparent = mode == "PA" or "transparency" in picture.info
            converted = picture.convert("RGBA" if transparent else "RGB")
        elif mode == "CMYK":
            picture.load()
            converted = cmyk_to_rgb(picture)
        elif mode in _PLAIN:
            picture.info.pop("transparency", None)  # see _keyed
            converted = picture.convert(_PLAIN[mode])
        else:
            raise ValueError(f"its pixels are of the kind {mode}")
        pixels = np.array(converted)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _keyed(pixels: np.ndarray, head: Header, data: bytes) -> np.ndarray | None:
    """The alpha of a PNG that names one grey or colour as transparent."""
    if not head.keyed:
        return None
    _, content = next(png.chunks(io.BytesIO(data), (b"tRNS",)))
    key = np.frombuffer(content, ">u2")
    if head.grey and data[24] < 8:  # the bit depth: its numbers were stretched to 0 to 255
        key = key * (255 // (2 ** data[24] - 1))
    most = np.iinfo(pixels.dtype).max
    return np.where((pixels == key).all(axis=2), 0, most).astype(pixels.dtype)


@contextlib.contextmanager
def _silent_opencv() -> Iterator[None]:
    """Keep OpenCV from logging what is raised as an ImageError anyway."""
    log = getattr(cv2.utils, "logging", None)  # not in every build
    level = log.setLogLevel(log.LOG_LEVEL_SILENT) if log else None
    try:
        yield
    finally:
        if log:
            log.setLogLevel(level)
