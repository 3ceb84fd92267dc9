"""Where samples come from: pairs on disk, sharp photographs that are degraded on the fly, or both."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mhnet.data.pairs import Pair, check_pairs
from mhnet.images.read import image_size, read_rgb, read_rgb_crop

Box = tuple[int, int, int, int]  # top, left, height, width
Degradation = Callable[[np.ndarray, np.random.Generator], np.ndarray | tuple[np.ndarray, np.ndarray]]
"""Of a sharp image: the degraded one, or that and the target, where the target is not the sharp image itself."""


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
    ImageError by `size` and `crop`, where a file cannot be read."""

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


class Source:
    """Where samples come from, each of one image or several of one size, in files unless `store` says otherwise."""

    def __init__(self, samples: Sequence[Sequence[Path]], store: Images | None = None):
        self.samples, self.store = samples, store or ImageFiles()

    def __len__(self) -> int:
        return len(self.samples)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image."""
        return self.store.size(self.samples[index][0])

    def crop(self, index: int, box: Box) -> list[np.ndarray]:
        """A part of [degraded, target] or [target], uint8 H×W×3."""
        return [self.store.crop(path, box) for path in self.samples[index]]

    def finish(self, index: int, crops: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
        """What `crop` gave for an image, padded, flipped and turned → [degraded, target]."""
        return crops


class PairSource(Source):
    """Pairs, in files unless `store` says otherwise.

    Raises:
        PairError, ImageError: by `size` and `crop`, where the sizes differ or a file cannot be read.
    """

    def __init__(self, pairs: Sequence[Pair], store: Images | None = None):
        super().__init__([pair[:2] for pair in pairs], store)
        self.pairs = pairs

    def size(self, index: int) -> tuple[int, int]:
        found = super().size(index)
        if found != self.store.size(self.pairs[index].target):
            check_pairs([self.pairs[index]])
        return found


class SharpSource(Source):
    """Sharp photographs; their crops are degraded by a function of image and random numbers."""

    def __init__(self, paths: Sequence[Path], degrade: Degradation, store: Images | None = None):
        super().__init__([(path,) for path in paths], store)
        self.paths, self.degrade = paths, degrade

    def finish(self, index: int, crops: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
        made = self.degrade(crops[0], random)
        return list(made) if isinstance(made, tuple) else [made, crops[0]]


class MixedSource(Source):
    """Several sources one behind the other, each as often as its number says; `about` tells a person what they are."""

    def __init__(self, *parts: tuple[Source, int], about: str = ""):
        self.about = about
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
