"""Arrays to image files: uint8 RGB, or an image with its depth, its alpha, and what is said beside the pixels."""

import io
import os
import struct
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from mhnet.core.files import StrPath, replacing
from mhnet.images.colours import is_srgb
from mhnet.images.encode import Parts, encode
from mhnet.images.extras import iterate_boxes
from mhnet.images.header import HUNGRIEST, ImageError, header_of, open_by_pillow
from mhnet.images.kinds import KIND_OF_EXTENSION, KINDS, WRITTEN_EXTENSIONS
from mhnet.images.read import ImageData

_USUAL_COLOURS = ((1, 1), (1, 2), (1, 6), (1, 13), (2, 2), (5, 13), (6, 13))  # sRGB's, or nearly (ITU-T H.273)
_NAMES_COLOURS = (".png", ".heic", ".heif", ".hif", ".avif")
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "PNG": 1_000_000, "HEIF": 32768, "AVIF": 65536}


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
    among PNGs, IPTC among JPEGs and TIFFs. HEIC holds 10 bits, AVIF 12; JPEG, WebP, JPEG XL and BMP hold 8: 16-bit
    values v become round(v / 257). JPEG and BMP have no alpha: transparent parts are laid on white. WebP has no grey;
    it and JPEG XL are lossless unless the image came from a lossy file; the others have quality 95. BMP holds no
    metadata but the resolution, JPEG XL no colour profile: its colours become sRGB. `losses` tells what of this
    happens.

    Missing parent folders are made; a file of that name is replaced once what was written can be read again.

    Raises:
        ImageError: another type or shape, an unknown extension, more pixels than the format holds, or the system
            refuses.
    """
    path = Path(path)
    parts = _encoded(path, image)
    try:
        with replacing(path) as part, part.open("wb+") as file:
            file.writelines(parts)
            check_written(path, file, image.pixels.shape[:2])
    except OSError as error:
        raise ImageError(f"{path} cannot be written ({error.strerror}); choose another place.") from error


def encode_image(path: StrPath, image: ImageData) -> bytes:
    """The bytes that `write_image` would put into a file of that name; raises ImageError as it does."""
    path = Path(path)
    data = b"".join(_encoded(path, image))
    check_written(path, io.BytesIO(data), image.pixels.shape[:2])
    return data


def losses(path: StrPath, image: ImageData) -> list[str]:
    """What of a file that was read does not come along when `write_image` writes it to this name, as sentences."""
    extension, lost = Path(path).suffix.lower(), list(image.metadata.left)
    kind, was = KINDS[KIND_OF_EXTENSION[extension]], KINDS.get(image.metadata.kind)
    if was and not was.bits and extension == was.written and image.metadata.kind != "MPO":  # which is a JPEG
        lost.append(f"It is written as {extension}, because files of its kind ({was.extensions[0]}) are not.")
    depth = max(image.metadata.depth, 8 * image.pixels.itemsize) if not image.metadata.kind else image.metadata.depth
    if image.pixels.dtype == np.uint16 and kind.bits < depth:
        lost.append(f"{extension} holds {kind.bits} of its {depth} bits; .png and .tif hold all.")
    if image.alpha is not None and not kind.alpha:
        lost.append(f"{extension} holds no transparency: it was laid on white; .png, .tif and .webp hold it.")
    if kind is KINDS["JXL"] and image.metadata.profile and not is_srgb(image.metadata.profile):
        lost.append(f"{extension} is written without a colour profile: its colours became sRGB.")
    named = image.metadata.codes and image.metadata.codes[:2] not in _USUAL_COLOURS and not image.metadata.profile
    if named and extension not in _NAMES_COLOURS:
        lost.append(f"{extension} does not name its colours' primaries and transfer; .png, .heic and .avif do.")
    return lost


def check_written(path: StrPath, stream: BinaryIO, size: tuple[int, int]) -> None:
    """ImageError, which names `path`, where an open file, just written, cannot be read again: header, height and width,
    completeness, a PNG's checksums."""
    path, length = Path(path), stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = header_of(path, stream, size[0] * size[1] * HUNGRIEST)
    try:
        if head.refusal or head.upright_size != tuple(size):
            raise ValueError(head.refusal or f"its header says {head.upright_size}")
        if not _is_whole(head.kind, stream, length):
            raise ValueError("it is cut off")
    except Exception as error:
        message = f"{path} could not be written so that it can be read again ({error}); use another kind."
        raise ImageError(message) from error


def _is_whole(kind: str, stream: BinaryIO, length: int) -> bool:
    """Whether nothing is missing at a file's end; raises for a PNG's wrong checksum."""
    stream.seek(0)
    match kind:
        case "PNG":
            open_by_pillow(stream).verify()
        case "WEBP":
            return struct.unpack("<4xI", stream.read(8))[0] + 8 == length
        case "BMP":
            return struct.unpack("<2xI", stream.read(6))[0] == length
        case "JPEG":
            stream.seek(-2, os.SEEK_END)
            return stream.read() == b"\xff\xd9"
        case "HEIF" | "AVIF" | "JXL":
            data = stream.read()
            filled = sum(8 + len(content) for _, content in iterate_boxes(data))
            return data[:2] == b"\xff\x0a" or filled >= length - 8
    return True  # a TIFF's header shows it


def _encoded(path: Path, image: ImageData) -> Parts:
    """The bytes, in parts, of a file of that name."""
    pixels, alpha = image.pixels, image.alpha
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ImageError(f"{path} cannot hold {pixels.dtype} {pixels.shape}; an image is uint8 or uint16, H×W×1 or 3.")
    if alpha is not None and (alpha.dtype != pixels.dtype or alpha.shape != pixels.shape[:2]):
        wanted = f"{pixels.dtype} {pixels.shape[:2]}"
        raise ImageError(f"{path} cannot hold an alpha of {alpha.dtype} {alpha.shape}; its pixels need {wanted}.")
    extension, shape = path.suffix.lower(), f"{pixels.shape[0]}×{pixels.shape[1]} pixels"
    if extension not in WRITTEN_EXTENSIONS:
        names = ", ".join(sorted(WRITTEN_EXTENSIONS))
        raise ImageError(f"{path} has no extension of an image that is written; use one of {names}.")
    if pixels.size == 0:
        raise ImageError(f"{path} cannot hold {shape}; an image has at least one.")
    kind = KIND_OF_EXTENSION[extension]
    most = _LONGEST_SIDE.get(kind)
    if most and max(pixels.shape[:2]) > most:
        raise ImageError(f"{path} cannot hold {shape}: its format has at most {most} a side; use .tif.")
    try:
        return encode(kind, pixels, alpha, image.metadata)
    except ImportError as error:
        raise ImageError(f"{path} needs {error.name}; pip install 'mhnet[photos]' brings it.") from error
    except (OSError, ValueError, SystemError, RuntimeError, struct.error, OverflowError, cv2.error) as error:
        raise ImageError(f"{path} cannot hold {shape} ({error}); use .png.") from error
