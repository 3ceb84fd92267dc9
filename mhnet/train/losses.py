"""What training minimises."""

import math

import torch
from torch import Tensor


def psnr_loss(restored: Tensor, target: Tensor) -> Tensor:
    """Minus the PSNR in dB of each image, averaged over the batch: (10 / ln 10) · mean of ln(MSE + 1e-8).

    Args:
        restored: N×C×H×W, not clamped.
        target: the same shape, in [0, 1].

    Returns:
        A scalar in float32 or wider; −80 for identical images. The formula is that of HINet (Chen et al., CVPR
        Workshops 2021).

    Raises:
        ValueError: the shapes differ.
    """
    if restored.shape != target.shape:
        raise ValueError(f"the restored images are {tuple(restored.shape)}, their targets {tuple(target.shape)}")
    dtype = torch.promote_types(restored.dtype, torch.float32)
    mse = (restored.to(dtype) - target.to(dtype)).square().mean((1, 2, 3))
    return 10 / math.log(10) * (mse + 1e-8).log().mean()
