"""Colours from one form to another: CMYK, alpha, 16 bits, and which profile belongs to which."""

import contextlib
import io

import cv2
import numpy as np
from PIL import Image

_STRIP = 256  # rows at a time, so that wider numbers take little memory
_BLACK_POINT_COMPENSATION = 0x2000


def cmyk_to_rgb(picture: Image.Image) -> Image.Image:
    """To sRGB by the picture's profile, relative to white and black as printers do; without one by 255 − ink."""
    profile = picture.info.get("icc_profile")
    if profile and profile_space(profile) == "CMYK":
        with contextlib.suppress(Exception):  # a build without LittleCMS, or a damaged profile
            from PIL import ImageCms

            source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
            flags = ImageCms.Flags(_BLACK_POINT_COMPENSATION)
            converted = ImageCms.profileToProfile(picture, source, target, intent, "RGB", flags=flags)
            if converted is not None:
                return converted
    return picture.convert("RGB")


def bgr_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """OpenCV's order of H×W×3 or 4 samples to the usual one, in place."""
    order = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    for top in range(0, len(pixels), _STRIP):
        cv2.cvtColor(pixels[top : top + _STRIP], order, dst=pixels[top : top + _STRIP])
    return pixels


def profile_space(profile: bytes) -> str:
    """The colours that an ICC profile describes: 'RGB', 'GRAY', 'CMYK', … (ICC.1:2022, 7.2.6); '' for no profile."""
    if len(profile) < 128 or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("ascii", "replace").strip()


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile calls itself one of sRGB, as libraries and cameras do."""
    with contextlib.suppress(Exception):  # what is damaged is none
        from PIL import ImageCms

        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        return "sRGB" in name or "D65_SRG_Rel_SRG" in name  # the latter is libjxl's
    return False


def to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """An L or RGB picture from its profile's colours to sRGB; as it is where the profile is damaged."""
    with contextlib.suppress(Exception):
        from PIL import ImageCms

        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, source, target, outputMode="RGB") or picture
    return picture


def to_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """uint16 numbers of 16 bits to numbers of so many: v to round(v · (2^bits − 1) / 65535)."""
    return cv2.addWeighted(pixels, ((1 << bits) - 1) / 65535, pixels, 0, 0).reshape(pixels.shape)


def to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """16-bit values v to round(v / 257); 8-bit ones as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    return cv2.convertScaleAbs(pixels, alpha=1 / 257).reshape(pixels.shape)


def stretch(pixels: np.ndarray, bits: int) -> np.ndarray:
    """uint16 numbers of so many bits to numbers of 16, in place: v to round(v · 65535 / (2^bits − 1))."""
    most = (1 << bits) - 1
    for top in range(0, len(pixels), _STRIP):
        pixels[top : top + _STRIP] = (pixels[top : top + _STRIP].astype(np.uint32) * 65535 + most // 2) // most
    return pixels


def divide_by_alpha(pixels: np.ndarray) -> None:
    """Takes the last sample, an alpha, out of the others, which it is multiplied into; H×W×C, in place."""
    most = int(np.iinfo(pixels.dtype).max)
    for top in range(0, len(pixels), _STRIP):
        strip = pixels[top : top + _STRIP]
        alpha = strip[..., -1:].astype(np.uint32)
        colours = (strip[..., :-1].astype(np.uint32) * most + alpha // 2) // np.maximum(alpha, 1)
        strip[..., :-1] = np.minimum(colours, most)


def split_alpha(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H×W×C whose last sample is an alpha → the others and the alpha. Uses up what it is given.

    The others are moved together in the memory that they are in: a copy of the largest images would take gigabytes.
    """
    height, width, count = stored.shape
    alpha = stored[..., -1].copy()
    others = stored.reshape(-1)[: height * width * (count - 1)].reshape(height, width, count - 1)
    for top in range(0, height, _STRIP):
        others[top : top + _STRIP] = stored[top : top + _STRIP, :, :-1]  # which lie behind, never before
    return others, alpha


def key_to_alpha(pixels: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    """H×W alpha of H×W×C pixels: 0 where all samples are the key's, the largest number elsewhere."""
    opaque = 255 - cv2.inRange(pixels, key, key)
    return opaque.astype(pixels.dtype) * (np.iinfo(pixels.dtype).max // 255)


def over_white(picture: Image.Image, alpha: np.ndarray) -> Image.Image:
    """A picture on white, as transparent as the uint8 H×W alpha says."""
    flat = Image.new(picture.mode, picture.size, "white")
    flat.paste(picture, mask=Image.fromarray(alpha))
    return flat
