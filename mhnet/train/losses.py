"""What training minimises. All losses take N×C×H×W in [0, 1] and give a scalar, in float32 or wider."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def psnr_loss(restored: Tensor, target: Tensor, floor: float = 1e-8) -> Tensor:
    """Minus the PSNR in dB of each image, averaged over the batch: (10 / ln 10) · mean of ln(MSE + floor).

    Args:
        restored: N×C×H×W, not clamped.
        target: the same shape, in [0, 1].
        floor: keeps the logarithm finite.

    Returns:
        A scalar in float32 or wider; −80 for identical images. The formula is that of HINet (Chen et al., CVPR
        Workshops 2021).

    Raises:
        ValueError: the shapes differ.
    """
    mse = _difference(restored, target).square().mean((1, 2, 3))
    return 10 / math.log(10) * (mse + floor).log().mean()


def l1_loss(restored: Tensor, target: Tensor) -> Tensor:
    """The mean absolute difference; ValueError if the shapes differ."""
    return _difference(restored, target).abs().mean()


def charbonnier_loss(restored: Tensor, target: Tensor, eps: float = 1e-3) -> Tensor:
    """The mean of √(d² + eps²) over all differences d (Charbonnier et al., ICIP 1994; eps as in MPRNet, Zamir et al.,
    CVPR 2021); ValueError if the shapes differ."""
    return _smooth_abs(_difference(restored, target), eps)


def edge_loss(restored: Tensor, target: Tensor, eps: float = 1e-3) -> Tensor:
    """The `charbonnier_loss` of the finest levels of both images' Laplacian pyramids (MPRNet, Zamir et al., CVPR 2021).

    That level is what an image loses when it is made half as large and enlarged again (Burt & Adelson, IEEE
    Transactions on Communications 1983). It is linear in the image, so that of the difference is taken.

    Raises:
        ValueError: the shapes differ.
    """
    difference = _difference(restored, target)
    halved = _blur(difference)[:, :, ::2, ::2]
    spread = torch.zeros_like(difference)
    spread[:, :, ::2, ::2] = 4 * halved
    return _smooth_abs(difference - _blur(spread), eps)


LOSSES: dict[str, Loss] = {
    "psnr": psnr_loss,
    "soft_psnr": partial(psnr_loss, floor=2e-4),
    "charbonnier": charbonnier_loss,
    "l1": l1_loss,
}
"""In soft_psnr, what is better than 37 dB hardly counts: images with nothing to remove would outweigh all others."""


def with_edges(loss: Loss, weight: float) -> Loss:
    """A loss, plus the edge loss where that has a weight."""
    if not weight:
        return loss
    return lambda restored, target: loss(restored, target) + weight * edge_loss(restored, target)


def _difference(restored: Tensor, target: Tensor) -> Tensor:
    if restored.shape != target.shape:
        raise ValueError(f"the restored images are {tuple(restored.shape)}, their targets {tuple(target.shape)}")
    dtype = torch.promote_types(restored.dtype, torch.float32)
    return restored.to(dtype) - target.to(dtype)


def _smooth_abs(difference: Tensor, eps: float) -> Tensor:
    return (difference.square() + eps**2).sqrt().mean()


def _blur(image: Tensor) -> Tensor:
    """5×5 binomial-like blur with weights [1, 5, 8, 5, 1] / 20 per axis, borders repeated."""
    channels = image.shape[1]
    weights = torch.tensor([1.0, 5.0, 8.0, 5.0, 1.0], dtype=image.dtype, device=image.device) / 20
    image = F.pad(image, (2, 2, 2, 2), mode="replicate")
    image = F.conv2d(image, weights.view(1, 1, 1, 5).expand(channels, 1, 1, 5), groups=channels)
    return F.conv2d(image, weights.view(1, 1, 5, 1).expand(channels, 1, 5, 1), groups=channels)
