"""Synthetic rain as cameras film it: short, weak, broken streaks of nearly one direction, veils, splashes, drops.

Lengths, widths, brightnesses and directions are those measured in films of real rain; fog grows with the rain, and a
streak takes the light around it and hides what is behind it (Halder, Lalonde and de Charette, "Physics-based rendering
for improving robustness to rain", ICCV 2019). What a camera adds lies on both sides of a pair: see `camera.py`.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from mhnet.data.camera import CameraParameters, distance
from mhnet.data.rain import scattered, streak_profile

VARIETY = 6  # kinds of streak in a layer
LENGTH, WIDTH, ADDED = 48, 3.0, 0.24
"""Medians of a whole streak's size in pixels and of its brightness, 0 to 1: of what is seen above a threshold, the
faint ends left out, they make the 13 to 19 pixels, 2 to 4 pixels and 23 to 37 of 255 that were filmed."""


@dataclass(frozen=True)
class FilmedLayer:
    """Streaks at about the same distance from the camera."""

    length: float  # median, pixels
    width: float  # median, pixels
    angle: float  # degrees from vertical
    softness: float  # defocus, standard deviation in pixels
    coverage: float  # share of the image that streaks lie on
    added: float  # brightness that a bright streak adds to a middling background, 0 to 1
    broken: float  # 0: whole lines; 1: dashes


@dataclass(frozen=True)
class FilmedRainParameters:
    """What one picture of filmed rain is made from."""

    severity: float
    layers: tuple[FilmedLayer, ...]
    light: float  # how far the light in a drop lies between the scene's own and white, 0 to 1
    veil: float  # extinction by the rain to the far end of the scene
    air: float  # the veil's light, 0 to 1
    splashes: float  # share of the ground that they cover
    drops: int  # out of focus, before or on the lens
    camera: CameraParameters
    seed: int

    @classmethod
    def draw(cls, random: np.random.Generator, severity: float) -> "FilmedRainParameters":
        """Choose the rain. Severity, 0 to 1, sets how much falls: streaks on 1 % of the pixels at 0, on 30 % at 1."""
        wind = random.normal(2, 6) if random.random() < 0.85 else random.uniform(-40, 40)
        count = int(random.integers(1, 4))
        covered = 0.01 * 30**severity * random.uniform(0.6, 1.6)
        size = math.exp(random.normal(0, 0.25))  # of everything: resolution and lens
        layers = []
        for share in random.dirichlet(np.full(count, 2.0)):
            depth = math.exp(random.normal(0, 0.4))  # near streaks are long and wide
            layers.append(
                FilmedLayer(
                    length=float(np.clip(LENGTH * size * depth * math.exp(random.normal(0, 0.3)), 6, 90)),
                    width=float(np.clip(WIDTH * size * depth * math.exp(random.normal(0, 0.25)), 1, 9)),
                    angle=wind + random.normal(0, 2.5),
                    softness=random.uniform(0.2, 1.0) * size * max(depth, 0.7),
                    coverage=covered * share,
                    added=float(np.clip(ADDED * math.exp(random.normal(0, 0.4)), 0.05, 0.4)),
                    broken=random.uniform(0, 1),
                )
            )
        return cls(
            severity=severity,
            layers=tuple(layers),
            light=random.uniform(0.25, 0.8),
            veil=random.uniform(0, 2) * severity if random.random() < 0.6 else 0.0,
            air=random.uniform(0.55, 0.95),
            splashes=random.uniform(0.002, 0.03) * severity if random.random() < 0.3 else 0.0,
            drops=int(random.integers(1, 7)) if random.random() < 0.1 else 0,
            camera=replace(CameraParameters.draw(random, 0.6), fog=0.0),  # what looks like fog is the veil
            seed=int(random.integers(2**31)),
        )

    def render(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the image, uint8 H×W×3 in RGB, in this rain, and what the camera would have seen without it.

        The veil moves the scene I to I·t + A·(1 − t), with t = exp(−veil · distance). A streak of opacity S moves what
        it lies on to I·(1 − S) + S·L, where L is the light around it.
        """
        random = np.random.default_rng(self.seed)
        height, width = image.shape[:2]
        scene = image.astype(np.float32) / 255
        rainy = scene
        if self.veil:
            clear = np.exp(-self.veil * distance(random, height, width))[..., None]
            rainy = rainy * clear + self.air * (1 - clear)
        around = cv2.blur(rainy, (min(121, width), min(121, height)), borderType=cv2.BORDER_REFLECT)
        light = 0.94 * (around + self.light * (1 - around)) + 0.06 * self.air
        contrast = max(float(np.mean(light - around)), 0.05)
        for layer in self.layers:
            opacity = min(layer.added / contrast, 0.9) * _streaks(random, height, width, layer)[..., None]
            rainy = rainy + np.minimum(opacity, 0.9) * (light - rainy)
        if self.splashes:
            rainy = rainy + _splashes(random, height, width, self.splashes)[..., None] * (light - rainy)
        for _ in range(self.drops):
            rainy = _with_drop(random, rainy, light)
        return self.camera.store(self.camera.expose(rainy)), self.camera.store(self.camera.expose(scene))


def _streaks(random: np.random.Generator, height: int, width: int, layer: FilmedLayer) -> np.ndarray:
    """One layer's opacity, float32 H×W, 1 where one streak is brightest: several kinds of streak, scattered."""
    total = np.zeros((height, width), np.float32)
    for _ in range(VARIETY):
        length = float(np.clip(layer.length * math.exp(random.normal(0, 0.45)), 4, 120))
        thick = float(np.clip(layer.width * math.exp(random.normal(0, 0.3)), 0.8, 12))
        angle, shift = layer.angle + random.normal(0, 2), random.uniform(-0.5, 0.5, 2)
        profile = streak_profile(length, thick, angle, layer.softness, (shift[0], shift[1]))
        if layer.broken > 0.2:
            top, left = profile.shape[0] // 2, profile.shape[1] // 2
            y, x = np.mgrid[-top : top + 1, -left : left + 1].astype(np.float32)
            along = x * math.sin(math.radians(angle)) + y * math.cos(math.radians(angle))
            waves = np.sin(along * (2 * math.pi / random.uniform(10, 40)) + random.uniform(0, 2 * math.pi))
            profile = profile * (1 - layer.broken * (0.5 + 0.5 * waves))
        profile = profile / max(float(profile.max()), 1e-3)
        density = layer.coverage / VARIETY / max(float((profile > 0.3).sum()), 1.0)
        total += scattered(random, height, width, profile.astype(np.float32), density)
    return np.maximum(total, 0)


def _splashes(random: np.random.Generator, height: int, width: int, covered: float) -> np.ndarray:
    """The opacity of splashes on the ground, float32 H×W: flat blobs, more of them towards the bottom."""
    size = random.uniform(0.6, 1.6)
    places = (random.random((height, width), np.float32) < covered / (12 * size**2)).astype(np.float32)
    places *= np.linspace(0, 1, height, dtype=np.float32)[:, None] ** random.uniform(0.3, 2)
    blobs = cv2.GaussianBlur(places, (0, 0), 1.6 * size, sigmaY=0.8 * size) * 2 * math.pi * 1.28 * size**2
    return np.clip(blobs * random.uniform(0.2, 0.7), 0, 0.8)


def _with_drop(random: np.random.Generator, rainy: np.ndarray, light: np.ndarray) -> np.ndarray:
    """A drop out of focus: a soft disc that shows the blurred surroundings, somewhat brighter."""
    height, width = rainy.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    middle, radius = random.uniform(0, 1, 2) * (height, width), random.uniform(4, 30)
    far = np.hypot((y - middle[0]) * random.uniform(0.7, 1), x - middle[1]) / radius
    disc = np.clip((1 - far) / random.uniform(0.2, 0.7), 0, 1)[..., None].astype(np.float32)
    blurred = cv2.GaussianBlur(rainy, (0, 0), radius / 3)
    inside = blurred + random.uniform(0, 0.35) * (light - blurred)
    return rainy + random.uniform(0.2, 0.7) * disc * (inside - rainy)
