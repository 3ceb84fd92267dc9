"""What a fused network computes between its products and convolutions, on maps H×W×C: by a kernel where one `fits`,
else by PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mhnet.inference.kernels import fits, run
from mhnet.inference.stripes import flat, maps, pixels
from mhnet.models.mhnet import LayerNorm2d

BLOCKS = 64
"""Blocks that the kernels share their work in, as in `kernels.h`."""


def size(x: Tensor) -> tuple[int, int]:
    """Pixels and channels of H×W×C."""
    return x.shape[0] * x.shape[1], x.shape[2]


def normalise(x: Tensor, norm: LayerNorm2d, out: Tensor | None = None) -> Tensor:
    """Layer normalisation of H×W×C over C, into out, which may be x, or a new map."""
    if not fits(x, out):
        y = F.layer_norm(x, (norm.channels,), norm.weight, norm.bias, norm.eps)
        return y if out is None else out.copy_(y)
    out = torch.empty_like(x) if out is None else out
    run("norm", x, norm.weight.float(), norm.bias.float(), norm.eps, out, out.stride(1), *size(x))
    return out


def gate(x: Tensor, out: Tensor) -> Tensor:
    """The product of the two halves of x's channels, H×W×2C → H×W×C, into out."""
    if not fits(x, out):
        half = x.shape[2] // 2
        return torch.mul(x[..., :half], x[..., half:], out=out)
    run("gate", x, out, out.stride(1), *size(out))
    return out


def keep(x: Tensor, out: Tensor, total: Tensor | None) -> None:
    """Copies H×W×C to out, and adds all its pixels to the total, C in float32 or wider, if there is one."""
    if fits(x, out):
        sums = torch.empty(BLOCKS, x.shape[2])
        run("keep", x, out, out.stride(1), sums, *size(x))
    else:
        out.copy_(x)
        sums = flat(x)
    if total is not None:
        total += sums.sum(0, dtype=total.dtype)


def extremes(x: Tensor, out: Tensor) -> None:
    """The largest value and the mean of each pixel of H×W×C, into H×W×2."""
    if not fits(x, out):
        torch.amax(x, 2, out=out[..., 0])
        torch.mean(x, 2, out=out[..., 1])
        return
    run("extremes", x, out, *size(x))


def add_scaled(x: Tensor, scale: Tensor, out: Tensor) -> None:
    """Adds H×W×C, which may change, times H×W to out."""
    if not fits(x, out):
        out.add_(x.mul_(scale[..., None]))
        return
    run("add_scaled", x, scale, out, *size(x))


def add_doubled(x: Tensor, rows: slice, y: Tensor, out: Tensor) -> None:
    """Those rows of h×w×C at twice its size, bilinear, and y, which may be out, into out."""
    if fits(x, y, out):
        run("enlarge", x, *x.shape[:2], y, out, rows.start, len(y), x.shape[2])
        return
    first, last = max(rows.start // 2 - 1, 0), min(rows.stop // 2 + 1, len(x))
    torch.add(doubled(x[first:last])[rows.start - 2 * first : rows.stop - 2 * first], y, out=out)


def doubled(x: Tensor) -> Tensor:
    """h×w×C at twice its size, bilinear."""
    if fits(x):
        out = x.new_empty(2 * x.shape[0], 2 * x.shape[1], x.shape[2])
        run("enlarge", x, *x.shape[:2], None, out, 0, len(out), x.shape[2])
        return out
    return pixels(F.interpolate(maps(x), scale_factor=2, mode="bilinear", align_corners=False))
