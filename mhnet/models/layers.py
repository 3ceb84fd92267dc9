"""Layers that both networks share: convolutions, norm, gate, NAFBlock, upsampling.

The block is that of NAFNet (Chen et al., "Simple Baselines for Image Restoration", ECCV 2022).
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mhnet.models.local import SpatialMean


def conv1x1(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=bias)


def conv3x3(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


def depthwise3x3(channels: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)


def scaled(conv: nn.Conv2d, x: Tensor, scale: Tensor) -> Tensor:
    """scale · conv(x) of a 1×1 convolution with bias, the scale moved into its weights: training then neither makes
    nor keeps the map that the scale would multiply.

    Args:
        conv: N×C×H×W → N×D×H×W.
        scale: 1×D×1×1, or N×D×1×1 for each image its own.
    """
    assert conv.bias is not None
    if len(scale) == 1:
        return F.conv2d(x, conv.weight * scale.transpose(0, 1), conv.bias * scale.flatten())
    scale = scale.flatten(1)
    pixels, weight = x.permute(0, 2, 3, 1).flatten(1, 2), conv.weight.flatten(1)
    weights, biases = (weight * scale[:, :, None]).transpose(1, 2), (conv.bias * scale)[:, None]
    return torch.baddbmm(biases, pixels, weights).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Suspends autocast on x's device, if it is on."""
    kind = x.device.type
    mixed = kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if mixed else nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of every pixel, biased variance, in float32 or wider.

    Its result lies channels-last in memory, whatever the input's layout.
    """

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.channels = channels
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → N×C×H×W."""
        pixels = at_least_float32(x.permute(0, 2, 3, 1))
        weight, bias = self.weight.to(pixels.dtype), self.bias.to(pixels.dtype)
        return F.layer_norm(pixels, (self.channels,), weight, bias, self.eps).permute(0, 3, 1, 2).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}"


class SimpleGate(nn.Module):
    """The product of the two halves of the channels, N×C×H×W → N×C/2×H×W: the activation of these networks."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return first * second


class NAFBlock(nn.Module):
    """A residual block without nonlinear activations: gated depthwise convolution with simplified channel attention
    (SCA), then a gated feed-forward half. N×C×H×W → N×C×H×W.

    Args:
        channels: C.
        scale: the map is 1/scale of the image (for local statistics).
    """

    def __init__(self, channels: int, scale: int = 1):
        super().__init__()
        self.norm1 = LayerNorm2d(channels)
        self.conv1 = conv1x1(channels, 2 * channels)
        self.conv2 = depthwise3x3(2 * channels)
        self.gate = SimpleGate()
        self.pool = SpatialMean(scale)
        self.sca = conv1x1(channels, channels)
        self.conv3 = conv1x1(channels, channels)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

        self.norm2 = LayerNorm2d(channels)
        self.conv4 = conv1x1(channels, 2 * channels)
        self.conv5 = conv1x1(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        t = self.gate(self.conv2(self.conv1(self.norm1(x))))
        t = t * self.sca(self.pool(t))
        x = x + scaled(self.conv3, t, self.beta)
        t = self.gate(self.conv4(self.norm2(x)))
        return x + scaled(self.conv5, t, self.gamma)


class PixelShuffleUp(nn.Sequential):
    """Twice the size at half the channels: 1×1 convolution c→2c without bias, then PixelShuffle. N×C×H×W →
    N×C/2×2H×2W."""

    def __init__(self, channels: int):
        super().__init__(conv1x1(channels, 2 * channels, bias=False), nn.PixelShuffle(2))
