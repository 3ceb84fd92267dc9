"""MHNet as in version 1 of "Mixed Hierarchy Network for Image Restoration" (Gao & Dang, arXiv 2302.09554v1).

A context stage sees far, a shallow branch sees fine, and a full-resolution stage (CASNet) restores, fed step by step
with the context stage's encoder and decoder maps. Deblurring uses n_feat 64, deraining 40.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mhnet.models.base import RestorationNetwork, check_counts
from mhnet.models.context import ChannelAttention, ContextStage
from mhnet.models.layers import (
    LayerNorm2d,
    SimpleGate,
    conv1x1,
    conv3x3,
    depthwise3x3,
    scaled,
)
from mhnet.models.local import SpatialMean


@dataclass(frozen=True)
class MHNetArgs:
    """What makes one MHNet differ from another.

    Args:
        width: channels w of the context stage at full size; even.
        n_feat: channels n of the full-resolution stage; even.
        encoder_blocks: NAFBlocks at each of the four encoder levels.
        group_blocks: SCABs in each of the four CABGs.
        stage1_head: build the head that makes the stage-1 image. It gets a gradient only from a loss on that image.

    Raises:
        ValueError: a count is out of range.
    """

    width: int = 32
    n_feat: int = 64
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 28)
    group_blocks: int = 8
    stage1_head: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder_blocks", tuple(self.encoder_blocks))
        check_counts(self.encoder_blocks, width=self.width, n_feat=self.n_feat, group_blocks=self.group_blocks)
        if self.width < 4 or self.width % 2:
            raise ValueError(f"width {self.width} must be even and at least 4")
        if self.n_feat % 2:
            raise ValueError(f"n_feat {self.n_feat} must be even")


class DualAttention(nn.Module):
    """Spatial and channel attention side by side on the same two convolutions, as in MIRNet (Zamir et al., ECCV 2020).
    N×C×H×W → N×C×H×W, no biases. Neither attention sees the other's result."""

    def __init__(self, channels: int, reduction: int = 4):
        super().__init__()
        self.conv1 = conv3x3(channels, channels, bias=False)
        self.gate = SimpleGate()
        self.conv2 = conv3x3(channels // 2, channels, bias=False)
        self.spatial = nn.Conv2d(2, 1, 5, padding=2, bias=False)
        self.pool = SpatialMean()
        self.squeeze = conv1x1(channels, channels // reduction, bias=False)
        self.excite = conv1x1(channels // reduction, channels, bias=False)
        self.merge = conv1x1(2 * channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        body = self.conv2(self.gate(self.conv1(x)))
        extremes = torch.cat((body.amax(1, keepdim=True), body.mean(1, keepdim=True)), dim=1)
        by_place = body * self.spatial(extremes).sigmoid()
        by_channel = body * self.excite(self.squeeze(self.pool(body)).relu()).sigmoid()
        return x + self.merge(torch.cat((by_place, by_channel), dim=1))


class SCAB(nn.Module):
    """Simplified channel attention block: two depthwise-pointwise pairs with a gate between them, and an attention
    without sigmoid: the second pair's result, times a 1×1 convolution of its means. N×C×H×W → N×C×H×W."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise1 = depthwise3x3(channels)
        self.pointwise1 = conv1x1(channels, channels)
        self.gate = SimpleGate()
        self.depthwise2 = depthwise3x3(channels // 2)
        self.pointwise2 = conv1x1(channels // 2, channels)
        self.pool = SpatialMean()
        self.sca = conv1x1(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        t = self.depthwise2(self.gate(self.pointwise1(self.depthwise1(x))))
        attention = self.sca(self.pointwise2(self.pool(t)))  # the means behind pointwise2, from those before it
        if self.training:
            return x + scaled(self.pointwise2, t, attention)
        return x + self.pointwise2(t) * attention


class CABG(nn.Module):
    """A group of channel attention blocks, a convolution, and a residual around both. N×C×H×W → N×C×H×W."""

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        self.blocks = nn.Sequential(*[SCAB(channels) for _ in range(blocks)])
        self.conv = conv3x3(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.blocks(x))


class BilinearUp(nn.Sequential):
    """Bilinear ×2, then a 1×1 convolution without bias. N×C×H×W → N×outputs×2H×2W."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), conv1x1(inputs, outputs, False)
        )


class CASNetStep(nn.Module):
    """One step of the full-resolution stage: norm, CABG, plus the encoder and decoder maps of one scale.

    Args:
        width: channels of the context stage at full size.
        channels: n_feat.
        doublings: the maps are 1/2^doublings of the size and have width·2^doublings channels.
    """

    def __init__(self, width: int, channels: int, doublings: int, blocks: int):
        super().__init__()
        self.norm = LayerNorm2d(channels)
        self.group = CABG(channels, blocks)
        self.encoder_term = self.term(width, channels, doublings)
        self.decoder_term = self.term(width, channels, doublings)

    @staticmethod
    def term(width: int, channels: int, doublings: int) -> nn.Sequential:
        """What brings a map of one scale to full size and n_feat channels."""
        widths = [width << level for level in range(doublings, 0, -1)] + [channels]
        ups = [BilinearUp(inputs, outputs) for inputs, outputs in pairwise(widths)]
        return nn.Sequential(*ups, conv1x1(channels if doublings else width, channels, bias=False))

    def forward(self, x: Tensor, encoded: Tensor, decoded: Tensor) -> Tensor:
        x = self.group(self.norm(x))  # the norm's input is not used again: there is no residual around it
        return x + self.terms(encoded, decoded)

    def terms(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """The sum of both terms: all convolutions first, then the upsampling. Both are linear, one over channels and
        one over places, so that their order is free."""
        total = _convolutions(self.encoder_term, encoded) + _convolutions(self.decoder_term, decoded)
        for up in self.encoder_term[:-1]:
            total = up.get_submodule("0")(total)
        return total

    def terms_as_published(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """The same sum in the order of the paper, which upsamples first and so convolves larger maps."""
        return self.encoder_term(encoded) + self.decoder_term(decoded)


def _convolutions(term: nn.Sequential, x: Tensor) -> Tensor:
    """A term without its upsampling."""
    for up in term[:-1]:
        x = up.get_submodule("1")(x)
    return term[-1](x)


class CASNet(nn.Module):
    """The full-resolution stage. N×w×H×W and the context stage's maps → N×n_feat×H×W."""

    def __init__(self, width: int, channels: int, blocks: int):
        super().__init__()
        self.intro = conv1x1(width, channels, bias=False)
        self.steps = nn.ModuleList(CASNetStep(width, channels, doublings, blocks) for doublings in range(4))

    def forward(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        x = self.intro(x)
        for step, e, d in zip(self.steps, encoded, reversed(decoded), strict=True):
            x = step(x, e, d)
        return x


class MHNet(RestorationNetwork):
    """MHNet (v1): see `RestorationNetwork` for what it takes and returns.

    Keyword arguments are those of `MHNetArgs`: `MHNet(n_feat=40)`.
    """

    def __init__(self, args: MHNetArgs | None = None, **overrides: Any):
        args = replace(args or MHNetArgs(), **overrides)
        width = args.width
        super().__init__(ContextStage(width, args.encoder_blocks, ChannelAttention(16 * width), args.stage1_head))
        self.args = args
        self.shallow = conv3x3(3, width, bias=False)
        self.dual_attention = DualAttention(width)
        self.merge = conv3x3(2 * width, width, bias=False)
        self.full_resolution = CASNet(width, args.n_feat, args.group_blocks)
        self.tail = conv3x3(args.n_feat, 3, bias=False)

    def residual(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        features = self.merge(torch.cat((self.dual_attention(self.shallow(x)), decoded[-1]), dim=1))
        return self.tail(self.full_resolution(features, encoded, decoded))
