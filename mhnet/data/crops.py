"""What crops for training are made with, whatever the data set: padding, detail, tensors."""

import cv2
import numpy as np
import torch
from torch import Tensor


def detail(image: np.ndarray) -> float:
    """How much a blur would take from an image, uint8 H×W×3: the mean squared difference to its 5×5 box blur."""
    return float(np.square(image - cv2.blur(image.astype(np.float32), (5, 5))).mean())


def to_tensor(both: list[np.ndarray]) -> Tensor:
    """Two H×W×3 arrays → one 2×3×H×W tensor of the same type."""
    return torch.from_numpy(np.stack(both).transpose(0, 3, 1, 2).copy())


def pad_to(image: np.ndarray, size: int) -> np.ndarray:
    """H×W×C padded at the bottom and right to at least size×size, as the networks pad: reflected without repeating the
    edge as far as the image reaches, then its last row or column repeated."""
    for axis in (0, 1):
        last = image.shape[axis] - 1
        if last + 1 < size:
            position = np.minimum(np.arange(size), 2 * last)
            image = image.take(last - np.abs(last - position), axis)
    return image
