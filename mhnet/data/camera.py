"""What a camera does to any scene: exposure and white balance, distant fog, noise of the sensor, compression.

Both sides of a pair go through it, so that a network learns to leave all of it alone.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mhnet.data.rain import smooth_field


@dataclass(frozen=True)
class CameraParameters:
    """How one picture was taken and stored."""

    gain: tuple[float, float, float]  # exposure and white balance, for each channel
    fog: float  # extinction to the far end of the scene: exp(−fog) of its light arrives
    air: float  # the fog's light, 0 to 1
    noise: float  # standard deviation, in steps of 1/255
    codec: str  # "", or the ending of the kind it was stored in: ".jpg", or ".webp", whose blocks are like a film's
    quality: int
    seed: int  # of the noise, and of how far away things are

    @classmethod
    def draw(cls, random: np.random.Generator, severity: float) -> "CameraParameters":
        """Choose the camera. Severity, 0 to 1, is the share of pictures that are noisy, compressed and so on."""
        exposure = random.normal(0, 0.12) if random.random() < severity else 0.0
        balance = random.normal(0, 0.04, 3) if random.random() < severity else np.zeros(3)
        foggy = random.random() < severity / 3
        noisy = random.random() < severity
        stored = random.random() < severity
        codec = (".jpg", ".webp")[random.integers(2)] if stored else ""
        red, green, blue = np.exp(exposure + balance).tolist()
        return cls(
            gain=(red, green, blue),
            fog=random.uniform(0.2, 1.6) if foggy else 0.0,
            air=random.uniform(0.55, 0.95),
            noise=random.uniform(0.3, 4) if noisy else 0.0,
            codec=codec,
            quality=int(random.integers(55, 96)),
            seed=int(random.integers(2**31)),
        )

    def expose(self, scene: np.ndarray) -> np.ndarray:
        """The scene, float32 H×W×3 in [0, 1], through the fog and the lens."""
        if self.fog:
            away = np.exp(-self.fog * distance(np.random.default_rng(self.seed), *scene.shape[:2]))[..., None]
            scene = scene * away + self.air * (1 - away)
        return np.clip(scene * np.array(self.gain, np.float32), 0, 1)

    def store(self, seen: np.ndarray) -> np.ndarray:
        """What was seen, float32 H×W×3 in [0, 1], as the file holds it: with noise, in uint8, compressed and read
        again. Equal cameras add equal noise."""
        if self.noise:
            random = np.random.default_rng(self.seed + 1)
            seen = seen + np.float32(self.noise / 255) * random.standard_normal(seen.shape, np.float32)
        pixels = np.rint(np.clip(seen, 0, 1) * 255).astype(np.uint8)
        if not self.codec:
            return pixels
        kind = cv2.IMWRITE_JPEG_QUALITY if self.codec == ".jpg" else cv2.IMWRITE_WEBP_QUALITY
        coded = cv2.imencode(self.codec, pixels[..., ::-1], [kind, self.quality])[1]
        return np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1])

    def render(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The picture, uint8 H×W×3 in RGB, twice: there is nothing to take away."""
        taken = self.store(self.expose(image.astype(np.float32) / 255))
        return taken, taken


def distance(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """How far away things might be, float32 H×W from 0 to 1: smooth, and in most pictures farther at the top."""
    rows = np.linspace(1, 0, height, dtype=np.float32)[:, None]
    slope = np.float32(random.uniform(0, 1))
    uneven = np.clip(smooth_field(random, height, width, 120), 0, 1)
    return slope * rows + (1 - slope) * uneven
