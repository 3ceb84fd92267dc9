"""Rain and camera shake for sharp photographs, drawn at random: training pairs without a data set.

    rainy = rain(image, np.random.default_rng(0))
    shaken = blur(image, np.random.default_rng(0), severity=(0.5, 1.0))

The sharp image is the target: the degraded one stays aligned with it. Each degradation is two steps, for those who
want to write down what was done: `RainParameters.draw` and `BlurParameters.draw` choose numbers, `render` applies
them and depends on nothing but those numbers and the image.

Lengths are in pixels, made for photographs of 320 to 1000 pixels, and do not depend on the image's size, so that a
patch looks like a cut from a degraded photograph.
"""

from typing import Any

import numpy as np

from mhnet.data.blur import BlurParameters
from mhnet.data.camera import CameraParameters
from mhnet.data.filmed import FilmedRainParameters
from mhnet.data.rain import RainParameters, Range

Parameters = type[RainParameters] | type[BlurParameters] | type[FilmedRainParameters] | type[CameraParameters]
Sides = tuple[np.ndarray, np.ndarray]


def rain(image: np.ndarray, random: np.random.Generator, *, severity: Range = (0.0, 1.0)) -> np.ndarray:
    """Return the image in the rain: 1 to 4 layers of streaks, and haze.

    Args:
        image: uint8 H×W×3, RGB; it is not changed.
        random: where all randomness comes from; the same state gives the same bytes.
        severity: range in [0, 1] that the severity is drawn from; 0 is light rain (about 32 dB), 1 heavy (13 dB).

    Raises:
        ValueError: the image is not uint8 H×W×3, or the range is not one within [0, 1].
    """
    return _degraded(RainParameters, image, random, severity)


def blur(image: np.ndarray, random: np.random.Generator, *, severity: Range = (0.0, 1.0)) -> np.ndarray:
    """Return the image as a shaken camera sees it, sometimes with a region that moves by itself.

    Args:
        image: uint8 H×W×3, RGB; it is not changed.
        random: where all randomness comes from; the same state gives the same bytes.
        severity: range in [0, 1] that the severity is drawn from; 0 is a shake of a pixel or two, 1 of about 35.

    Raises:
        ValueError: the image is not uint8 H×W×3, or the range is not one within [0, 1].
    """
    return _degraded(BlurParameters, image, random, severity)


def filmed_rain(image: np.ndarray, random: np.random.Generator, *, severity: Range = (0.0, 1.0)) -> Sides:
    """Return the image in rain as cameras film it, and as the same camera sees it without: both with its exposure,
    noise and compression, which are not to be removed. Arguments and errors as of `rain`; severity is how much falls.
    """
    return _degraded(FilmedRainParameters, image, random, severity)


def untouched(image: np.ndarray, random: np.random.Generator, *, severity: Range = (0.0, 1.0)) -> Sides:
    """Return the image twice, as some camera takes it: there is nothing to remove, though it may be foggy, noisy or
    compressed. Arguments and errors as of `rain`; severity is the share of images that are noisy, and so on."""
    return _degraded(CameraParameters, image, random, severity)


def _degraded(kind: Parameters, image: np.ndarray, random: np.random.Generator, severity: Range) -> Any:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"The image must be uint8 H×W×3 and not empty, not {image.dtype} of shape {image.shape}.")
    if len(severity) != 2 or not 0 <= severity[0] <= severity[1] <= 1:
        raise ValueError(f"severity must be a range (low, high) with 0 ≤ low ≤ high ≤ 1, not {severity}.")
    return kind.draw(random, random.uniform(*severity)).render(np.ascontiguousarray(image))
