"""Image files to arrays: as uint8 RGB, which training and scoring see, or with all that is in the file."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from mhnet.core.files import StrPath
from mhnet.images.decode import check, decode_rgb, decode_samples
from mhnet.images.header import (
    MAX_PIXELS,
    Header,
    ImageError,
    count_images,
    load_file,
    load_stream,
    read_header,
    refuse_damage,
)
from mhnet.images.metadata import Metadata, read_metadata
from mhnet.images.png import corner


class ImageInfo(NamedTuple):
    """What a file says of its image: height and width when upright, and Pillow's name for the kind of its pixels."""

    height: int
    width: int
    mode: str

    @property
    def in_colour(self) -> bool:
        """Whether the file holds colours (a palette's entries among them), not grey alone."""
        return self.mode not in ("1", "L", "LA", "La", "I", "F") and not self.mode.startswith("I;16")


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
    return _read_rgb(Path(path), None)


def read_rgb_crop(path: StrPath, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Read a part of an image: `read_rgb(path)[top : top + height, left : left + width]`, of a PNG in half the time.

    Raises:
        ImageError: as by `read_rgb`; damage outside the part is found only where the file's checksums show it.
    """
    return _read_rgb(Path(path), (top, left, height, width))


def _read_rgb(path: Path, box: tuple[int, int, int, int] | None) -> np.ndarray:
    data, head = load_file(path)
    top, left, height, width = box or (0, 0, head.height, head.width)
    with refuse_damage(path):
        check(data, head)
        if head.kind == "PNG" and head.orientation == 1:
            bottom, right = min(top + height, head.height), min(left + width, head.width)
            if bottom * right < 0.9 * head.height * head.width and (cut := corner(data, bottom, right)):
                data, head = cut, replace(head, height=bottom, width=right)
        pixels = decode_rgb(data, head)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width]) if box else pixels


def image_info(path: StrPath) -> ImageInfo:
    """What a file says of its image before the pixels; raises ImageError as `read_rgb` does."""
    head = read_header(Path(path))
    return ImageInfo(*head.upright_size, head.mode)


def image_size(path: StrPath, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width of an upright image, from the file's header alone; raises ImageError as `read_image` does."""
    return read_header(Path(path), max_pixels).upright_size


def read_image(path: StrPath, max_pixels: int = MAX_PIXELS) -> ImageData:
    """Read an image as it is in the file, upright.

    Samples of up to 8 bits become uint8, those of more uint16, stretched to its range. A camera's raw is developed by
    LibRaw to sRGB of 16 bits, in the white that the camera measured. Of several pages or views, the first is read;
    `metadata.left` tells what does not go along. Palettes become RGB, CMYK becomes sRGB of 8 bits by the
    file's profile, which then does not go along; a colour that the file calls transparent, and a palette's
    transparency, become an alpha. An alpha that is multiplied into the colours is taken out of them.

    Raises:
        ImageError: the file is missing, empty, truncated, damaged, not an image, animated, or larger than `max_pixels`
            (HEIC, AVIF and JPEG XL: than a third of them; with more than 8 bits and an alpha: than three quarters), its
            samples are not whole numbers of up to 16 bits, or the library for its kind is absent.
    """
    path = Path(path)
    return _decoded(path, *load_file(path, max_pixels))


def read_image_stream(path: StrPath, stream: BinaryIO, length: int, max_pixels: int = MAX_PIXELS) -> ImageData:
    """What `read_image` gives, of an open file of so many bytes that lies elsewhere; `path` names it in errors."""
    path = Path(path)
    return _decoded(path, *load_stream(path, stream, length, max_pixels))


def _decoded(path: Path, data: bytes, head: Header) -> ImageData:
    with refuse_damage(path):
        check(data, head)
        count = count_images(data, head)
        if count > 1 and head.kind != "TIFF":
            raise ImageError(f"{path} has {count} frames, of which one would remain; save them as files of their own.")
        pixels, alpha, notes = decode_samples(data, head)
        return ImageData(pixels, alpha, read_metadata(data, head, notes))
