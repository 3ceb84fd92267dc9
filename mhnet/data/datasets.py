"""Crops for training and images for validation, from pairs on disk or from sharp photographs degraded on the fly.

Every sample draws from its own random numbers, seeded by run, epoch and place in the epoch: what is drawn depends
neither on the number of loader processes nor on where a run was interrupted.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mhnet import images
from mhnet.data.pairs import Pair, check_pairs

Key = tuple[int, int]
Degradation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Source(Protocol):
    """Where images come from: a list of pairs, or of sharp photographs."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> list[np.ndarray]:
        """[degraded, target] or [target], uint8 H×W×3."""
        ...

    def finish(self, crops: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
        """Crops of what `load` gave → [degraded, target]."""
        ...


class _Cache:
    """Decoded images, kept until a number of bytes is reached."""

    def __init__(self, megabytes: int):
        self.left = megabytes << 20
        self.images: dict[Path, np.ndarray] = {}

    def read(self, path: Path) -> np.ndarray:
        image = self.images.get(path)
        if image is None:
            image = images.read(path)
            if image.nbytes <= self.left:
                self.left -= image.nbytes
                self.images[path] = image
        return image


class PairSource:
    """Pairs on disk.

    Raises:
        PairError, ImageError: when loading, where the sizes differ or a file cannot be read.
    """

    def __init__(self, pairs: Sequence[Pair], cache_mb: int = 0):
        self.pairs = pairs
        self.cache = _Cache(cache_mb)

    def __len__(self) -> int:
        return len(self.pairs)

    def load(self, index: int) -> list[np.ndarray]:
        pair = self.pairs[index]
        both = [self.cache.read(pair.degraded), self.cache.read(pair.target)]
        if both[0].shape != both[1].shape:
            check_pairs([pair])
        return both

    def finish(self, crops: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
        return crops


class SharpSource:
    """Sharp photographs; their crops are degraded by a function of image and random numbers."""

    def __init__(self, paths: Sequence[Path], degrade: Degradation, cache_mb: int = 0):
        self.paths = paths
        self.degrade = degrade
        self.cache = _Cache(cache_mb)

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> list[np.ndarray]:
        return [self.cache.read(self.paths[index])]

    def finish(self, crops: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
        return [self.degrade(crops[0], random), crops[0]]


class TrainingCrops(Dataset[Tensor]):
    """Random crops, flipped and turned in one of 8 ways, as uint8 tensors 2×3×P×P: degraded, target.

    Items are named by (epoch, place in the epoch), as `EpochSampler` gives them.

    Args:
        source: the images; each stands `repeat` times in an epoch.
        patch: P. Smaller images are padded by reflection first.
    """

    def __init__(self, source: Source, patch: int, seed: int, repeat: int = 1):
        self.source, self.patch, self.seed, self.repeat = source, patch, seed, repeat

    def __len__(self) -> int:
        return len(self.source) * self.repeat

    def __getitem__(self, key: Key) -> Tensor:
        epoch, item = key
        random = np.random.default_rng((self.seed, epoch, item))
        loaded = [pad_to(image, self.patch) for image in self.source.load(item % len(self.source))]
        height, width = loaded[0].shape[:2]
        top, left = (int(random.integers(size - self.patch + 1)) for size in (height, width))
        crops = [image[top : top + self.patch, left : left + self.patch] for image in loaded]
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        crops = [np.rot90(crop[:, ::-1] if flip else crop, turns) for crop in crops]
        return to_tensor(self.source.finish([np.ascontiguousarray(crop) for crop in crops], random))


class ValidationImages(Dataset[Tensor]):
    """Centre crops of at most P×P, or whole images where P is 0, as uint8 tensors 2×3×H×W: degraded, target.

    Photographs are degraded in the same way every time.
    """

    def __init__(self, source: Source, patch: int, seed: int):
        self.source, self.patch, self.seed = source, patch, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Tensor:
        crops = [_centre(image, self.patch) for image in self.source.load(index)]
        return to_tensor(self.source.finish(crops, np.random.default_rng((self.seed, index))))


class EpochSampler(Sampler[Key]):
    """The order of one epoch: every place once, shuffled by seed and epoch. Set `epoch` before iterating."""

    def __init__(self, size: int, seed: int):
        self.size, self.seed, self.epoch = size, seed, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Key]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        return iter([(self.epoch, int(item)) for item in order])


def start_worker(_worker: int) -> None:
    """Keeps every loader process to one thread; the processes are the parallelism."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def to_tensor(both: list[np.ndarray]) -> Tensor:
    """Two H×W×3 arrays → one 2×3×H×W tensor of the same type."""
    return torch.from_numpy(np.stack(both).transpose(0, 3, 1, 2).copy())


def pad_to(image: np.ndarray, size: int) -> np.ndarray:
    """H×W×C padded at the bottom and right to at least size×size, as the networks pad: reflected without repeating the
    edge as far as the image reaches, then its last row or column repeated."""
    for axis in (0, 1):
        last = image.shape[axis] - 1
        if last + 1 < size:
            position = np.minimum(np.arange(size), 2 * last)
            image = image.take(last - np.abs(last - position), axis)
    return image


def _centre(image: np.ndarray, size: int) -> np.ndarray:
    height, width = (min(side, size) if size else side for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])
