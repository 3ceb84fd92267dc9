"""Parts of a network that train faster in bfloat16 on a CPU: a function and its gradient as loops in C
(`mhnet.inference.kernels`), where a part was seen to compute what this package's computes.

Under autocast, maps are bfloat16 and parameters float32. Sums are added up in float32, in an order that does not depend
on the number of threads.
"""

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mhnet.inference import elementwise
from mhnet.inference.elementwise import BLOCKS, size
from mhnet.inference.kernels import library, run
from mhnet.models.mhnet import LayerNorm2d, SimpleGate, SpatialMean, full_precision


def flat(x: Tensor) -> Tensor:
    """N×C×H×W → NH×W×C, a view where the map lies channels-last."""
    return x.permute(0, 2, 3, 1).contiguous().flatten(0, 1)


def unflat(rows: Tensor, images: int) -> Tensor:
    """NH×W×C → N×C×H×W, a view."""
    return rows.unflatten(0, (images, -1)).permute(0, 3, 1, 2)


class Norm(Function):
    """N×C×H×W, weight C, bias C, eps → layer normalisation over C."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        rows, ctx.eps = flat(x), eps
        out = torch.empty_like(rows)
        run("norm", rows, weight, bias, eps, out, weight.numel(), *size(rows))
        ctx.save_for_backward(rows, weight)
        return unflat(out, len(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # type: ignore[override]
        rows, weight = ctx.saved_tensors
        out, sums = torch.empty_like(rows), torch.empty(BLOCKS, 2, weight.numel())
        run("norm_back", rows, flat(gradients[0]), weight, ctx.eps, out, sums, *size(rows))
        return unflat(out, len(gradients[0])), *sums.sum(0), None


class Gate(Function):
    """N×2C×H×W → N×C×H×W, the product of both halves."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = flat(x)
        out = rows.new_empty(*rows.shape[:2], rows.shape[2] // 2)
        ctx.save_for_backward(rows)
        return unflat(elementwise.gate(rows, out), len(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # type: ignore[override]
        (rows,), after = ctx.saved_tensors, flat(gradients[0])
        out = torch.empty_like(rows)
        run("gate_back", rows, after, out, *size(after))
        return unflat(out, len(gradients[0]))


class Mean(Function):
    """N×C×H×W → N×C×1×1. PyTorch sums bfloat16 in float32, but adds what is spread over a map to one slowly where
    channels are few."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.sides = x.shape[2:]
        return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # type: ignore[override]
        images, channels = gradients[0].shape[:2]
        height, width = ctx.sides
        out = gradients[0].new_empty(images * height, width, channels)
        run("spread", gradients[0].flatten() / (height * width), out, height * width, *size(out))
        return unflat(out, images)


class Depthwise(Function):
    """N×C×H×W, weight C×1×3×3, bias C or None → a zero-padded depthwise convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.biased = bias is not None
        ctx.save_for_backward(x, weight)
        with full_precision(x):  # of weights that are rounded here
            return F.conv2d(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype), 1, 1, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # type: ignore[override]
        (x, weight), after = ctx.saved_tensors, flat(gradients[0])
        sums = torch.empty(BLOCKS, 10, len(weight))
        run("depthwise_back", flat(x), after, sums, *x.shape[2:], len(after), len(weight))
        turned = weight.flip(2, 3).to(x.dtype)
        before = F.conv2d(unflat(after, len(x)), turned, None, 1, 1, 1, len(weight))
        *by_weight, by_bias = sums.sum(0)
        return before, torch.stack(by_weight, 1).view_as(weight), by_bias if ctx.biased else None


FASTER: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    LayerNorm2d: lambda norm, x: Norm.apply(x, norm.weight, norm.bias, norm.eps),
    SimpleGate: lambda _, x: Gate.apply(x),
    SpatialMean: lambda _, x: Mean.apply(x),
    nn.Conv2d: lambda conv, x: Depthwise.apply(x, conv.weight, conv.bias),
}


def speed_up(network: nn.Module) -> int:
    """Lets the parts of a network that have a faster form, and were seen to compute the same, train by it in bfloat16
    on a CPU, and returns their number. Its classes, its parameters and their names stay; each part gets a `forward` of
    its own, as accelerate gives one to a network."""
    found = 0
    for module in network.modules() if library() else ():
        for part, faster in FASTER.items():
            if type(module).__name__ == part.__name__ and computes(module, part):
                module.forward = MethodType(partial(forward, faster), module)
                found += 1
    return found


def forward(faster: Callable[[Any, Tensor], Tensor], module: nn.Module, x: Tensor) -> Tensor:
    fits = module.training and x.dtype is torch.bfloat16 and x.is_cpu
    return faster(module, x) if fits else type(module).forward(module, x)


def computes(module: nn.Module, part: type[nn.Module]) -> bool:
    """Whether a module computes in training, with its gradients, what this package's part with its parameters does."""
    if isinstance(module, nn.Conv2d):
        usual = type(module) is nn.Conv2d and module.padding_mode == "zeros" and module.weight.dtype is torch.float32
        sides = (module.kernel_size, module.stride, module.padding, module.dilation)
        depthwise = module.in_channels == module.out_channels == module.groups
        return usual and depthwise and sides == ((3, 3), (1, 1), (1, 1), (1, 1))
    parameters = list(module.parameters())
    x = torch.randn(2, len(parameters[0]) if parameters else 6, 3, 5, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    results = []
    try:
        for y in (module(x), part.forward(module, x)):
            loss = (y * x[:, : y.shape[1]]).square().sum()
            results.append([y, *torch.autograd.grad(loss, [x, *parameters])])
        return all(torch.allclose(one, other, 1e-4, 1e-5) for one, other in zip(*results, strict=True))
    except Exception:  # of somebody's own code: it computes something else
        return False
