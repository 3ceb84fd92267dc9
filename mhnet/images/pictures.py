"""Image files kept as they are: their depth, their grey or colours, their alpha, and what is said beside the pixels.

`mhnet.images.rgb` reads the same files as uint8 RGB, which is what training and scoring need.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mhnet.images import decode, encode, metadata
from mhnet.images.header import Header, ImageError, damage, load, loaded
from mhnet.images.metadata import Metadata
from mhnet.images.rgb import StrPath

__all__ = ["Metadata", "Picture", "encoded", "losses", "read", "read_stream", "write"]


@dataclass(frozen=True)
class Picture:
    """An image and what goes along with it.

    Args:
        pixels: H×W×C, upright, uint8 or uint16; C is 1 for grey, 3 for RGB.
        alpha: H×W of the same type, 0 for transparent; None where there is none.
        metadata: from `read`; what is said there of orientation is that the image is upright.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = field(default_factory=Metadata)


def read(path: StrPath) -> Picture:
    """Read an image as it is in the file, upright.

    Samples of up to 8 bits become uint8, those of 16 uint16. Palettes become RGB, CMYK becomes sRGB of 8 bits by the
    file's profile, which then does not go along; a colour that the file calls transparent, and a palette's
    transparency, become an alpha. An alpha that is multiplied into the colours is taken out of them.

    Raises ImageError for a file that is missing, empty, truncated, damaged, not an image, larger than
    `images.MAX_PIXELS`, animated or of several pages, or with samples that are not whole numbers of up to 16 bits.
    """
    path = Path(path)
    return _decoded(path, *load(path))


def read_stream(path: StrPath, stream: BinaryIO, length: int) -> Picture:
    """What `read` gives, of an open file of so many bytes that lies elsewhere; `path` names it in errors."""
    path = Path(path)
    return _decoded(path, *loaded(path, stream, length))


def _decoded(path: Path, data: bytes, head: Header) -> Picture:
    with damage(path):
        decode.check(data, head)
        count = decode.pages(data, head)
        if count > 1:
            what = "pages" if head.kind == "TIFF" else "frames"
            raise ImageError(f"{path} has {count} {what}, of which one would remain; save them as files of their own.")
        notes = metadata.read(data, head)
        pixels, alpha = decode.samples(data, head)
    return Picture(pixels, alpha, notes)


def write(path: StrPath, picture: Picture) -> None:
    """Write a picture, whole or not at all, in the format of the path's extension.

    PNG and TIFF hold everything but what only the other has room for: texts and the meaning of a PNG's numbers stay
    among PNGs, IPTC among JPEGs and TIFFs. JPEG, WebP and BMP hold 8 bits: 16-bit values v become round(v / 257). JPEG
    and BMP have no alpha: transparent parts are laid on white. WebP has no grey, and is lossless unless the picture
    came from a lossy file; JPEG has quality 95 without chroma subsampling. BMP holds no metadata but the resolution.

    Missing parent folders are made; a file of that name is replaced. Raises ImageError for another type or shape, an
    unknown extension, and when the system refuses.
    """
    path = Path(path)
    _check(path, picture)
    encode.save(path, picture.pixels, picture.alpha, picture.metadata)


def encoded(path: StrPath, picture: Picture) -> bytes:
    """The bytes that `write` would put into a file of that name; raises ImageError as it does."""
    path = Path(path)
    _check(path, picture)
    return b"".join(encode.encoded(path, picture.pixels, picture.alpha, picture.metadata))


def _check(path: Path, picture: Picture) -> None:
    """Raises ImageError for another type or shape than pictures have."""
    pixels, alpha = picture.pixels, picture.alpha
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ImageError(f"{path} cannot hold {pixels.dtype} {pixels.shape}; a picture is uint8 or uint16, H×W×1 or 3.")
    if alpha is not None and (alpha.dtype != pixels.dtype or alpha.shape != pixels.shape[:2]):
        wanted = f"{pixels.dtype} {pixels.shape[:2]}"
        raise ImageError(f"{path} cannot hold an alpha of {alpha.dtype} {alpha.shape}; its pixels need {wanted}.")


def losses(path: StrPath, picture: Picture) -> list[str]:
    """What of a picture's pixels `write` cannot keep in a format, as sentences."""
    extension, lost = Path(path).suffix.lower(), []
    if picture.pixels.dtype == np.uint16 and extension not in (".png", ".tif", ".tiff"):
        lost.append(f"{extension} holds 8 of its 16 bits; .png and .tif hold all.")
    if picture.alpha is not None and extension in (".jpg", ".jpeg", ".bmp"):
        lost.append(f"{extension} holds no transparency: it was laid on white; .png, .tif and .webp hold it.")
    return lost
