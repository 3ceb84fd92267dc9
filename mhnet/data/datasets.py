"""Crops for training and images for validation, from pairs on disk or from sharp photographs degraded on the fly.

Every sample draws from its own random numbers, seeded by run, epoch and place in the epoch: what is drawn depends
neither on the number of loader processes nor on where a run was interrupted.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mhnet.data.pairs import Pair, check_pairs
from mhnet.images.read import image_size, read_rgb, read_rgb_crop

Key = tuple[int, int]
Box = tuple[int, int, int, int]  # top, left, height, width
Degradation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Images(Protocol):
    """Where pixels come from: files, or a pack of them."""

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width."""
        ...

    def crop(self, path: Path, box: Box) -> np.ndarray:
        """A part of the image, uint8 H×W×3, that is not written to."""
        ...


class ImageFiles:
    """Image files. The first whose pixels fit into `cache_mb` megabytes stay decoded; of others only the crop is.

    Raises:
        ImageError: by `size` and `crop`, where a file cannot be read.
    """

    def __init__(self, cache_mb: int = 0):
        self.left = cache_mb << 20
        self.sizes: dict[Path, tuple[int, int]] = {}
        self.decoded: dict[Path, np.ndarray] = {}

    def size(self, path: Path) -> tuple[int, int]:
        if path not in self.sizes:
            self.sizes[path] = image_size(path)
        return self.sizes[path]

    def crop(self, path: Path, box: Box) -> np.ndarray:
        top, left, height, width = box
        image = self.decoded.get(path)
        if image is None:
            rows, columns = self.size(path)
            if 3 * rows * columns > self.left:
                return read_rgb_crop(path, *box)
            image = self.decoded[path] = read_rgb(path)
            self.left -= image.nbytes
        return image[top : top + height, left : left + width]


class Source(Protocol):
    """Where samples come from: a list of pairs, of sharp photographs, or both."""

    def __len__(self) -> int: ...

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image."""
        ...

    def crop(self, index: int, box: Box) -> list[np.ndarray]:
        """A part of [degraded, target] or [target], uint8 H×W×3."""
        ...

    def finish(self, index: int, crops: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
        """What `crop` gave for an image, padded, flipped and turned → [degraded, target]."""
        ...


class PairSource:
    """Pairs, in files unless `store` says otherwise.

    Raises:
        PairError, ImageError: by `size` and `crop`, where the sizes differ or a file cannot be read.
    """

    def __init__(self, pairs: Sequence[Pair], store: Images | None = None):
        self.pairs, self.store = pairs, store or ImageFiles()

    def __len__(self) -> int:
        return len(self.pairs)

    def size(self, index: int) -> tuple[int, int]:
        pair = self.pairs[index]
        found = self.store.size(pair.degraded)
        if found != self.store.size(pair.target):
            check_pairs([pair])
        return found

    def crop(self, index: int, box: Box) -> list[np.ndarray]:
        return [self.store.crop(path, box) for path in self.pairs[index][:2]]

    def finish(self, index: int, crops: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
        return crops


class SharpSource:
    """Sharp photographs; their crops are degraded by a function of image and random numbers."""

    def __init__(self, paths: Sequence[Path], degrade: Degradation, store: Images | None = None):
        self.paths, self.degrade, self.store = paths, degrade, store or ImageFiles()

    def __len__(self) -> int:
        return len(self.paths)

    def size(self, index: int) -> tuple[int, int]:
        return self.store.size(self.paths[index])

    def crop(self, index: int, box: Box) -> list[np.ndarray]:
        return [self.store.crop(self.paths[index], box)]

    def finish(self, index: int, crops: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
        return [self.degrade(crops[0], random), crops[0]]


class MixedSource:
    """Several sources one behind the other, each as often as its number says."""

    def __init__(self, *parts: tuple[Source, int]):
        self.places = [(source, index) for source, times in parts for index in [*range(len(source))] * times]

    def __len__(self) -> int:
        return len(self.places)

    def size(self, index: int) -> tuple[int, int]:
        source, own = self.places[index]
        return source.size(own)

    def crop(self, index: int, box: Box) -> list[np.ndarray]:
        source, own = self.places[index]
        return source.crop(own, box)

    def finish(self, index: int, crops: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
        source, own = self.places[index]
        return source.finish(own, crops, random)


class TrainingCrops(Dataset[Tensor]):
    """Random crops, flipped and turned in one of 8 ways, as uint8 tensors 2×3×P×P: degraded, target.

    Items are named by (epoch, place in the epoch), as `EpochSampler` gives them.

    Args:
        source: the images; each stands once in an epoch.
        patch: P, or a function of the epoch that gives it. Smaller images are padded by reflection first.
        candidates: places that are drawn for each crop; the one with most detail (`detail`) is taken.
    """

    def __init__(self, source: Source, patch: int | Callable[[int], int], seed: int, candidates: int = 1):
        self.source, self.patch, self.seed, self.candidates = source, patch, seed, candidates

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> Tensor:
        epoch, index = key
        patch = self.patch if isinstance(self.patch, int) else self.patch(epoch)
        random = np.random.default_rng((self.seed, epoch, index))
        height, width = self.source.size(index)
        boxes: dict[Box, None] = {}  # in the order of drawing; in a small image they are all the same
        for _ in range(self.candidates):
            top, left = (int(random.integers(max(side - patch, 0) + 1)) for side in (height, width))
            boxes[top, left, min(height, patch), min(width, patch)] = None
        drawn = [self.source.crop(index, box) for box in boxes]
        chosen = max(drawn, key=lambda crops: detail(crops[-1])) if len(drawn) > 1 else drawn[0]
        crops = [pad_to(crop, patch) for crop in chosen]
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        crops = [np.rot90(crop[:, ::-1] if flip else crop, turns) for crop in crops]
        return to_tensor(self.source.finish(index, [np.ascontiguousarray(crop) for crop in crops], random))


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


class EpochSampler(Sampler[Key]):
    """The order of one epoch: every place once, shuffled by seed and epoch. Set `epoch` before iterating."""

    def __init__(self, size: int, seed: int):
        self.size, self.seed, self.epoch = size, seed, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Key]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        return iter([(self.epoch, int(item)) for item in order])


class EpochBatches(Sampler[list[Key]]):
    """One process's share of an epoch's batches: every batch of the epoch is cut into `parts` micro-batches, and each
    of those is shared by all processes. What a batch holds depends neither on their number nor on `parts`.

    Set `epoch` before iterating, and `start` to the first batch that is wanted.

    Args:
        size: places in an epoch; what is left at its end is not used.
        batch: crops in a batch of all processes, by epoch; a multiple of processes × parts.
    """

    def __init__(
        self, size: int, seed: int, batch: Callable[[int], int], parts: int = 1, process: int = 0, processes: int = 1
    ):
        self.order, self.batch = EpochSampler(size, seed), batch
        self.parts, self.process, self.processes = parts, process, processes
        self.epoch = self.start = 0

    def steps(self, epoch: int) -> int:
        """Batches of an epoch."""
        return len(self.order) // self.batch(epoch)

    def __len__(self) -> int:
        return (self.steps(self.epoch) - self.start) * self.parts

    def __iter__(self) -> Iterator[list[Key]]:
        self.order.epoch = self.epoch
        keys, size = list(self.order), self.batch(self.epoch)
        share = size // (self.processes * self.parts)
        for step in range(self.start, self.steps(self.epoch)):
            for part in range(self.parts):
                first = step * size + (part * self.processes + self.process) * share
                yield keys[first : first + share]


def start_worker(_worker: int) -> None:
    """Keeps every loader process to one thread; the processes are the parallelism. What asks the run to stop, such as
    Ctrl-C, is for the main process, which still needs its loaders until everything is saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def detail(image: np.ndarray) -> float:
    """How much a blur would take from an image, uint8 H×W×3: the mean squared difference to its 5×5 box blur."""
    return float(np.square(image - cv2.blur(image.astype(np.float32), (5, 5))).mean())


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
