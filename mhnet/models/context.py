"""The context stage: an encoder-decoder of NAFBlocks with channel self-attention in its middle."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mhnet.models.layers import (
    NAFBlock,
    PixelShuffleUp,
    at_least_float32,
    conv1x1,
    conv3x3,
    depthwise3x3,
    full_precision,
)

HEADS = 8


class ChannelAttention(nn.Module):
    """Self-attention between channels (c×c, so linear in pixels), as in Restormer (Zamir et al., CVPR 2022), without
    biases. N×C×H×W → N×C×H×W; there is no residual around it.

    Raises:
        ValueError: the heads do not divide the channels.
    """

    def __init__(self, channels: int, heads: int = HEADS):
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads")
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = conv1x1(channels, 3 * channels, bias=False)
        self.qkv_depthwise = depthwise3x3(3 * channels, bias=False)
        self.project = conv1x1(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        qkv = self.qkv_depthwise(self.qkv(x))
        with full_precision(x):
            q, k, v = at_least_float32(qkv).reshape(n, 3, self.heads, c // self.heads, h * w).unbind(1)
            similarity = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
            attended = self.weights(similarity * self.temperature.to(similarity.dtype)) @ v
        return self.project(attended.reshape(n, c, h, w).to(qkv.dtype))

    def weights(self, similarity: Tensor) -> Tensor:
        """Similarities N×heads×C×C → the weights that multiply v."""
        return similarity.softmax(dim=-1)


class SelectiveAttention(ChannelAttention):
    """Channel attention that mixes four sparse versions of itself: each row keeps its k largest entries, for
    k = C/2, 2C/3, 3C/4, 4C/5 of the C channels of a head."""

    KEPT = ((1, 2), (2, 3), (3, 4), (4, 5))

    def __init__(self, channels: int, heads: int = HEADS):
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


class ContextStage(nn.Module):
    """Encoder-decoder over four scales.

    Args:
        width: channels w at full size; they double with every halving.
        encoder_blocks: NAFBlocks per encoder level.
        attention: the module in the middle, at 16w channels and 1/16 of the size.
        head: whether to build the stage-1 head, which turns the last decoder map into an image.
    """

    def __init__(self, width: int, encoder_blocks: tuple[int, ...], attention: nn.Module, head: bool):
        super().__init__()
        widths = [width << level for level in range(len(encoder_blocks))]
        self.intro = conv3x3(3, width)
        self.encoders = nn.ModuleList(
            nn.Sequential(*[NAFBlock(c, scale=c // width) for _ in range(blocks)])
            for c, blocks in zip(widths, encoder_blocks, strict=True)
        )
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in widths)
        self.attention = attention
        self.ups = nn.ModuleList(PixelShuffleUp(2 * c) for c in reversed(widths))
        self.decoders = nn.ModuleList(NAFBlock(c, scale=c // width) for c in reversed(widths))
        self.head = conv3x3(width, 3) if head else None

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """N×3×H×W → encoder maps (full size first, w to 8w channels) and decoder maps (1/8 size first, 8w to w)."""
        encoded, decoded = [], []
        x = self.intro(x)
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            encoded.append(x)
            x = down(x)
        x = self.attention(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(encoded), strict=True):
            x = decoder(up(x) + skip)
            decoded.append(x)
        return encoded, decoded
