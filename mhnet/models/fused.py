"""The parts of a fused network: see `mhnet.models.fuse`. Each is made from the part whose function it computes.

Weights of 1×1 convolutions lie here as inputs × outputs, so that pixels × inputs multiply them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mhnet.models.layers import LayerNorm2d, NAFBlock, PixelShuffleUp, full_precision
from mhnet.models.mhnet import CABG, SCAB, CASNet, CASNetStep, DualAttention
from mhnet.models.mhnet_v4 import FRSNet, FRSNetStep
from mhnet.models.stripes import conv_over, conv_rows, flat, gate, maps, mean, pixels, scratch, stripes


def matrix(conv: nn.Module) -> Tensor:
    """Inputs × outputs of a 1×1 convolution, in float64 so that products of them are rounded once."""
    return conv.get_parameter("weight").detach().double().flatten(1).t()


def vector(parameter: Tensor | None) -> Tensor:
    assert parameter is not None
    return parameter.detach().double().flatten()


class Fused(nn.Module):
    """A part that computes image by image, without gradients and without autocast."""

    def keep(self, like: Tensor, **weights: Tensor) -> None:
        """Registers weights as buffers of that type."""
        for name, weight in weights.items():
            self.register_buffer(name, weight.detach().to(like.dtype, copy=True).contiguous())

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → N×C×H×W."""
        kind = next(self.buffers()).dtype
        with full_precision(x):
            return torch.cat([maps(self.image(pixels(one.to(kind)))) for one in x.split(1)])

    def image(self, x: Tensor) -> Tensor:
        """H×W×C → H×W×C."""
        return self.update(x, torch.empty_like(x))

    def update(self, x: Tensor, out: Tensor) -> Tensor:
        """H×W×C → out of the same size, which may be x itself."""
        raise NotImplementedError


def normalise(x: Tensor, norm: LayerNorm2d) -> Tensor:
    return F.layer_norm(x, (norm.channels,), norm.weight, norm.bias, norm.eps)


def normalise_(x: Tensor, norm: LayerNorm2d) -> Tensor:
    """In place, stripe by stripe."""
    for rows in stripes(x):
        x[rows] = normalise(x[rows], norm)
    return x


class FusedNAFBlock(Fused):
    """A NAFBlock with β, γ and the channel attention folded into the convolutions before them."""

    def __init__(self, block: NAFBlock):
        super().__init__()
        beta, gamma = vector(block.beta), vector(block.gamma)
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.keep(
            block.beta,
            weight1=matrix(block.conv1), bias1=vector(block.conv1.bias),
            depthwise=block.conv2.weight, depthwise_bias=vector(block.conv2.bias),
            sca=matrix(block.sca), sca_bias=vector(block.sca.bias),
            weight3=matrix(block.conv3) * beta, bias3=vector(block.conv3.bias) * beta,
            weight4=matrix(block.conv4), bias4=vector(block.conv4.bias),
            weight5=matrix(block.conv5) * gamma, bias5=vector(block.conv5.bias) * gamma,
        )  # fmt: skip

    def update(self, x: Tensor, out: Tensor) -> Tensor:
        channels = x.shape[-1]

        def widen(rows: slice, wide: Tensor) -> None:
            torch.mm(flat(normalise(x[rows], self.norm1)), self.weight1, out=flat(wide)).add_(self.bias1)

        gated = torch.empty_like(x)
        for rows, y in conv_over(x, widen, self.depthwise, self.depthwise_bias, 2 * channels):
            gate(y, gated[rows])
        attention = torch.addmv(self.sca_bias, self.sca.t(), mean(gated))
        weight3 = attention[:, None] * self.weight3
        wide, narrow = scratch(x, 2 * channels), scratch(x, channels)
        for rows in stripes(x):
            y = torch.addmm(flat(x[rows]), flat(gated[rows]), weight3, out=flat(out[rows])).add_(self.bias3)
            t = torch.mm(normalise(y, self.norm2), self.weight4, out=wide[: len(y)]).add_(self.bias4)
            y.addmm_(gate(t, narrow[: len(y)]), self.weight5).add_(self.bias5)
        return out


class FusedSCAB(Fused):
    """A SCAB with the depthwise convolutions' biases moved behind the 1×1 ones and the attention folded into the last.

    The mean is taken before the last convolution, at half the channels."""

    def __init__(self, block: SCAB):
        super().__init__()
        weight1, weight2 = matrix(block.pointwise1), matrix(block.pointwise2)
        self.keep(
            block.sca.weight,
            depthwise1=block.depthwise1.weight,
            weight1=weight1, bias1=vector(block.depthwise1.bias) @ weight1 + vector(block.pointwise1.bias),
            depthwise2=block.depthwise2.weight,
            weight2=weight2, bias2=vector(block.depthwise2.bias) @ weight2 + vector(block.pointwise2.bias),
            sca=matrix(block.sca), sca_bias=vector(block.sca.bias),
        )  # fmt: skip

    def update(self, x: Tensor, out: Tensor) -> Tensor:
        channels = x.shape[-1]
        wide = scratch(x, channels)

        def narrow(rows: slice, gated: Tensor) -> None:
            y = flat(conv_rows(x, rows, self.depthwise1, channels))
            gate(torch.mm(y, self.weight1, out=wide[: len(y)]).add_(self.bias1), flat(gated))

        half = x.new_empty(*x.shape[:2], channels // 2)
        for rows, y in conv_over(x, narrow, self.depthwise2, groups=channels // 2):
            half[rows] = y
        pooled = torch.addmv(self.bias2, self.weight2.t(), mean(half))
        attention = torch.addmv(self.sca_bias, self.sca.t(), pooled)
        weight, bias = self.weight2 * attention, self.bias2 * attention
        for rows in stripes(x):
            torch.addmm(flat(x[rows]), flat(half[rows]), weight, out=flat(out[rows])).add_(bias)
        return out


class FusedBlocks(Fused):
    """Blocks one after the other, in place from the second on."""

    def __init__(self, blocks: Sequence[nn.Module]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def update(self, x: Tensor, out: Tensor) -> Tensor:
        for block in self.blocks:
            assert isinstance(block, Fused)
            x = block.update(x, out)
        return out


class FusedCABG(Fused):
    """A group of fused blocks, and its convolution added in place."""

    def __init__(self, group: CABG):
        super().__init__()
        self.blocks = group.blocks
        self.keep(group.conv.weight, weight=group.conv.weight)

    def image(self, x: Tensor) -> Tensor:
        return self.add_to(x, x.clone())

    def add_to(self, x: Tensor, total: Tensor) -> Tensor:
        """Adds what the group adds to x to another map, which may be x, in place."""
        assert isinstance(self.blocks, FusedBlocks)
        y = self.blocks.image(x)
        for rows in stripes(y):
            total[rows] += conv_rows(y, rows, self.weight)
        return total


class FusedDualAttention(Fused):
    """Dual attention; both its factors go to the other side of the last convolution, which is linear."""

    def __init__(self, attention: DualAttention):
        super().__init__()
        by_place, by_channel = matrix(attention.merge).chunk(2)
        self.keep(
            attention.merge.weight,
            conv1=attention.conv1.weight, conv2=attention.conv2.weight, spatial=attention.spatial.weight,
            squeeze=matrix(attention.squeeze), excite=matrix(attention.excite),
            by_place=by_place, by_channel=by_channel,
        )  # fmt: skip

    def update(self, x: Tensor, out: Tensor) -> Tensor:
        def half(rows: slice, gated: Tensor) -> None:
            gate(conv_rows(x, rows, self.conv1), gated)

        body, extremes = torch.empty_like(x), x.new_empty(*x.shape[:2], 2)
        for rows, y in conv_over(x, half, self.conv2):
            body[rows] = y
            torch.amax(y, 2, out=extremes[rows][..., 0])
            torch.mean(y, 2, out=extremes[rows][..., 1])
        place = flat(pixels(F.conv2d(maps(extremes), self.spatial, padding=2)).sigmoid_())
        attention = ((mean(body) @ self.squeeze).relu() @ self.excite).sigmoid()
        by_channel = attention[:, None] * self.by_channel
        width = x.shape[1]
        for rows in stripes(x):
            y = flat(body[rows])
            t = (y @ self.by_place).mul_(place[rows.start * width : rows.stop * width])
            torch.addmm(flat(x[rows]), y, by_channel, out=flat(out[rows])).add_(t)
        return out


class FusedCASNetStep(nn.Module):
    """A step whose encoder and decoder terms are one 1×1 convolution of both maps, at their resolution: it commutes
    with bilinear upsampling."""

    def __init__(self, step: CASNetStep):
        super().__init__()
        self.norm, self.group = step.norm, step.group
        self.doublings = len(step.encoder_term) - 1
        for name, term in (("encoder", step.encoder_term), ("decoder", step.decoder_term)):
            weight = matrix(term[-1])
            for up in reversed(term[:-1]):
                assert isinstance(up, nn.Sequential)
                weight = matrix(up[1]) @ weight
            self.register_buffer(name, weight.to(term[-1].get_parameter("weight").dtype))

    def term(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """Maps of one scale → the sum of both terms before upsampling, h×w×n_feat."""
        encoded, decoded = pixels(encoded), pixels(decoded)
        out = (flat(encoded) @ self.encoder).addmm_(flat(decoded), self.decoder)
        return out.view(*encoded.shape[:2], -1)

    def forward(self, x: Tensor, terms: list[Tensor]) -> Tensor:
        """H×W×n_feat and the terms of this step and later ones, of which it removes its own. It works in place."""
        normalise_(x, self.norm)
        if not isinstance(self.group, FusedCABG):
            x = pixels(self.group(maps(x)).to(x.dtype))
            add_upsampled(x, terms.pop(0), self.doublings)
            return x
        y = self.group.blocks.image(x)
        add_upsampled(x, terms.pop(0), self.doublings)
        for rows in stripes(y):
            x[rows] += conv_rows(y, rows, self.group.weight)
        return x


def add_upsampled(x: Tensor, term: Tensor, doublings: int) -> None:
    """Adds a map that is bilinearly enlarged, twofold every time, in place and stripe by stripe."""
    if not doublings:
        for rows in stripes(x):
            x[rows] += term[rows]
        return
    for _ in range(doublings - 1):
        term = pixels(doubled(term))
    for rows in stripes(x, 2):
        first, last = max(rows.start // 2 - 1, 0), min(rows.stop // 2 + 1, len(term))
        x[rows] += pixels(doubled(term[first:last]))[rows.start - 2 * first : rows.stop - 2 * first]


def doubled(x: Tensor) -> Tensor:
    """h×w×C → 1×C×2h×2w."""
    return F.interpolate(maps(x), scale_factor=2, mode="bilinear", align_corners=False)


class FusedCASNet(nn.Module):
    """The full-resolution stage. It empties the lists of maps that it is given, so that each is released when last
    used."""

    def __init__(self, stage: CASNet):
        super().__init__()
        self.steps = stage.steps
        self.register_buffer("intro", matrix(stage.intro).to(stage.intro.weight.dtype).contiguous())

    @torch.no_grad()
    def forward(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        if len(x) > 1:
            each = range(len(x))
            ones = [[[m[i : i + 1] for m in part] for part in ([x], encoded, decoded)] for i in each]
            return torch.cat([self(one[0][0], one[1], one[2]) for one in ones])
        kind = self.intro.dtype
        with full_precision(x):
            terms = [step.term(encoded.pop(0).to(kind), decoded.pop().to(kind)) for step in self.steps]
            features = pixels(x.to(kind))
            y = (flat(features) @ self.intro).view(*features.shape[:2], -1)
            for step in self.steps:
                y = step(y, terms)
            return maps(y)


class FusedPixelShuffleUp(Fused):
    """Twice the size; the product's outputs lie in the order in which the pixels take them."""

    def __init__(self, up: PixelShuffleUp):
        super().__init__()
        weight = matrix(up[0])  # its outputs are ordered by channel, row and column
        self.keep(up[0].get_parameter("weight"), weight=weight.unflatten(1, (-1, 4)).transpose(1, 2).flatten(1))

    def image(self, x: Tensor) -> Tensor:
        height, width, _ = x.shape
        out = x.new_zeros(2 * height, 2 * width, self.weight.shape[1] // 4)
        for rows in stripes(out, 2):
            add_shuffled(out[rows], flat(x[rows.start // 2 : rows.stop // 2]) @ self.weight)
        return out


def add_shuffled(out: Tensor, y: Tensor) -> None:
    """Adds hw×4C, ordered by row, column and channel of the 2×2 pixels that each becomes, to 2h×2w×C."""
    height, width, channels = out.shape
    corners = out.view(height // 2, 2, width // 2, 2, channels).transpose(1, 2)
    corners += y.view(height // 2, width // 2, 2, 2, channels)


def then(up: nn.Module, weight: Tensor) -> Tensor:
    """The weight of a fused PixelShuffleUp with a 1×1 convolution (inputs × outputs) after it."""
    assert isinstance(up, FusedPixelShuffleUp)
    return (up.weight.double().unflatten(1, (4, -1)) @ weight).flatten(1)


class FusedFRSNetStep(nn.Module):
    """A step that adds the encoder and decoder terms from half their size, with the fusion's weights folded into their
    last convolution."""

    def __init__(self, step: FRSNetStep, decoder_conv: nn.Module):
        super().__init__()
        self.norm, self.group, self.fusion = step.norm, step.group, step.fusion
        self.encoder_ups, self.decoder_ups = step.encoder_term[:-2], step.decoder_up[:-1]
        encoder, decoder = matrix(step.encoder_term[-1]), matrix(decoder_conv)
        if len(step.decoder_up):
            encoder, decoder = then(step.encoder_term[-2], encoder), then(step.decoder_up[-1], decoder)
        kind = step.encoder_term[-1].get_parameter("weight").dtype
        self.register_buffer("encoder", encoder.to(kind).contiguous())
        self.register_buffer("decoder", decoder.to(kind).contiguous())

    def forward(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        """H×W×C and the maps of this step and later ones, of which it removes its own. It works in place."""
        normalise_(x, self.norm)
        if isinstance(self.group, FusedBlocks):
            y = self.group.image(x)
            for rows in stripes(x):
                x[rows] += y[rows]
            del y
        else:
            x += pixels(self.group(maps(x)).to(x.dtype))
        channels = x.shape[-1]
        e = pixels(self.encoder_ups(encoded.pop(0)).to(x.dtype))
        d = pixels(self.decoder_ups(decoded.pop()).to(x.dtype))
        corners = self.encoder.shape[1] // channels
        weights = [weight.unflatten(1, (corners, channels)) for weight in (self.encoder, self.decoder)]
        pooled = mean(x) + mean(e) @ weights[0].mean(1) + mean(d) @ weights[1].mean(1)
        z = self.fusion.gate(self.fusion.squeeze(pooled.view(1, -1, 1, 1)))
        attend = [conv(z).softmax(1).flatten() for conv in (self.fusion.features, self.fusion.encoder, self.fusion.decoder)]
        encoder, decoder = [(weight * a).flatten(1) for weight, a in zip(weights, attend[1:], strict=True)]
        scale = len(x) // len(e)
        for rows in stripes(x, 2):
            low = slice(rows.start // scale, rows.stop // scale)
            y = (flat(e[low]) @ encoder).addmm_(flat(d[low]), decoder)
            x[rows] *= attend[0]
            if scale == 2:
                add_shuffled(x[rows], y)
            else:
                flat(x[rows]).add_(y)
        return x


class FusedFRSNet(nn.Module):
    """The full-resolution stage of v4. It empties the lists of maps that it is given, so that each is released when
    last used."""

    def __init__(self, stage: FRSNet):
        super().__init__()
        self.steps = nn.ModuleList(FusedFRSNetStep(step, stage.decoder_conv) for step in stage.steps)

    @torch.no_grad()
    def forward(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        if len(x) > 1:
            ones = [[[m[i : i + 1] for m in part] for part in ([x], encoded, decoded)] for i in range(len(x))]
            return torch.cat([self(one[0][0], one[1], one[2]) for one in ones])
        with full_precision(x):
            y = pixels(x.to(self.steps[0].encoder.dtype)).clone()
            for step in self.steps:
                y = step(y, encoded, decoded)
            return maps(y)
