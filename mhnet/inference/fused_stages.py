"""The full-resolution stages and upsamplings of a fused network: see `mhnet.inference.fuse`."""

import copy

import torch
from torch import Tensor, nn

from mhnet.inference.elementwise import add_doubled, doubled, normalise
from mhnet.inference.fused import Fused, FusedBlocks, matrix
from mhnet.inference.stripes import conv_over, conv_rows, flat, maps, mean, pixels, stripes, window_means
from mhnet.models.mhnet import CASNet, CASNetStep, MHNet, PixelShuffleUp, RestorationNetwork, full_precision
from mhnet.models.mhnet_v4 import FRSNet, FRSNetStep


class FusedCASNetStep(nn.Module):
    """A step whose encoder and decoder terms are one 1×1 convolution of both maps, at their resolution: it commutes
    with bilinear upsampling."""

    encoder: Tensor
    decoder: Tensor
    conv: Tensor

    def __init__(self, step: CASNetStep):
        super().__init__()
        self.norm = step.norm
        assert isinstance(step.group.blocks, FusedBlocks)
        self.blocks: FusedBlocks = step.group.blocks
        self.register_buffer("conv", step.group.conv.weight.detach())
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

    def forward(self, x: Tensor, terms: list[Tensor], spare: Tensor) -> tuple[Tensor, Tensor]:
        """H×W×n_feat, the terms of later steps and of this one, which it removes, and a map that nobody needs but as
        this step's term → the result and a map that nobody needs any more. It works in the memory of them."""
        term = terms.pop()
        for _ in range(self.doublings - 1):
            term = doubled(term)
        for rows in stripes(x, 2):  # the term comes before the group, which then holds two maps and not three
            normalise(x[rows], self.norm, x[rows])
            if self.doublings:
                add_doubled(term, rows, x[rows], spare[rows])
            else:
                torch.add(x[rows], term[rows], out=spare[rows])
        del term
        y = self.blocks.update(x, x)
        for rows in stripes(y):
            spare[rows].add_(conv_rows(y, rows, self.conv))
        return spare, x


class FusedCASNet(nn.Module):
    """The full-resolution stage. It empties the lists that it is given, so that maps are released when last used."""

    intro: Tensor

    def __init__(self, stage: CASNet):
        super().__init__()
        self.steps = nn.ModuleList(FusedCASNetStep(step) for step in stage.steps if isinstance(step, CASNetStep))
        self.register_buffer("intro", matrix(stage.intro).to(stage.intro.weight.dtype).contiguous())

    def terms(self, encoded: list[Tensor], decoded: list[Tensor], count: int) -> list[Tensor]:
        """The terms of so many steps, the smallest first, of maps that it takes from the lists: while a larger one is
        made, smaller maps have become terms."""
        kind, terms = self.intro.dtype, []
        with full_precision(self.intro):
            for _ in range(count):
                step = self.steps[len(encoded) - 1]
                assert isinstance(step, FusedCASNetStep)
                terms.append(step.term(encoded.pop().to(kind), decoded.pop(0).to(kind)))
        return terms

    def forward(self, merged: list[Tensor], terms: list[Tensor]) -> Tensor:
        """1×w×H×W, alone in a list, and the terms of one image."""
        x = merged.pop()
        with full_precision(x):
            features = pixels(x.to(self.intro.dtype))
            y = (flat(features) @ self.intro).view(*features.shape[:2], -1)
            del features, x
            spare = terms[-1]
            for step in self.steps:
                y, spare = step(y, terms, spare)
            return maps(y)


class ExactConv(nn.Module):
    """A zero-padded 3×3 convolution of a map of any type, computed in float32 stripe by stripe, with results of the
    given type."""

    def __init__(self, conv: nn.Conv2d, kind: torch.dtype):
        super().__init__()
        self.weight, self.bias, self.kind = copy.deepcopy(conv.weight), copy.deepcopy(conv.bias), kind

    def forward(self, x: Tensor) -> Tensor:
        x = pixels(x)
        out = x.new_empty(*x.shape[:2], len(self.weight), dtype=self.kind)
        for rows in max(stripes(x), stripes(out), key=len):
            first, last = max(rows.start - 1, 0), min(rows.stop + 1, len(x))
            y = conv_rows(x[first:last].float(), slice(rows.start - first, rows.stop - first), self.weight)
            out[rows] = y if self.bias is None else y + self.bias
        return maps(out)


class FusedMHNet(RestorationNetwork):
    """MHNet of fused parts, which merges both branches stripe by stripe, in the memory of the shallow one."""

    def __init__(self, network: MHNet):
        super().__init__(network.context)
        assert isinstance(network.dual_attention, Fused)
        self.shallow, self.dual_attention, self.merge = network.shallow, network.dual_attention, network.merge
        assert isinstance(network.full_resolution, FusedCASNet)
        self.full_resolution: FusedCASNet = network.full_resolution
        self.tail = network.tail
        self.dual_attention.in_place = True

    def residual(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        terms = self.full_resolution.terms(encoded, decoded, len(encoded) - 1)  # which are smaller than their maps
        merged = [self.dual_attention(self.shallow(x))]
        with full_precision(x):
            merge_(pixels(merged[0]), pixels(decoded[-1].to(merged[0].dtype)), self.merge.weight)
        terms += self.full_resolution.terms(encoded, decoded, 1)
        return self.tail(self.full_resolution(merged, terms))


def merge_(shallow: Tensor, deep: Tensor, weight: Tensor) -> None:
    """A 3×3 convolution of both maps together, H×W×C each, in the place of the first."""

    def both(rows: slice, out: Tensor) -> None:
        torch.cat((shallow[rows], deep[rows]), 2, out=out)

    for rows, y in conv_over(shallow, both, weight):
        shallow[rows] = y  # which have been read


class FusedPixelShuffleUp(Fused):
    """Twice the size; the product's outputs lie in the order in which the pixels take them."""

    weight: Tensor

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
    """A step that adds the encoder and decoder terms from half their size, with the fusion's weights, unless they are
    local, folded into their last convolution."""

    encoder: Tensor
    decoder: Tensor

    def __init__(self, step: FRSNetStep, decoder_conv: nn.Module):
        super().__init__()
        self.norm, self.fusion = step.norm, step.fusion
        assert isinstance(step.group, FusedBlocks)
        self.group = step.group
        self.encoder_ups, self.decoder_ups = step.encoder_term[:-2], step.decoder_up[:-1]
        encoder, decoder = matrix(step.encoder_term[-1]), matrix(decoder_conv)
        if len(step.decoder_up):
            encoder, decoder = then(step.encoder_term[-2], encoder), then(step.decoder_up[-1], decoder)
        kind = step.encoder_term[-1].get_parameter("weight").dtype
        self.register_buffer("encoder", encoder.to(kind).contiguous())
        self.register_buffer("decoder", decoder.to(kind).contiguous())

    def forward(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        """H×W×C and the maps of this step and later ones, of which it removes its own. It works in place."""
        for rows in stripes(x):
            normalise(x[rows], self.norm, x[rows])
        y = self.group.image(x)
        for rows in stripes(x):
            x[rows].add_(y[rows])
        del y
        channels = x.shape[-1]
        e = pixels(self.encoder_ups(encoded.pop(0)).to(x.dtype))
        d = pixels(self.decoder_ups(decoded.pop()).to(x.dtype))
        window = self.fusion.pool.window(*x.shape[:2])
        if window is not None:
            return self.locally(x, e, d, window)
        corners = self.encoder.shape[1] // channels
        weights = [weight.unflatten(1, (corners, channels)) for weight in (self.encoder, self.decoder)]
        pooled = mean(x) + mean(e) @ weights[0].mean(1) + mean(d) @ weights[1].mean(1)
        factors = [one.flatten() for one in self.attend(pooled.view(1, 1, -1))]
        encoder, decoder = [(weight * a).flatten(1) for weight, a in zip(weights, factors[1:], strict=True)]
        scale = len(x) // len(e)
        for rows in stripes(x, 2):
            low = slice(rows.start // scale, rows.stop // scale)
            y = (flat(e[low]) @ encoder).addmm_(flat(d[low]), decoder)
            x[rows].mul_(factors[0])
            if scale == 2:
                add_shuffled(x[rows], y)
            else:
                flat(x[rows]).add_(y)
        return x

    def attend(self, means: Tensor) -> list[Tensor]:
        """h×w×C → the weights of features, encoder and decoder, of the same size."""
        z = self.fusion.gate(self.fusion.squeeze(maps(means)))
        return [pixels(conv(z).softmax(1)) for conv in (self.fusion.features, self.fusion.encoder, self.fusion.decoder)]

    def locally(self, x: Tensor, e: Tensor, d: Tensor, window: int) -> Tensor:
        """The fusion with means over windows, in the place of the features; both terms are computed twice, once for
        the means and once for the result, and never whole."""
        bounds, scale = stripes(x, 2), len(x) // len(e)

        def term(low: Tensor, weight: Tensor, rows: slice) -> Tensor:
            y = flat(low[rows.start // scale : rows.stop // scale]) @ weight
            if scale == 1:
                return y.view(-1, *x.shape[1:])
            out = torch.zeros_like(x[rows])
            add_shuffled(out, y)
            return out

        total = torch.empty_like(x)
        for rows in bounds:
            total[rows] = term(e, self.encoder, rows).add_(term(d, self.decoder, rows)).add_(x[rows])
        for rows, means in zip(bounds, window_means(total, window, bounds), strict=True):
            features, encoder, decoder = self.attend(means)
            x[rows].mul_(features)
            x[rows].add_(term(e, self.encoder, rows).mul_(encoder))
            x[rows].add_(term(d, self.decoder, rows).mul_(decoder))
        return x


class FusedFRSNet(nn.Module):
    """The full-resolution stage of v4. It works in place on the features and empties the lists of maps, so that each is
    released when last used."""

    def __init__(self, stage: FRSNet):
        super().__init__()
        self.steps = nn.ModuleList(
            FusedFRSNetStep(step, stage.decoder_conv) for step in stage.steps if isinstance(step, FRSNetStep)
        )

    def forward(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        """1×w×H×W and the maps of one image."""
        with full_precision(x):
            y = pixels(x.to(self.steps[0].get_buffer("encoder").dtype))
            for step in self.steps:
                y = step(y, encoded, decoded)
            return maps(y)
