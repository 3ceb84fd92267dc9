"""The training crops and validation images of deblurring: what train.py uses.

Change it here: another augmentation in `augment`, another degradation of sharp photographs in `DEGRADATIONS`, other
crops in `TrainingCrops`. Pixels travel as uint8; the network gets them as floats in [0, 1].

A room for another task: copy this folder and name the task in TASK (docs/extending.md).
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset
from yacs.config import CfgNode

from mhnet.core.tasks import DEBLURRING
from mhnet.data.crops import detail, pad_to, to_tensor
from mhnet.data.degrade import blur, filmed_rain, rain, untouched
from mhnet.data.sampling import Key
from mhnet.data.sources import Box, Source
from mhnet.train.config import patch_by_epoch
from mhnet.train.sources import find_sources

TASK = DEBLURRING
"""The task's name, test sets, protocols, and the defaults that differ by task: a `mhnet.core.tasks.Task`."""

DEGRADATIONS = {"rain": rain, "filmed_rain": filmed_rain, "blur": blur, "untouched": untouched}
"""What DATA.DEGRADE names: functions of an image (uint8 H×W×3), a random generator and `severity`, a range in [0, 1],
that give the degraded image, or that and its target."""


def build_data(settings: CfgNode) -> "tuple[TrainingCrops, ValidationImages]":
    """The images that the settings name, to train on and to validate with.

    Raises:
        MHNetError: there are no images, a pair does not fit, or too few remain.
    """
    training, validation = find_sources(settings, DEGRADATIONS)
    data, seed = settings.DATA, settings.TRAINING.SEED
    crops = TrainingCrops(training, patch_by_epoch(settings), seed, data.CANDIDATES)
    return crops, ValidationImages(validation, data.VAL_PATCH, seed)


class TrainingCrops(Dataset[Tensor]):
    """Random crops, augmented, as uint8 tensors 2×3×P×P: degraded, target.

    Items are named by (epoch, place in the epoch), and draw from random numbers of their own: neither the number of
    loader processes nor an interruption changes what is drawn.

    Args:
        source: the images; each stands once in an epoch. `source.crop` gives the same part of degraded and target
            image, or of a sharp photograph alone; `source.finish` degrades the latter.
        patch: P, or a function of the epoch that gives it. Smaller images are padded by reflection first.
        candidates: places that are drawn for each crop; the one with most detail is taken.
    """

    def __init__(self, source: Source, patch: int | Callable[[int], int], seed: int, candidates: int = 1):
        self.source, self.patch, self.seed, self.candidates = source, patch, seed, candidates

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> Tensor:
        epoch, index = key
        patch = self.patch if isinstance(self.patch, int) else self.patch(epoch)
        random = np.random.default_rng((self.seed, epoch, index))
        crops = [pad_to(crop, patch) for crop in self.crop(index, patch, random)]
        crops = [np.ascontiguousarray(crop) for crop in augment(crops, random)]
        return to_tensor(self.source.finish(index, crops, random))

    def crop(self, index: int, patch: int, random: np.random.Generator) -> list[np.ndarray]:
        """The same random part of an image's sides, each uint8 H×W×3 with H and W of at most the patch."""
        height, width = self.source.size(index)
        boxes: dict[Box, None] = {}  # in the order of drawing; in a small image they are all the same
        for _ in range(self.candidates):
            top, left = (int(random.integers(max(side - patch, 0) + 1)) for side in (height, width))
            boxes[top, left, min(height, patch), min(width, patch)] = None
        drawn = [self.source.crop(index, box) for box in boxes]
        return max(drawn, key=lambda crops: detail(crops[-1])) if len(drawn) > 1 else drawn[0]


def augment(crops: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
    """One of the 8 flips and quarter turns, the same for every side of a pair (uint8 P×P×3)."""
    turns, flip = int(random.integers(4)), bool(random.integers(2))
    return [np.rot90(crop[:, ::-1] if flip else crop, turns) for crop in crops]


class ValidationImages(Dataset[Tensor]):
    """Centre crops of at most P×P, or whole images where P is 0, as uint8 tensors 2×3×H×W: degraded, target.

    Photographs are degraded in the same way every time.
    """

    def __init__(self, source: Source, patch: int, seed: int):
        self.source, self.patch, self.seed = source, patch, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Tensor:
        size = self.source.size(index)
        height, width = (min(side, self.patch) if self.patch else side for side in size)
        crops = self.source.crop(index, ((size[0] - height) // 2, (size[1] - width) // 2, height, width))
        return to_tensor(self.source.finish(index, crops, np.random.default_rng((self.seed, index))))
