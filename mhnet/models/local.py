"""Local statistics at test time (TLC): sliding means instead of global ones.

A network trained on patches meets other statistics on whole images. TLC (Chu et al., "Improving Image Restoration by
Revisiting Global Information Aggregation", ECCV 2022) replaces the mean over a whole map by the mean over a window
about as large as the training patch. Nothing is remembered between images.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpatialMean(nn.Module):
    """Mean over H and W, or over a sliding window once `use_local_statistics` has set a training patch.

    Args:
        scale: the map is 1/scale of the image; the window shrinks with it.
    """

    def __init__(self, scale: int = 1):
        super().__init__()
        self.scale = scale
        self.patch: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → N×C×1×1, or N×C×H×W where the mean is local."""
        window = self.window(*x.shape[2:])
        return global_mean(x) if window is None else sliding_mean(x, window)

    def window(self, height: int, width: int) -> int | None:
        """Side of the window on a map of that size; None where the mean is that of the whole map."""
        if self.patch is None or self.training:
            return None
        window = max(3 * self.patch // (2 * self.scale), 1)
        return None if window >= height and window >= width else window

    def extra_repr(self) -> str:
        return f"scale={self.scale}, patch={self.patch}"


def global_mean(x: Tensor) -> Tensor:
    """Mean over H and W, N×C×H×W → N×C×1×1, summed in float32 or wider.

    The gradient of a sum is a view of N×C×1×1, that of `Tensor.mean` a whole new map, and a contiguous one: everything
    before it would then change layout in the backward pass.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    return (x.sum((2, 3), keepdim=True, dtype=wide) / (x.shape[2] * x.shape[3])).to(x.dtype)


def sliding_mean(x: Tensor, window: int) -> Tensor:
    """Mean over a window of min(window, H) × min(window, W) around every pixel, N×C×H×W → N×C×H×W.

    Only windows that lie inside the map are averaged; the rows and columns that are missing at the borders repeat the
    nearest mean, ⌊(k−1)/2⌋ of them at the left and top, the rest at the right and bottom.
    """
    height, width = x.shape[2:]
    rows, columns = min(window, height), min(window, width)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = _window_sum(_window_sum(wide, 2, rows), 3, columns) / (rows * columns)
    top, left = (rows - 1) // 2, (columns - 1) // 2
    return F.pad(mean, (left, columns - 1 - left, top, rows - 1 - top), mode="replicate").to(x.dtype)


def _window_sum(x: Tensor, dim: int, window: int) -> Tensor:
    """Sums over `window` neighbours along `dim`; window − 1 positions fewer than x. One axis at a time keeps the
    running sums small, so float32 suffices."""
    size = x.shape[dim]
    total = x.cumsum(dim)
    first = total.narrow(dim, window - 1, 1)
    if window == size:
        return first
    return torch.cat((first, total.narrow(dim, window, size - window) - total.narrow(dim, 0, size - window)), dim)


def use_local_statistics(model: nn.Module, patch: int | None = 256) -> None:
    """Switch local statistics on for evaluation, in place; they stay off while the model is in training mode.

    Args:
        patch: side of the training patches in pixels; the window is 1.5 times as large. None: global means again.

    Raises:
        ValueError: the patch is not positive, or the model has no spatial means.
    """
    if patch is not None and patch < 1:
        raise ValueError(f"the training patch must be at least 1 pixel, not {patch}")
    means = [module for module in model.modules() if isinstance(module, SpatialMean)]
    if not means:
        raise ValueError(f"{type(model).__name__} has no spatial means to make local")
    for mean in means:
        mean.patch = patch
