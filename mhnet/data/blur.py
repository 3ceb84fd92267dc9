"""Synthetic camera shake, and regions that move by themselves.

A blurred image is the mean of what the sensor saw during the exposure: the sharp image at every position along a path,
averaged in linear light. `BlurParameters.draw` chooses the motion; `render` applies it to an image. Paths have mean
zero, so that the result stays aligned with the sharp image.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.signal import lfilter

GAMMA = 2.2
LIGHT = (np.arange(256, dtype=np.float32) / 255) ** GAMMA
"""Light, float32 in [0, 1], of each uint8 value: LIGHT[image] undoes the camera's gamma curve."""


@dataclass(frozen=True)
class Region:
    """A part of the scene that moves by itself. Places and sizes are relative to the image's height and width."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    extent: float  # of its motion, pixels


@dataclass(frozen=True)
class BlurParameters:
    """What one shaken image is made from."""

    severity: float
    extent: float  # from one end of the camera's motion to the other, pixels
    inertia: float  # 0: the hand wanders; 1: it sweeps
    jerks: float  # sudden changes of speed during the exposure, on average
    region: Region | None
    noise: float  # standard deviation, in steps of 1/255
    jpeg: int | None  # quality of a JPEG compression
    seed: int  # of the paths

    @classmethod
    def draw(cls, random: np.random.Generator, severity: float) -> "BlurParameters":
        """Choose the shake. Severity, 0 to 1, sets its extent: 1.5 pixels at 0 to about 35 at 1."""
        extent = (1.5 + 30 * severity**1.25) * random.uniform(0.85, 1.15)
        region = None
        if random.random() < 0.3:
            x, y = random.uniform(0.15, 0.85, 2).tolist()
            radius_x, radius_y = random.uniform(0.12, 0.4, 2).tolist()
            region = Region(x, y, radius_x, radius_y, extent * random.uniform(0.5, 1.1))
            if random.random() < 0.4:  # a steady camera before something that moves; else both move
                extent *= 0.35
        return cls(
            severity=severity,
            extent=extent,
            inertia=random.uniform(0, 1),
            jerks=(0.0, 1.0, 3.0)[random.integers(3)],
            region=region,
            noise=random.uniform(0, 2) if random.random() < 0.5 else 0.0,
            jpeg=int(random.integers(75, 96)) if random.random() < 0.15 else None,
            seed=int(random.integers(2**31)),
        )

    def render(self, image: np.ndarray) -> np.ndarray:
        """Return the image, uint8 H×W×3 in RGB, blurred by this motion."""
        random = np.random.default_rng(self.seed)
        height, width = image.shape[:2]
        light = LIGHT[image]
        seen = average(light, path_kernel(shake_path(random, self.extent, self.inertia, self.jerks)))
        if self.region:
            own = path_kernel(shake_path(random, self.region.extent, self.inertia, self.jerks))
            mask = region_mask(random, height, width, self.region)[..., None]
            moving = average(np.concatenate([light * mask, mask], axis=2), own)
            seen = moving[..., :3] + seen * (1 - moving[..., 3:])
        shaken = np.maximum(seen, 0) ** np.float32(1 / GAMMA)
        if self.noise:
            shaken += np.float32(self.noise / 255) * random.standard_normal(shaken.shape, np.float32)
        result = np.rint(np.clip(shaken, 0, 1) * 255).astype(np.uint8)
        if self.jpeg:
            coded = cv2.imencode(".jpg", result[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])[1]
            result = np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1])
        return result


def average(light: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Average an image over the positions in a kernel.

    This is how GoPro's blur was made, from successive sharp frames and before the gamma curve (Nah et al., "Deep
    multi-scale convolutional neural network for dynamic scene deblurring", CVPR 2017, eq. 2).
    """
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])  # OpenCV correlates
    return cv2.filter2D(light, -1, flipped, borderType=cv2.BORDER_REFLECT_101).reshape(light.shape)


def shake_path(random: np.random.Generator, extent: float, inertia: float, jerks: float) -> np.ndarray:
    """Return one exposure's motion: N×2 positions (x, y) in pixels at even times, with mean zero.

    A mass on a damped spring, pushed by a trembling hand and now and then by a jerk, after Boracchi & Foi,
    "Modeling the performance of image restoration from motion blur" (IEEE TIP 2012).
    """
    steps = 64
    push = (random.standard_normal(steps) + 1j * random.standard_normal(steps)) * 0.5 * (1 - inertia) ** 2
    jerked = random.random(steps) < jerks / steps
    push += jerked * 3 * np.exp(2j * np.pi * random.random(steps))
    push[0] = 6 * np.exp(2j * np.pi * random.random())  # the speed at which the shutter opens
    damping, spring = 0.05, 0.002
    path = lfilter([1.0], [1.0, damping + spring - 2, 1 - damping], push)
    fine = np.linspace(0, steps - 1, steps * 16)
    path = np.interp(fine, np.arange(steps), path)  # positions a fraction of a pixel apart
    path -= path.mean()
    path *= extent / max(math.hypot(np.ptp(path.real), np.ptp(path.imag)), 1e-6)
    return np.stack([path.real, path.imag], axis=1)


def path_kernel(path: np.ndarray) -> np.ndarray:
    """Render N×2 positions (x, y) as an odd-sized float32 kernel of sum one.

    Each position is shared among the four nearest pixels by its distance from them, which keeps the mean position:
    a path with mean zero does not shift the image.
    """
    half = math.ceil(float(np.abs(path).max())) + 1
    size = 2 * half + 1
    corner = np.floor(path).astype(int)
    x, y = (path - corner).T
    first = (corner[:, 1] + half) * size + corner[:, 0] + half
    places = np.concatenate([first, first + 1, first + size, first + size + 1])
    weights = np.concatenate([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y])
    kernel = np.bincount(places, weights, size * size).reshape(size, size)
    return (kernel / len(path)).astype(np.float32)


def region_mask(random: np.random.Generator, height: int, width: int, region: Region) -> np.ndarray:
    """Draw a soft, uneven ellipse, float32 H×W: 1 inside the region, 0 outside."""
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height - region.y) / region.radius_y
    x = ((np.arange(width, dtype=np.float32) + 0.5) / width - region.x) / region.radius_x
    distance, direction = np.hypot(y[:, None], x), np.arctan2(y[:, None], x)
    for waves, phase in zip((2, 3, 5), random.uniform(0, 2 * math.pi, 3), strict=True):
        distance += np.float32(0.2 / waves) * np.cos(waves * direction + np.float32(phase))
    return np.clip((1 - distance) / 0.15 + 0.5, 0, 1)
