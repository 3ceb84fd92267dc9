"""Maps computed by stripes of rows, for inference: temporaries of a few megabytes that stay in the cache, and few maps.

Maps are H×W×C here, pixel by pixel in memory: rows are slices of it, and a 1×1 convolution is a matrix product.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mhnet.inference.kernels import fits, run

STRIPE = 1 << 20
"""About how many values one stripe of a map holds: 4 MB in float32."""
ROWS_AT_ONCE = 64
"""Rows that windows move over in one product, whose work grows with their square."""
_stripe: ContextVar[int | None] = ContextVar("stripe", default=None)


@contextmanager
def stripes_of(values: int) -> Generator[None]:
    """Within it, stripes hold about so many values, in this thread."""
    before = _stripe.set(values)
    try:
        yield
    finally:
        _stripe.reset(before)


def pixels(maps: Tensor) -> Tensor:
    """1×C×H×W → H×W×C, a view where the map lies channels-last."""
    return maps[0].permute(1, 2, 0).contiguous()


def maps(pixels: Tensor) -> Tensor:
    """H×W×C → 1×C×H×W, a view."""
    return pixels[None].permute(0, 3, 1, 2)


def flat(pixels: Tensor) -> Tensor:
    """H×W×C → HW×C, a view."""
    return pixels.view(-1, pixels.shape[-1])


def stripes(x: Tensor, multiple: int = 1) -> list[slice]:
    """The rows of H×W×C, about STRIPE values at a time, a multiple of `multiple`; the first stripe is the tallest."""
    height = len(x)
    rows = -(-(_stripe.get() or STRIPE) // max(x[0].numel(), 1))
    rows = -(-height // -(-height // rows))  # all about as tall
    rows = -(-rows // multiple) * multiple
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def with_ones(x: Tensor, channels: int) -> Tensor:
    """Room for a map of x's size with that many channels, and behind them one of ones: a product with it adds a bias
    that is the last row of its weights. Kernels, where there are some, write the ones themselves."""
    room = x.new_empty(*x.shape[:2], channels + 1)
    if not fits(x):
        room[..., -1] = 1
    return room


def conv_rows(x: Tensor, rows: slice, weight: Tensor, groups: int = 1) -> Tensor:
    """Some rows of a zero-padded 3×3 convolution without bias of H×W×C."""
    first, last = max(rows.start - 1, 0), min(rows.stop + 1, len(x))
    at_edge = first == rows.start or last == rows.stop
    y = pixels(F.conv2d(maps(x[first:last]), weight, padding=(int(at_edge), 1), groups=groups))
    return y[rows.start - first : rows.stop - first] if at_edge else y


def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 1×1 convolution of H×W×C. Faster than a matrix product that a bias is added to, where its result need not be
    written to a place that is there."""
    return pixels(F.conv2d(maps(x), weight, bias))


def conv_over(
    x: Tensor, fill: Callable[[slice, Tensor], object], weight: Tensor, bias: Tensor | None = None, groups: int = 1
) -> Iterator[tuple[slice, Tensor]]:
    """A zero-padded 3×3 convolution of a map of x's size that exists only stripe by stripe: two rows are carried from
    each to the next, so that nothing is computed twice.

    Args:
        x: H×W×…, only its size counts.
        fill: fill(rows, out) writes those rows of the map into out.
        weight: as for `F.conv2d`.
        bias: likewise.
        groups: likewise.

    Yields:
        Rows of the result in order, and where they belong.
    """
    height, width = x.shape[:2]
    bounds = stripes(x)
    buffer = x.new_empty(bounds[0].stop + 3, width, weight.shape[1] * groups)
    buffer[0] = 0
    filled, done = 1, 0
    for rows in bounds:
        fill(rows, buffer[filled : filled + rows.stop - rows.start])
        filled += rows.stop - rows.start
        if rows.stop == height:
            buffer[filled] = 0
            filled += 1
        if filled > 2:
            y = pixels(F.conv2d(maps(buffer[:filled]), weight, bias, padding=(0, 1), groups=groups))
            yield slice(done, done + len(y)), y
            done += len(y)
            buffer[:2] = buffer[filled - 2 : filled].clone()
            filled = 2


def sum_type(x: Tensor) -> torch.dtype:
    """The type that many of its values are summed in: float32 or wider."""
    return torch.promote_types(x.dtype, torch.float32)


def mean(x: Tensor) -> Tensor:
    """H×W×C → C."""
    return flat(x).sum(0) / (x.shape[0] * x.shape[1])  # PyTorch sums bfloat16 in float32; for `mean` it copies all


def window_means(x: Tensor, window: int, bounds: list[slice]) -> Iterator[Tensor]:
    """`mhnet.models.mhnet.sliding_mean` of H×W×C, stripe by stripe: for each of the bounds, which follow one another
    from the first row to the last, rows×W×C, or rows×1×C where the window is as wide as the map."""
    height, width, channels = x.shape
    tall, wide = min(window, height), min(window, width)
    if fits(x) and wide < width:
        total = x.new_zeros(width, channels, dtype=torch.float32)
        for stripe in bounds:
            sums = total.new_empty(stripe.stop - stripe.start, width, channels)
            run("sums_down", x, height, tall, total, sums, stripe.start, stripe.stop, width, channels)
            means = torch.empty_like(sums, dtype=x.dtype)
            run("means_along", sums, width, wide, 1 / (tall * wide), means, len(sums), channels)
            yield means
        return
    left = (wide - 1) // 2
    first, total = 0, x[:tall].sum(0, keepdim=True, dtype=sum_type(x))  # of the window that starts with the first row
    for stripe in bounds:
        sums = total.new_empty(stripe.stop - stripe.start, width, channels)
        for top in range(stripe.start, stripe.stop, ROWS_AT_ONCE):
            rows = range(top, min(top + ROWS_AT_ONCE, stripe.stop))
            starts = [min(max(row - (tall - 1) // 2, 0), height - tall) for row in rows]
            # a row comes in and one goes out with each step of the window
            steps = x[first + tall : starts[-1] + tall].to(sums.dtype) - x[first : starts[-1]]
            taken = torch.arange(first, starts[-1]) < torch.tensor(starts)[:, None]
            out = sums[top - stripe.start : rows.stop - stripe.start]
            torch.addmm(total.flatten(1), taken.to(x.device, sums.dtype), steps.flatten(1), out=out.flatten(1))
            first, total = starts[-1], out[-1:]
        inside = along_row(sums, wide).div_(tall * wide)
        if wide < width:
            means = sums.new_empty(len(sums), width, channels)
            end = left + inside.shape[1]
            means[:, :left], means[:, left:end], means[:, end:] = inside[:, :1], inside, inside[:, -1:]
            inside = means
        yield inside.to(x.dtype)


def along_row(x: Tensor, window: int) -> Tensor:
    """Sums of so many neighbours in each row of H×W×C: H×(W − window + 1)×C."""
    if window == x.shape[1]:
        return x.sum(1, keepdim=True)
    total = x.cumsum(1)
    sums = total[:, window - 1 :].clone()
    sums[:, 1:] -= total[:, :-window]
    return sums
