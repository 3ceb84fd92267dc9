"""The blocks of a fused network: see `mhnet.inference.fuse`. Each is made from the part whose function it computes.

Weights of 1×1 convolutions lie here as inputs × outputs, so that pixels × inputs multiply them, but where `product`
takes them as they are.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mhnet.inference.elementwise import add_scaled, extremes, gate, keep, normalise
from mhnet.inference.kernels import fits
from mhnet.inference.stripes import (
    conv_over,
    conv_rows,
    flat,
    maps,
    mean,
    pixels,
    product,
    stripes,
    sum_type,
    window_means,
    with_ones,
)
from mhnet.models.mhnet import SCAB, DualAttention, NAFBlock, SpatialMean, full_precision


def matrix(conv: nn.Module) -> Tensor:
    """Inputs × outputs of a 1×1 convolution, in float64 so that products of them are rounded once."""
    return conv.get_parameter("weight").detach().double().flatten(1).t()


def vector(parameter: Tensor | None) -> Tensor:
    assert parameter is not None  # a part as built has all its biases
    return parameter.detach().double().flatten()


def affine(conv: nn.Module) -> Tensor:
    """Inputs + 1 × outputs of a 1×1 convolution: its bias is the last row, which a channel of ones multiplies."""
    return torch.cat((matrix(conv), vector(conv.get_parameter("bias"))[None]))


class Fused(nn.Module):
    """A part that computes image by image, without gradients and without autocast."""

    in_place = False
    """Whether its result may take the place of what it is given."""

    def keep(self, like: Tensor, **weights: Tensor) -> None:
        """Registers weights as buffers of that type."""
        for name, weight in weights.items():
            self.register_buffer(name, weight.detach().to(like.dtype, copy=True).contiguous())

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → N×C×H×W."""
        kind = next(self.buffers()).dtype
        with full_precision(x):
            images = [maps(self.image(pixels(one.to(kind)))) for one in x.split(1)]
            return images[0] if len(images) == 1 else torch.cat(images)

    def image(self, x: Tensor) -> Tensor:
        """H×W×C → H×W×C."""
        return self.update(x, x if self.in_place else torch.empty_like(x))

    def update(self, x: Tensor, out: Tensor, room: Tensor | None = None) -> Tensor:
        """H×W×C → out of the same size, which may be x itself. What `room` gives is taken for what a block keeps until
        it knows its mean."""
        raise NotImplementedError

    def room(self, x: Tensor) -> Tensor | None:
        """Room for `update`, which blocks of one kind can share."""


def start(x: Tensor, out: Tensor, rows: slice) -> Tensor:
    """Those rows of out, pixels × C, with x's values."""
    if out is not x:
        out[rows] = x[rows]
    return flat(out[rows])


def attend(
    x: Tensor, pool: SpatialMean, bounds: list[slice], attention: Callable[[Tensor], Tensor], weight: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """What a 1×1 convolution of H×W×C under an attention over channels multiplies, stripe by stripe: rows×W×C and
    inputs × outputs. The weights hold the attention where its means are global, else the rows do. `attention` makes
    … × C factors of … × C means.
    """
    window = pool.window(*x.shape[:2])
    if window is None:
        weight = attention(mean(x))[:, None] * weight
        yield from ((x[rows], weight) for rows in bounds)
        return
    for rows, means in zip(bounds, window_means(x, window, bounds), strict=True):
        yield x[rows] * attention(means), weight


class FusedNAFBlock(Fused):
    """A NAFBlock with β, γ and, unless it is local, the channel attention folded into the convolutions before them."""

    weight1: Tensor
    depthwise: Tensor
    depthwise_bias: Tensor
    sca: Tensor
    weight3: Tensor
    weight4: Tensor
    bias4: Tensor
    weight5: Tensor

    def __init__(self, block: NAFBlock):
        super().__init__()
        beta, gamma = vector(block.beta), vector(block.gamma)
        self.norm1, self.norm2, self.pool = block.norm1, block.norm2, block.pool
        sca = F.pad(affine(block.sca), (0, 1))
        sca[-1, -1] = 1  # the ones stay ones
        self.keep(
            block.beta,
            weight1=affine(block.conv1),
            depthwise=block.conv2.weight, depthwise_bias=vector(block.conv2.bias),
            sca=sca,
            weight3=affine(block.conv3) * beta,
            weight4=block.conv4.weight, bias4=vector(block.conv4.bias),
            weight5=affine(block.conv5) * gamma,
        )  # fmt: skip

    def room(self, x: Tensor) -> Tensor:
        return with_ones(x, x.shape[-1])

    def update(self, x: Tensor, out: Tensor, room: Tensor | None = None) -> Tensor:
        channels, gated = x.shape[-1], self.room(x) if room is None else room
        bounds = stripes(x)
        narrow = with_ones(x[: bounds[0].stop], channels)

        def widen(rows: slice, wide: Tensor) -> None:
            if fits(x):  # a kernel writes the norm beside the ones, which the bias' row of the weights multiplies
                normal = narrow[: rows.stop - rows.start]
                normalise(x[rows], self.norm1, normal[..., :-1])
                torch.mm(flat(normal), self.weight1, out=flat(wide))
            else:
                normal = flat(normalise(x[rows], self.norm1))
                torch.mm(normal, self.weight1[:-1], out=flat(wide)).add_(self.weight1[-1])

        for rows, y in conv_over(x, widen, self.depthwise, self.depthwise_bias, 2 * channels):
            gate(y, gated[rows, :, :-1])
        attended = attend(gated, self.pool, bounds, lambda means: means @ self.sca, self.weight3)
        for rows, (factor, weight3) in zip(bounds, attended, strict=True):
            start(x, out, rows).addmm_(flat(factor), weight3)
            y, gated_again = out[rows], narrow[: rows.stop - rows.start]
            gate(product(normalise(y, self.norm2), self.weight4, self.bias4), gated_again[..., :-1])
            flat(y).addmm_(flat(gated_again), self.weight5)
        return out


class FusedSCAB(Fused):
    """A SCAB with the depthwise convolutions' biases moved behind the 1×1 ones and the attention, unless it is local,
    folded into the last.

    The mean is taken before the last convolution, at half the channels, and one product makes the attention of it."""

    depthwise1: Tensor
    weight1: Tensor
    bias1: Tensor
    depthwise2: Tensor
    weight2: Tensor
    attention: Tensor

    def __init__(self, block: SCAB):
        super().__init__()
        self.pool = block.pool
        weight2 = affine(block.pointwise2)
        weight2[-1] += vector(block.depthwise2.bias) @ weight2[:-1]
        attention = weight2 @ matrix(block.sca)
        attention[-1] += vector(block.sca.bias)
        self.keep(
            block.sca.weight,
            depthwise1=block.depthwise1.weight,
            weight1=block.pointwise1.weight,
            bias1=vector(block.depthwise1.bias) @ matrix(block.pointwise1) + vector(block.pointwise1.bias),
            depthwise2=block.depthwise2.weight, weight2=weight2, attention=attention,
        )  # fmt: skip

    def room(self, x: Tensor) -> Tensor:
        return with_ones(x, x.shape[-1] // 2)

    def update(self, x: Tensor, out: Tensor, room: Tensor | None = None) -> Tensor:
        channels = x.shape[-1]

        def narrow(rows: slice, gated: Tensor) -> None:
            gate(product(conv_rows(x, rows, self.depthwise1, channels), self.weight1, self.bias1), gated)

        half = self.room(x) if room is None else room
        window, bounds = self.pool.window(*x.shape[:2]), stripes(x)
        total = half.new_zeros(channels // 2, dtype=sum_type(half)) if window is None else None
        for rows, y in conv_over(x, narrow, self.depthwise2, groups=channels // 2):
            keep(y, half[rows, :, :-1], total)  # while the stripe is in the cache
        if total is not None:
            means = F.pad(total / (x.shape[0] * x.shape[1]), (0, 1), value=1)  # of the ones too
            weight = (self.weight2.to(means.dtype) * (means @ self.attention.to(means.dtype))).to(half.dtype)
            for rows in bounds:
                start(x, out, rows).addmm_(flat(half[rows]), weight)
            return out
        assert window is not None
        for rows, means in zip(bounds, window_means(half, window, bounds), strict=True):
            attended = (half[rows] @ self.weight2).mul_(means @ self.attention)
            start(x, out, rows).add_(flat(attended))
        return out


class FusedBlocks(Fused):
    """Blocks of one kind one after the other, in place from the second on."""

    def __init__(self, blocks: Sequence[nn.Module]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def update(self, x: Tensor, out: Tensor, room: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            assert isinstance(block, Fused)
            room = block.room(x) if room is None else room
            x = block.update(x, out, room)
        return out


class FusedDualAttention(Fused):
    """Dual attention; the factors of places, and of channels unless they are local, go to the other side of the last
    convolution, which is linear."""

    conv1: Tensor
    conv2: Tensor
    spatial: Tensor
    squeeze: Tensor
    excite: Tensor
    by_place: Tensor
    by_channel: Tensor

    def __init__(self, attention: DualAttention):
        super().__init__()
        self.pool = attention.pool
        by_place, by_channel = matrix(attention.merge).chunk(2)
        self.keep(
            attention.merge.weight,
            conv1=attention.conv1.weight, conv2=attention.conv2.weight, spatial=attention.spatial.weight,
            squeeze=matrix(attention.squeeze), excite=matrix(attention.excite),
            by_place=by_place, by_channel=by_channel,
        )  # fmt: skip

    def update(self, x: Tensor, out: Tensor, room: Tensor | None = None) -> Tensor:
        def half(rows: slice, gated: Tensor) -> None:
            gate(conv_rows(x, rows, self.conv1), gated)

        body, both = torch.empty_like(x), x.new_empty(*x.shape[:2], 2)
        for rows, y in conv_over(x, half, self.conv2):
            body[rows] = y
            extremes(y, both[rows])
        place = pixels(F.conv2d(maps(both), self.spatial, padding=2)).sigmoid_()[..., 0]

        def attention(means: Tensor) -> Tensor:
            return ((means @ self.squeeze).relu() @ self.excite).sigmoid()

        bounds = stripes(x)
        attended = attend(body, self.pool, bounds, attention, self.by_channel)
        for rows, (factor, by_channel) in zip(bounds, attended, strict=True):
            start(x, out, rows).addmm_(flat(factor), by_channel)
            t = flat(body[rows]) @ self.by_place
            add_scaled(t.view_as(out[rows]), place[rows], out[rows])
        return out
