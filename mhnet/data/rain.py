"""Synthetic rain: layers of streaks, and haze.

A rainy image is the scene plus layers of streaks, behind a veil of mist (Yang et al., "Deep joint rain detection and
removal from a single image", CVPR 2017). `RainParameters.draw` chooses the rain; `render` puts it on an image.
"""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class Streaks:
    """One layer of rain: drops at about the same distance from the camera."""

    length: float  # pixels
    width: float  # pixels
    angle: float  # degrees from vertical
    softness: float  # defocus, standard deviation in pixels
    density: float  # streaks that start in one pixel, on average
    strength: float  # brightness of the brightest streak, 0 to 1


@dataclass(frozen=True)
class RainLook:
    """The ranges that one kind of rain is drawn from."""

    layers: tuple[int, int]
    depth: Range  # 0: far away, short and fine; 1: near, long and wide
    coverage: Range  # share of the image that streaks cover; less coverage, brighter streaks
    softness: Range
    haze: Range  # share of the squared error that comes from haze rather than streaks
    fan: float  # standard deviation of a layer's angle around the wind's, degrees


LOOKS = {
    "crisp": RainLook((1, 2), (0.3, 0.8), (0.008, 0.04), (0.0, 0.3), (0.0, 0.1), 3),  # as in Rain100L
    "fine": RainLook((1, 3), (0.0, 0.45), (0.05, 0.3), (0.0, 0.5), (0.0, 0.4), 4),
    "soft": RainLook((1, 3), (0.3, 1.0), (0.1, 0.4), (0.8, 2.0), (0.3, 0.7), 5),
    "dense": RainLook((2, 4), (0.2, 1.0), (0.2, 0.5), (0.0, 0.5), (0.0, 0.35), 8),
    "crossed": RainLook((3, 4), (0.4, 0.9), (0.2, 0.45), (0.0, 0.4), (0.0, 0.1), 22),  # as in Rain100H
}
FAINTEST = (0.3, 1.0)  # a streak's brightness, relative to its layer's strength, is uniform in this range
HAZE_CELL = 160  # haze changes over about this many pixels


@dataclass(frozen=True)
class RainParameters:
    """What one rainy image is made from."""

    severity: float
    look: str
    blend: Literal["add", "screen", "cover"]
    layers: tuple[Streaks, ...]
    colour: tuple[float, float, float]  # of the streaks, RGB, 0 to 1
    haze: float  # mean share of the air's light in a pixel
    air: float  # the air's light, 0 to 1
    seed: int  # of the streaks' places

    @classmethod
    def draw(cls, random: np.random.Generator, severity: float) -> "RainParameters":
        """Choose the rain. Severity, 0 to 1, sets the error: about 32 dB at 0 to 13 dB at 1, evenly in dB.

        The look shares that error out between haze and layers. The number of streaks follows from each share:
        streaks of brightness a and profile k that fall independently, n to a pixel, have the mean square
        n·E[a²]·Σk² + (n·E[a]·Σk)² (Campbell's theorem), which is solved for n.
        """
        weights = np.array([1.2 - severity, 1.0, 0.7, 0.2 + severity, 0.1 + severity])
        name = str(random.choice(list(LOOKS), p=weights / weights.sum()))
        look = LOOKS[name]
        error = 10 ** -(3.25 - 1.85 * severity)
        in_haze = error * random.uniform(*look.haze)
        haze = math.sqrt(in_haze / 0.2)  # 0.2: mean square of (air − image) over photographs
        streaks = (error - in_haze) / 0.3  # 0.3: the same for (streak − image)

        count = int(random.integers(look.layers[0], look.layers[1], endpoint=True))
        shares = random.dirichlet(np.full(count, 2.0))
        wind = random.uniform(-30, 30) if random.random() < 0.85 else random.uniform(-55, 55)
        layers = []
        for share in shares:
            depth = random.uniform(*look.depth)
            length = 11 * 7**depth * random.uniform(0.75, 1.35)
            width = 0.8 * 3.5**depth * random.uniform(0.75, 1.25)
            angle = wind + random.normal(0, look.fan)
            softness = random.uniform(*look.softness)
            strength = min(max(math.sqrt(streaks / random.uniform(*look.coverage)), 0.08), 1.0)
            profile = strength * streak_profile(length, width, angle, softness)
            density = _density(profile, streaks * share)
            layers.append(Streaks(length, width, angle, softness, density, strength))
        grey = random.uniform(0.8, 1.0)
        blue = random.uniform(0.0, 0.06)
        return cls(
            severity=severity,
            look=name,
            blend=("add", "screen", "cover")[random.integers(3)],
            layers=tuple(layers),
            colour=(grey - blue, grey - blue / 2, grey),
            haze=haze,
            air=random.uniform(0.65, 0.95),
            seed=int(random.integers(2**31)),
        )

    def render(self, image: np.ndarray) -> np.ndarray:
        """Return the image, uint8 H×W×3 in RGB, with this rain.

        Haze moves the scene I towards the air's light. Streaks S of colour c are then put on it as I + cS (add), as
        1 − (1 − I)(1 − cS) (screen), or hide it as I(1 − S) + cS (cover). Layers are joined as a screen joins them.
        """
        random = np.random.default_rng(self.seed)
        height, width = image.shape[:2]
        scene = image.astype(np.float32) / 255
        haze = np.clip(self.haze * (0.4 + 1.2 * smooth_field(random, height, width, HAZE_CELL)), 0, 1)[..., None]
        scene += haze * (self.air - scene)
        clear = np.ones((height, width), np.float32)
        for layer in self.layers:
            clear *= 1 - np.minimum(streak_layer(random, height, width, layer), 1)
        streaks = (1 - clear)[..., None]
        colour = np.array(self.colour, np.float32)
        if self.blend == "add":
            scene += streaks * colour
        elif self.blend == "screen":
            scene = 1 - (1 - scene) * (1 - streaks * colour)
        else:
            scene += streaks * (colour - scene)
        return np.rint(np.clip(scene, 0, 1) * 255).astype(np.uint8)


def streak_profile(length: float, width: float, angle: float, softness: float = 0, shift: Range = (0, 0)) -> np.ndarray:
    """Return what one streak looks like: an antialiased line, float32, at most 1.

    Args:
        length: pixels.
        width: pixels.
        angle: degrees from vertical.
        softness: defocus, pixels.
        shift: how far (x, y) the line's middle lies from the array's, pixels.
    """
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    spare = width / 2 + 3 * softness + 1
    half_x = math.ceil(abs(sine) * length / 2 + spare)
    half_y = math.ceil(abs(cosine) * length / 2 + spare)
    y, x = np.mgrid[-half_y : half_y + 1, -half_x : half_x + 1].astype(np.float32)
    x, y = x - shift[0], y - shift[1]
    along = np.abs(x * sine + y * cosine)
    across = np.abs(x * cosine - y * sine)
    line = np.clip((width + 1) / 2 - across, 0, min(width, 1)) * np.clip((length + 1) / 2 - along, 0, 1)
    line *= 1 - 0.6 * (2 * along / (length + 1)) ** 2  # a drop is in a pixel for less time near the streak's ends
    if softness > 0.1:
        line = cv2.GaussianBlur(line, (0, 0), softness, borderType=cv2.BORDER_CONSTANT)
    return line.astype(np.float32)


def streak_layer(random: np.random.Generator, height: int, width: int, layer: Streaks) -> np.ndarray:
    """Draw one layer of streaks, float32 H×W: sparse noise, filtered along the direction of fall.

    Three kinds of streak that differ a little share the layer. Streaks start outside the image too, so that its
    borders look like its middle.
    """
    total = np.zeros((height, width), np.float32)
    for _ in range(3):
        length, angle = layer.length * random.uniform(0.6, 1.4), layer.angle + random.normal(0, 1.5)
        shift = (random.uniform(-0.5, 0.5), random.uniform(-0.5, 0.5))
        profile = streak_profile(length, layer.width * random.uniform(0.8, 1.2), angle, layer.softness, shift)
        total += scattered(random, height, width, profile, layer.density / 3, layer.strength)
    return np.maximum(total, 0)


def scattered(
    random: np.random.Generator, height: int, width: int, profile: np.ndarray, density: float, strength: float = 1
) -> np.ndarray:
    """Streaks of one profile, float32 H×W, at random places: sparse noise, filtered. `density` is how many start in a
    pixel on average; their brightness is at most `strength`."""
    top, left = profile.shape[0] // 2, profile.shape[1] // 2
    rows, columns = height + 2 * top, width + 2 * left
    count = random.poisson(density * rows * columns)
    places = random.integers(rows * columns, size=count)
    brightness = strength * random.uniform(*FAINTEST, size=count)
    drops = np.bincount(places, brightness, rows * columns).reshape(rows, columns).astype(np.float32)
    fallen = cv2.filter2D(drops, -1, profile, borderType=cv2.BORDER_CONSTANT)
    return fallen[top : top + height, left : left + width]


def _density(profile: np.ndarray, mean_square: float) -> float:
    low, high = FAINTEST
    mean, square = (low + high) / 2, (low**2 + low * high + high**2) / 3
    single = square * float(np.square(profile).sum())
    joint = (mean * float(profile.sum())) ** 2
    return (math.sqrt(single**2 + 4 * joint * mean_square) - single) / (2 * joint)


def smooth_field(random: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """Return smooth noise, float32 H×W in about [0, 1], that changes over about `cell` pixels."""
    rows, columns = math.ceil(height / cell) + 1, math.ceil(width / cell) + 1
    field = cv2.resize(
        random.random((rows, columns), np.float32), (columns * cell, rows * cell), interpolation=cv2.INTER_CUBIC
    )
    top, left = random.integers(cell, size=2)
    return field[top : top + height, left : left + width]
