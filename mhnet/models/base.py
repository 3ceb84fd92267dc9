"""The frame of both networks: sizes, the context stage, the final residuals, what is returned."""

from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

import mhnet
from mhnet.models.context import ContextStage

MULTIPLE = 16
"""Heights and widths the networks work at are multiples of this: four halvings."""


LARGEST_COUNT = 4096
"""No count of blocks or channels goes beyond this: a damaged file cannot ask for a network of any size."""


N = TypeVar("N", bound="RestorationNetwork")


class Restoration(NamedTuple):
    """What a network returns in training mode: both N×3×H×W; stage1 is None where the stage-1 head is not built."""

    restored: Tensor
    stage1: Tensor | None


class RestorationNetwork(nn.Module):
    """Images N×3×H×W, floats in [0, 1], any H and W from 1 up.

    In evaluation mode it returns the restored image, not clamped; in training mode a `Restoration`.

    The last three methods are those of `mhnet.hub`, which is imported when they are called.
    """

    def __init__(self, context: ContextStage):
        super().__init__()
        self.context = context

    def residual(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        """What is added to the image x, from x and the context stage's maps."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor | Restoration:
        check_image(image)
        height, width = image.shape[2:]
        x = pad_to_multiple(image)
        encoded, decoded = self.context(x)
        restored = (x + self.residual(x, encoded, decoded))[:, :, :height, :width]
        if not self.training:
            return restored
        head = self.context.head
        return Restoration(restored, None if head is None else (x + head(decoded[-1]))[:, :, :height, :width])

    @classmethod
    def from_pretrained(cls: type[N], name: str | Path, **options: Any) -> N:
        """The network of a folder or a repository of the Hugging Face hub: see `mhnet.hub.from_pretrained`."""
        return mhnet.hub.from_pretrained(cls, name, **options)

    def save_pretrained(self, folder: str | Path, *, task: str | None = None, **options: Any) -> str | None:
        """Writes weights, configuration and card into a folder: see `mhnet.hub.save_pretrained`."""
        return mhnet.hub.save_pretrained(self, folder, task=task, **options)

    def push_to_hub(self, repo_id: str, *, task: str | None = None, **options: Any) -> str:
        """Puts the same into a repository of the Hugging Face hub: see `mhnet.hub.push_to_hub`."""
        return mhnet.hub.push_to_hub(self, repo_id, task=task, **options)


def pad_to_multiple(image: Tensor, multiple: int = MULTIPLE) -> Tensor:
    """N×C×H×W padded at the right and bottom to multiples: reflected without repeating the edge as far as the image
    reaches, then its last row or column repeated. Three columns become 0 1 2 1 0 0 0 …"""
    for dim in (2, 3):
        last = image.shape[dim] - 1
        position = torch.arange((last // multiple + 1) * multiple, device=image.device)
        image = image.index_select(dim, last - (last - position.clamp(max=2 * last)).abs())
    return image


def check_image(x: Tensor) -> None:
    """Raises ValueError unless x is N×3×H×W with at least one pixel."""
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"the network takes images N×3×H×W, not {'×'.join(map(str, x.shape)) or 'a scalar'}")
    if 0 in x.shape:
        raise ValueError(f"the network takes images of at least one pixel, not {'×'.join(map(str, x.shape))}")


def check_counts(encoder_blocks: tuple[int, ...], **counts: int) -> None:
    """Raises ValueError unless there are four encoder levels and every count is a whole number of at least 1."""
    if len(encoder_blocks) != 4:
        raise ValueError(f"encoder_blocks {list(encoder_blocks)} must be four counts, one for each level")
    for name, count in [*counts.items(), *(("encoder_blocks", blocks) for blocks in encoder_blocks)]:
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= LARGEST_COUNT:
            raise ValueError(f"{name} {count!r} must be a whole number from 1 to {LARGEST_COUNT}")
