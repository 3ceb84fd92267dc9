"""MHNet as in version 4 of "Mixed Hierarchy Network for Image Restoration" (Gao & Dang, arXiv 2302.09554v4).

The later design: selective attention in the context stage, NAFBlocks in the full-resolution stage (FRSNet), and
adaptive fusion (AFFM) of its features with the context stage's maps.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mhnet.models.mhnet import (
    ChannelAttention,
    ContextStage,
    LayerNorm2d,
    NAFBlock,
    PixelShuffleUp,
    RestorationNetwork,
    SimpleGate,
    SpatialMean,
    check_counts,
    conv1x1,
    conv3x3,
)


@dataclass(frozen=True)
class MHNetV4Args:
    """What makes one MHNet v4 differ from another.

    Args:
        width: channels w at full size, in both stages; 64 by default, 32 for the light one.
        encoder_blocks: NAFBlocks at each of the four encoder levels.
        group_blocks: NAFBlocks in each of the four groups of the full-resolution stage.
        stage1_head: build the head that makes the stage-1 image. It gets a gradient only from a loss on that image.

    Raises:
        ValueError: a count is out of range.
    """

    width: int = 64
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 28)
    group_blocks: int = 8
    stage1_head: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder_blocks", tuple(self.encoder_blocks))
        check_counts(self.encoder_blocks, width=self.width, group_blocks=self.group_blocks)
        if self.width >= 40 and self.width // 8 % 2:
            raise ValueError(f"width {self.width} must be a multiple of 16, or one up to 7 more, from 40 on")


class SelectiveAttention(ChannelAttention):
    """Channel attention that mixes four sparse versions of itself: each row keeps its k largest entries, for
    k = C/2, 2C/3, 3C/4, 4C/5 of the C channels of a head."""

    KEPT = ((1, 2), (2, 3), (3, 4), (4, 5))

    def __init__(self, channels: int, heads: int = 8):
        super().__init__(channels, heads)
        self.shares = nn.ParameterList([nn.Parameter(torch.full((1,), 0.2)) for _ in self.KEPT])

    def weights(self, similarity: Tensor) -> Tensor:
        channels = similarity.shape[-1]
        mixed = torch.zeros_like(similarity)
        for share, (part, whole) in zip(self.shares, self.KEPT, strict=True):
            largest, index = similarity.topk(channels * part // whole, dim=-1)
            kept = torch.full_like(similarity, float("-inf")).scatter(-1, index, largest)
            mixed = mixed + share.to(similarity.dtype) * kept.softmax(dim=-1)
        return mixed


class AFFM(nn.Module):
    """Adaptive feature fusion: a weighted sum of the features, the encoder's and the decoder's term, all N×C×H×W.

    The weights come from the mean of the sum of the three; each of the three is a softmax over its own C channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        reduced = max(channels // 8, 4)
        self.pool = SpatialMean()
        self.squeeze = conv1x1(channels, reduced, bias=False)
        self.gate = SimpleGate()
        self.features = conv1x1(reduced // 2, channels, bias=False)
        self.encoder = conv1x1(reduced // 2, channels, bias=False)
        self.decoder = conv1x1(reduced // 2, channels, bias=False)

    def forward(self, features: Tensor, encoded: Tensor, decoded: Tensor) -> Tensor:
        z = self.gate(self.squeeze(self.pool(features + encoded + decoded)))
        return (
            self.features(z).softmax(dim=1) * features
            + self.encoder(z).softmax(dim=1) * encoded
            + self.decoder(z).softmax(dim=1) * decoded
        )


class FRSNetStep(nn.Module):
    """One step of the full-resolution stage: norm, a group of NAFBlocks with a residual around it, fusion.

    Args:
        width: channels.
        doublings: the context stage's maps are 1/2^doublings of the size and have width·2^doublings channels.
        blocks: NAFBlocks in the group.
    """

    def __init__(self, width: int, doublings: int, blocks: int):
        super().__init__()
        widths = [width << level for level in range(doublings, 0, -1)]
        self.norm = LayerNorm2d(width)
        self.group = nn.Sequential(*[NAFBlock(width) for _ in range(blocks)])
        self.encoder_term = nn.Sequential(*map(PixelShuffleUp, widths), conv1x1(width, width, bias=False))
        self.decoder_up = nn.Sequential(*map(PixelShuffleUp, widths))
        self.fusion = AFFM(width)

    def forward(self, x: Tensor, encoded: Tensor, decoded: Tensor, decoder_conv: nn.Module) -> Tensor:
        x = self.norm(x)  # the norm's input is not used again: there is no residual around it
        x = self.group(x) + x
        return self.fusion(x, self.encoder_term(encoded), decoder_conv(self.decoder_up(decoded)))


class FRSNet(nn.Module):
    """The full-resolution stage. N×w×H×W and the context stage's maps → N×w×H×W.

    One projection of the decoder's maps serves all four steps.
    """

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.steps = nn.ModuleList(FRSNetStep(width, doublings, blocks) for doublings in range(4))
        self.decoder_conv = conv1x1(width, width, bias=False)

    def forward(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        for step, e, d in zip(self.steps, encoded, reversed(decoded), strict=True):
            x = step(x, e, d, self.decoder_conv)
        return x


class MHNetV4(RestorationNetwork):
    """MHNet v4: see `RestorationNetwork` for what it takes and returns.

    Keyword arguments are those of `MHNetV4Args`: `MHNetV4(width=32)`.
    """

    def __init__(self, args: MHNetV4Args | None = None, **overrides: Any):
        args = replace(args or MHNetV4Args(), **overrides)
        width = args.width
        super().__init__(ContextStage(width, args.encoder_blocks, SelectiveAttention(16 * width), args.stage1_head))
        self.args = args
        self.shallow = conv3x3(3, width, bias=False)
        self.merge = conv1x1(2 * width, width, bias=False)
        self.full_resolution = FRSNet(width, args.group_blocks)
        self.tail = conv3x3(width, 3, bias=False)

    def residual(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        features = self.merge(torch.cat((self.shallow(x), decoded[-1]), dim=1))
        return self.tail(self.full_resolution(features, encoded, decoded))
