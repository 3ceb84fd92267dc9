"""Colours from one form to another: CMYK, alpha, 16 bits, and which profile belongs to which."""

import contextlib
import io
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms

_STRIP = 256  # rows at a time, so that wider numbers take little memory


def cmyk_to_rgb(picture: Image.Image) -> Image.Image:
    """To sRGB by the picture's profile, relative to white and black as printers do; without one by 255 − ink."""
    profile = picture.info.get("icc_profile", b"")
    if profile_space(profile) == "CMYK":
        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        picture = _by_profile(picture, profile, renderingIntent=intent, flags=flags)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def to_srgb(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """uint8 H×W×C, perhaps with an alpha, from its profile's colours to sRGB; as it is where the profile is damaged."""
    colours = pixels[..., : 1 if pixels.shape[2] < 3 else 3]
    converted = np.asarray(_by_profile(to_picture(colours), profile)).reshape(*pixels.shape[:2], -1)
    return np.concatenate([converted[..., : colours.shape[2]], pixels[..., colours.shape[2] :]], axis=2)  # grey stays


def _by_profile(picture: Image.Image, profile: bytes, **options: Any) -> Image.Image:
    """To sRGB; the picture itself where the profile is damaged, or this build has no LittleCMS."""
    with contextlib.suppress(Exception):
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, source, target, outputMode="RGB", **options) or picture
    return picture


def to_picture(pixels: np.ndarray) -> Image.Image:
    """uint8 H×W×C as Pillow has it."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def to_array(picture: Image.Image) -> np.ndarray:
    """uint8 H×W×C. Pillow would need twice the memory beside the result."""
    pixels = np.empty((picture.height, picture.width, len(picture.getbands())), np.uint8)
    for top in range(0, picture.height, _STRIP):
        strip = pixels[top : top + _STRIP]
        strip[...] = np.atleast_3d(np.asarray(picture.crop((0, top, picture.width, top + len(strip)))))
    return pixels


def bgr_to_rgb(pixels: np.ndarray) -> None:
    """OpenCV's order of H×W×3 or 4 samples to the usual one, in place."""
    order = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    for top in range(0, len(pixels), _STRIP):
        cv2.cvtColor(pixels[top : top + _STRIP], order, dst=pixels[top : top + _STRIP])


def profile_space(profile: bytes) -> str:
    """The colours that an ICC profile describes: 'RGB', 'GRAY', 'CMYK', … (ICC.1:2022, 7.2.6); '' for no profile."""
    if len(profile) < 128 or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("ascii", "replace").strip()


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile calls itself one of sRGB, as libraries and cameras do."""
    with contextlib.suppress(Exception):  # what is damaged is none
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        return "sRGB" in name or "D65_SRG_Rel_SRG" in name  # the latter is libjxl's
    return False


def to_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """uint16 numbers of 16 bits to numbers of so many: v to round(v · (2^bits − 1) / 65535)."""
    return cv2.addWeighted(pixels, ((1 << bits) - 1) / 65535, pixels, 0, 0).reshape(pixels.shape)


def to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """16-bit values v to round(v / 257); 8-bit ones as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    return cv2.convertScaleAbs(pixels, alpha=1 / 257).reshape(pixels.shape)


def stretch(pixels: np.ndarray, most: int) -> np.ndarray:
    """uint16 numbers of which `most` is white to numbers of 16 bits, in place: v to round(v · 65535 / most)."""
    for top in range(0, len(pixels), _STRIP):
        stretched = (pixels[top : top + _STRIP].astype(np.uint32) * 65535 + most // 2) // most
        pixels[top : top + _STRIP] = np.minimum(stretched, 65535)
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


def over_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """uint8 H×W×C on white, as transparent as the uint8 H×W alpha says."""
    picture = to_picture(pixels)
    flat = Image.new(picture.mode, picture.size, "white")
    flat.paste(picture, mask=Image.fromarray(alpha))
    return np.asarray(flat).reshape(pixels.shape)
