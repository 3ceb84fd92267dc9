"""How much an image was changed, and whether that is worth a word."""

from typing import NamedTuple

import torch
from torch import Tensor

FAINT, STRONG = 8, 32
"""Levels of 255 by which a pixel is changed a little, or much."""
FEW = 0.005
"""Share of the pixels below which a change counts as none. It parts the photographs of demo/ from the same ones in the
lightest synthetic rain: at most 0.11 % of their pixels change by more than 32 levels, of the others' at least 1.2 %."""

_DEGRADATIONS = {"deraining": "rain", "deblurring": "blur"}


class Change(NamedTuple):
    """How much the network changed an image, whatever share of it was wanted."""

    mean: float  # absolute difference of a sample, in levels of 255
    faint: float  # share of the pixels of which a sample changed by more than FAINT levels
    strong: float  # by more than STRONG levels


class ChangeMeter:
    """Measures the changes of a batch of so many images, part by part."""

    def __init__(self, images: int):
        self.sums = torch.zeros(3, images, dtype=torch.float64)

    def add(self, before: Tensor, after: Tensor, most: int) -> None:
        """Takes note of a part of all images, N×C×h×w, white being `most`."""
        levels = (after - before).abs_().mul_(255 / most)
        largest = levels.amax(1)
        kinds = (levels.mean(1), largest > FAINT, largest > STRONG)
        self.sums += torch.stack([kind.sum((1, 2), dtype=torch.float64) for kind in kinds]).cpu()

    def changes(self, pixels: int) -> tuple[Change, ...]:
        """Of each image, of so many pixels."""
        return tuple(Change(*one) for one in (self.sums / pixels).t().tolist())


def hardly_changed(change: Change | None, task: str | None) -> list[str]:
    """A sentence where few pixels of an image were changed; `task` is what the weights are for."""
    if change is None:
        return []
    found = f"no {_DEGRADATIONS.get(task or '', 'damage')} found"
    if change.faint < FEW:
        return [f"{found}: hardly changed, by {change.mean:.2f} of 255 levels on average."]
    if task == "deraining" and change.strong < FEW:
        return [f"{found}; its tones changed by {change.mean:.1f} of 255 levels on average all the same."]
    return []
