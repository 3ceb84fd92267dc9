"""Large images in tiles: where they lie, and how their results are joined without a seam.

Neighbouring tiles share `OVERLAP` pixels. Of these, the `MARGIN` pixels next to a tile's own edge are not used, because
the network saw an edge there that the image does not have; over the rest one tile's result fades into the other's.
`benchmarks/restoring.py` measures what is left of a seam, and how far the result is from the untiled one.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mhnet.models.mhnet import MULTIPLE

OVERLAP = 96  # pixels that neighbouring tiles share
MARGIN = 32  # of these, next to each of the two edges, unused
SMALLEST = 64  # side of the smallest tiles

Box = tuple[int, int, int, int]  # top, bottom, left, right


class Axis(NamedTuple):
    """Tiles along one side of an image."""

    length: int  # of the image, pixels
    side: int  # of every tile, a multiple of 16; the last tile may end earlier, with the image
    starts: tuple[int, ...]  # of the tiles, multiples of 16

    def spans(self) -> list[tuple[int, int]]:
        """(start, end) of every tile."""
        return [(start, min(start + self.side, self.length)) for start in self.starts]


class Grid(NamedTuple):
    """Tiles over an image: rows of equal tiles of `rows.side` × `columns.side` pixels."""

    rows: Axis
    columns: Axis

    def __str__(self) -> str:
        return f"{self.rows.side}×{self.columns.side}"

    @property
    def tiles(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    @property
    def pixels(self) -> int:
        """Of one tile."""
        return self.rows.side * self.columns.side


def by_side(height: int, width: int, side: int) -> Grid:
    """The fewest tiles of at most `side` pixels, overlap included; `side` is rounded to a multiple of 16."""
    side = max(_up(side), SMALLEST)
    return Grid(_at_most(height, side), _at_most(width, side))


def by_pixels(height: int, width: int, pixels: int) -> Grid:
    """The tiles of at most that many pixels each that compute the fewest pixels in all.

    Tiles of which the edges would be most are taken only where larger ones do not fit."""
    candidates = []
    for side in range(SMALLEST, _up(height) + MULTIPLE + SMALLEST, MULTIPLE):
        rows = _at_most(height, side)
        grid = Grid(rows, _at_most(width, max(pixels // rows.side // MULTIPLE * MULTIPLE, SMALLEST)))
        thin = any(len(axis.starts) > 1 and axis.side < 2 * OVERLAP for axis in grid)
        candidates.append((grid.pixels > pixels, thin, grid.tiles * grid.pixels, grid.tiles, grid))
    return min(candidates)[-1]


def run(grid: Grid, compute: Callable[[Box], Tensor], finished: Callable[[int, Tensor], None]) -> None:
    """Computes tile by tile and joins them row by row, so that one row of tiles is all that is held.

    Args:
        grid: the tiles.
        compute: a tile's place to its result, …×h×w floats.
        finished: is given rows of the image that are done, as (the first one's place, …×rows×W floats), from the top
            down.
    """
    above: Tensor | None = None
    for (top, bottom), following in zip(grid.rows.spans(), [*grid.rows.starts[1:], grid.rows.length], strict=True):
        row = (compute((top, bottom, left, right)) for left, right in grid.columns.spans())
        band = _joined(row, grid.columns, -1)
        if above is not None:
            _fade(above, band, -2)
        finished(top, band[..., : following - top, :])
        above = band[..., following - top :, :].clone()


def _joined(tiles: Iterator[Tensor], axis: Axis, dim: int) -> Tensor:
    """Neighbours along a dimension as one."""
    if len(axis.starts) == 1:
        return next(tiles)
    whole = before = torch.empty(0)
    for (start, end), following, tile in zip(axis.spans(), [*axis.starts[1:], axis.length], tiles, strict=True):
        if start == 0:
            whole = tile.new_empty((*tile.shape[:dim], axis.length, *tile.shape[dim:][1:]))
        else:
            _fade(before, tile, dim)
        whole.narrow(dim, start, end - start).copy_(tile)
        before = tile.narrow(dim, following - start, end - following)
    return whole


def _fade(before: Tensor, after: Tensor, dim: int) -> None:
    """Fades `before`, the end of one tile, into the beginning of `after`, in place."""
    shared = before.shape[dim]
    share = fade(shared).to(after.device).reshape([-1] + [1] * (-dim - 1))
    start = after.narrow(dim, 0, shared)
    start.copy_(torch.lerp(before, start, share))


def fade(overlap: int) -> Tensor:
    """The share of the second tile at every pixel of an overlap: 0 over the margin, a smooth rise, 1 over the margin.

    Where the overlap is too narrow for `MARGIN`, a third of it on either side is unused.
    """
    margin = min(MARGIN, overlap // 3)
    rise = (torch.arange(overlap - 2 * margin, dtype=torch.float32) + 0.5) / (overlap - 2 * margin)
    smooth = rise * rise * (3 - 2 * rise)
    return torch.cat((torch.zeros(margin), smooth, torch.ones(margin)))


def _at_most(length: int, side: int) -> Axis:
    """The fewest tiles of at most that side, a multiple of 16, and of these the smallest."""
    whole, overlap = _up(length), min(OVERLAP, side // 2 // MULTIPLE * MULTIPLE)
    count = max(math.ceil((whole - overlap) / (side - overlap)), 1)
    if count == 1:
        return Axis(length, whole, (0,))
    side = _up(math.ceil((whole + (count - 1) * overlap) / count))
    slack = whole - side
    return Axis(length, side, tuple(i * slack // (count - 1) // MULTIPLE * MULTIPLE for i in range(count)))


def _up(length: int) -> int:
    return math.ceil(length / MULTIPLE) * MULTIPLE
