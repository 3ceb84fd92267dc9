"""The photographs that benchmarks compute with: those of demo/photos, as many and as large as they are asked for."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb

PHOTOS = Path(__file__).resolve().parent.parent / "demo" / "photos"


def enlarged(count: int, height: int, width: int) -> Iterator[np.ndarray]:
    """Photographs of that size, uint8 H×W×3: scaled to cover it, more so in each further round, and cut."""
    photos = find_images(PHOTOS, recursive=True)
    for i in range(count):
        photo = read_rgb(photos[i % len(photos)])
        scale = (1 + i // len(photos)) * max(height / photo.shape[0], width / photo.shape[1])
        size = [
            max(round(scale * side), least) for side, least in zip(photo.shape[1::-1], (width, height), strict=True)
        ]
        yield np.ascontiguousarray(cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC)[:height, :width])
