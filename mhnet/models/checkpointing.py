"""Activation checkpointing: training in less memory, for a second forward pass through every block.

What a part of the network computed is dropped in the forward pass, all but its result, and computed again when the
backward pass comes to it (Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174).
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BLOCKS = {"SCAB", "NAFBlock"}
"""Names of the classes whose chains are recomputed; by name, because a copy of the network's file has classes of its
own."""
SINGLE = BLOCKS | {"ChannelAttention", "SelectiveAttention", "DualAttention", "AFFM"}

TOGETHER = 2
"""Blocks of a chain that are recomputed together: the map before every second block is kept, and the maps inside two
blocks live at a time. For chains of 8, two to four are alike; one, or all, take a third more memory."""


def use_checkpointing(model: nn.Module, on: bool = True) -> None:
    """Switch activation checkpointing on or off, in place, for any network of `mhnet.models` in training mode.

    Parameters, their names and all results stay as they are, and so does evaluation mode. Call it before
    `torch.compile` and before the network is wrapped for several devices.

    Raises:
        ValueError: the model has no blocks to recompute.
    """
    parts = list(_parts(model))
    if not parts:
        raise ValueError(f"{type(model).__name__} has no blocks to recompute")
    for part in parts:
        part.__dict__.pop("forward", None)  # back to the class's own
        if on:
            part.forward = partial(_recomputed, part)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Chains of blocks, and what stands alone; nothing inside another."""
    children = list(module.children())
    chain = isinstance(module, nn.Sequential) and children and all(_names(child) & BLOCKS for child in children)
    if chain or _names(module) & SINGLE:
        yield module
    else:
        for child in children:
            yield from _parts(child)


def _names(module: nn.Module) -> set[str]:
    """The names of a module's class and of those that it is derived from."""
    return {kind.__name__ for kind in type(module).__mro__}


def _recomputed(part: nn.Module, *maps: Tensor) -> Tensor:
    """What a part computes; of a chain, `TOGETHER` blocks at a time."""
    pieces = [part]
    if isinstance(part, nn.Sequential):
        pieces = [nn.Sequential(*[*part][first : first + TOGETHER]) for first in range(0, len(part), TOGETHER)]
    for piece in pieces:
        forward = partial(type(piece).forward, piece)
        recompute = part.training and torch.is_grad_enabled()
        maps = (checkpoint(forward, *maps, use_reentrant=False) if recompute else forward(*maps),)
    return maps[0]
