"""MHNet, the whole network in one file that needs PyTorch alone: "Mixed Hierarchy Network for Image Restoration" (Gao &
Dang, arXiv 2302.09554v1), from top to bottom as in the paper's figure.

A context stage (encoder-decoder of NAFBlocks, self-attention between channels in its middle) sees far; a shallow branch
with dual attention sees fine; a full-resolution stage (CASNet: groups of SCABs, fed with the context stage's maps)
restores. Maps are N×C×H×W. Each formula stands here once, for training and evaluation.

This file is the same in `Deblurring/`, `Deraining/` and `mhnet/models/`, but for the default of `n_feat`. Change it in
a room and train there; `make copies` writes the package's file into the rooms.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MULTIPLE = 16  # of heights and widths inside the network: four halvings
LARGEST_COUNT = 4096  # of blocks or channels: a damaged file cannot ask for a network of any size


@dataclass(frozen=True)
class MHNetArgs:
    """What makes one MHNet differ from another. Raises ValueError where a count is out of range.

    Args:
        width: channels w of the context stage at full size; even, at least 4.
        n_feat: channels n of the full-resolution stage; even. In the paper 64 for deblurring, 40 for deraining.
        encoder_blocks: NAFBlocks at each of the four encoder levels.
        group_blocks: SCABs in each of the four CABGs.
        stage1_head: build the head that makes the stage-1 image. It gets a gradient only from a loss on that image.
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


def check_counts(encoder_blocks: tuple[int, ...], **counts: int) -> None:
    """Raises ValueError unless there are four encoder levels and every count is a whole number of at least 1."""
    if len(encoder_blocks) != 4:
        raise ValueError(f"encoder_blocks {list(encoder_blocks)} must be four counts, one for each level")
    for name, count in [*counts.items(), *(("encoder_blocks", blocks) for blocks in encoder_blocks)]:
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= LARGEST_COUNT:
            raise ValueError(f"{name} {count!r} must be a whole number from 1 to {LARGEST_COUNT}")


def conv1x1(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=bias)


def conv3x3(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


def depthwise3x3(channels: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of every pixel, biased variance, in float32 or wider. The result lies
    channels-last in memory."""

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.channels = channels
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        pixels = at_least_float32(x.permute(0, 2, 3, 1))
        weight, bias = self.weight.to(pixels.dtype), self.bias.to(pixels.dtype)
        return F.layer_norm(pixels, (self.channels,), weight, bias, self.eps).permute(0, 3, 1, 2).to(x.dtype)


class SimpleGate(nn.Module):
    """The product of the two halves of the channels, C → C/2: the activation of these networks."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.mul(*x.chunk(2, dim=1))


def scaled(conv: nn.Conv2d, x: Tensor, scale: Tensor) -> Tensor:
    """conv(x) · scale of a 1×1 convolution with bias. A scale of whole maps (1×C×1×1 or N×C×1×1) multiplies the
    weights instead, which is the same and spares training two maps."""
    assert conv.bias is not None
    if scale.shape[2:] != (1, 1):
        return conv(x) * scale
    if len(scale) == 1:
        return F.conv2d(x, conv.weight * scale.transpose(0, 1), conv.bias * scale.flatten())
    scale = scale.flatten(1)
    pixels, weight = x.permute(0, 2, 3, 1).flatten(1, 2), conv.weight.flatten(1)
    weights, biases = (weight * scale[:, :, None]).transpose(1, 2), (conv.bias * scale)[:, None]
    return torch.baddbmm(biases, pixels, weights).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Suspends autocast on x's device, if it is on."""
    kind = x.device.type
    mixed = kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if mixed else nullcontext()


class SpatialMean(nn.Module):
    """Mean over H and W, C×H×W → C×1×1; or, once `use_local_statistics` has set a training patch, a sliding mean,
    C×H×W → C×H×W, in evaluation mode.

    The map is 1/scale of the image; the window shrinks with it.
    """

    def __init__(self, scale: int = 1):
        super().__init__()
        self.scale = scale
        self.patch: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        window = self.window(*x.shape[2:])
        if window is not None:
            return sliding_mean(x, window)
        # a sum and not a mean: its gradient is a view, if of one type, and that of `mean` a new map in another layout
        wide = torch.float32 if x.dtype is torch.float16 else x.dtype  # whose sum could overflow
        return (x.sum((2, 3), keepdim=True, dtype=wide) / (x.shape[2] * x.shape[3])).to(x.dtype)

    def window(self, height: int, width: int) -> int | None:
        """Side of the window on a map of that size; None where the mean is that of the whole map."""
        if self.patch is None or self.training:
            return None
        window = max(3 * self.patch // (2 * self.scale), 1)
        return None if window >= height and window >= width else window


def sliding_mean(x: Tensor, window: int) -> Tensor:
    """Mean over a window of min(window, H) × min(window, W) around every pixel.

    Only windows inside the map are averaged; at the borders the nearest mean is repeated, ⌊(k−1)/2⌋ times at the left
    and top, the rest at the right and bottom.
    """
    mean, borders = at_least_float32(x), []
    for dim in (2, 3):
        side = min(window, x.shape[dim])
        places = x.shape[dim] - side + 1
        total = F.pad(mean.cumsum(dim), (1, 0) if dim == 3 else (0, 0, 1, 0))
        mean = (total.narrow(dim, side, places) - total.narrow(dim, 0, places)) / side
        borders = [(side - 1) // 2, side // 2, *borders]
    return F.pad(mean, borders, mode="replicate").to(x.dtype)


def use_local_statistics(model: nn.Module, patch: int | None = 256) -> None:
    """Switch local statistics (TLC; Chu et al., "Improving Image Restoration by Revisiting Global Information
    Aggregation", ECCV 2022) on for evaluation, in place. Nothing is remembered between images.

    `patch` is the side of the training patches in pixels; the window is 1.5 times as large. None: global means again.
    Raises ValueError where it is not positive, or the model has no spatial means.
    """
    if patch is not None and patch < 1:
        raise ValueError(f"the training patch must be at least 1 pixel, not {patch}")
    means = [module for module in model.modules() if type(module).__name__ == SpatialMean.__name__]
    if not means:
        raise ValueError(f"{type(model).__name__} has no spatial means to make local")
    for mean in means:
        mean.patch = patch  # type: ignore[assignment]


class NAFBlock(nn.Module):
    """A residual block without nonlinear activations (NAFNet: Chen et al., "Simple Baselines for Image Restoration",
    ECCV 2022): gated depthwise convolution with simplified channel attention (SCA), then a gated feed-forward half.

    The map is 1/scale of the image, which matters to local statistics alone.
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


class ChannelAttention(nn.Module):
    """Self-attention between channels (c×c, so linear in pixels), as in Restormer (Zamir et al., CVPR 2022), without
    biases. There is no residual around it. Raises ValueError where the heads do not divide the channels."""

    def __init__(self, channels: int, heads: int = 8):
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


class PixelShuffleUp(nn.Sequential):
    """Twice the size at half the channels: 1×1 convolution c→2c without bias, then PixelShuffle."""

    def __init__(self, channels: int):
        super().__init__(conv1x1(channels, 2 * channels, bias=False), nn.PixelShuffle(2))


class ContextStage(nn.Module):
    """Encoder-decoder over four scales: `width` channels w at full size, which double with every halving; an attention
    at 16w channels and 1/16 of the size; and, where it is wanted, the head that makes the stage-1 image."""

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


class DualAttention(nn.Module):
    """Spatial and channel attention side by side on the same two convolutions, as in MIRNet (Zamir et al., ECCV 2020).
    No biases. Neither attention sees the other's result."""

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
    without sigmoid, a 1×1 convolution of the means, that multiplies the second pair's result."""

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
        attention = self.sca(self.pointwise2(self.pool(t)))  # a 1×1 convolution of means is the mean behind it
        return x + scaled(self.pointwise2, t, attention)


class CABG(nn.Module):
    """A group of SCABs, a convolution, and a residual around both."""

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        self.blocks = nn.Sequential(*[SCAB(channels) for _ in range(blocks)])
        self.conv = conv3x3(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.blocks(x))


class BilinearUp(nn.Sequential):
    """Bilinear ×2, then a 1×1 convolution without bias."""

    def __init__(self, inputs: int, outputs: int):
        upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        super().__init__(upsample, conv1x1(inputs, outputs, bias=False))


class CASNetStep(nn.Module):
    """One step of the full-resolution stage: norm, CABG, plus the encoder and decoder maps of one scale.

    The maps are 1/2^doublings of the size and have width·2^doublings channels; the step's own are `channels` (n_feat).
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
        # all 1×1 convolutions, then all upsampling: one acts on channels, one on places, so their order is free
        for encoder, decoder in zip(self.encoder_term, self.decoder_term, strict=True):
            encoded = (encoder[1] if isinstance(encoder, BilinearUp) else encoder)(encoded)
            decoded = (decoder[1] if isinstance(decoder, BilinearUp) else decoder)(decoded)
        term = encoded + decoded
        for up in self.encoder_term[:-1]:
            term = up.get_submodule("0")(term)
        return x + term


class CASNet(nn.Module):
    """The full-resolution stage: N×w×H×W and the context stage's maps → N×n_feat×H×W."""

    def __init__(self, width: int, channels: int, blocks: int):
        super().__init__()
        self.intro = conv1x1(width, channels, bias=False)
        self.steps = nn.ModuleList(CASNetStep(width, channels, doublings, blocks) for doublings in range(4))

    def forward(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        x = self.intro(x)
        for step, e, d in zip(self.steps, encoded, reversed(decoded), strict=True):
            x = step(x, e, d)
        return x


class Restoration(NamedTuple):
    """What a network returns in training mode: both N×3×H×W; stage1 is None where the stage-1 head is not built."""

    restored: Tensor
    stage1: Tensor | None


class RestorationNetwork(nn.Module):
    """Images N×3×H×W, floats in [0, 1], any H and W from 1 up → the restored image, not clamped; in training mode a
    `Restoration`. Raises ValueError for images of another shape or without pixels."""

    def __init__(self, context: ContextStage):
        super().__init__()
        self.context = context

    def residual(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        """What is added to the image x, from x and the context stage's maps."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor | Restoration:
        if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
            shape = "×".join(map(str, image.shape)) or "a scalar"
            raise ValueError(f"the network takes images N×3×H×W of at least one pixel, not {shape}")
        height, width = image.shape[2:]
        x = pad_to_multiple(image)
        encoded, decoded = self.context(x)
        restored = (x + self.residual(x, encoded, decoded))[:, :, :height, :width]
        if not self.training:
            return restored
        head = self.context.head
        return Restoration(restored, None if head is None else (x + head(decoded[-1]))[:, :, :height, :width])


def pad_to_multiple(image: Tensor, multiple: int = MULTIPLE) -> Tensor:
    """N×C×H×W padded at the right and bottom to multiples: reflected without repeating the edge as far as the image
    reaches, then its last row or column repeated. Three columns become 0 1 2 1 0 0 0 …"""
    for dim in (2, 3):
        last = image.shape[dim] - 1
        position = torch.arange((last // multiple + 1) * multiple, device=image.device)
        image = image.index_select(dim, last - (last - position.clamp(max=2 * last)).abs())
    return image


class MHNet(RestorationNetwork):
    """MHNet (v1), as `MHNetArgs` say: `MHNet(n_feat=40)`. See `RestorationNetwork` for what it takes and returns."""

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
