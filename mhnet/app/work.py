"""What the page does with photos: look at them, restore them, score them. Nothing here knows of the page."""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from mhnet.core.errors import MHNetError, sentence
from mhnet.core.tasks import TASKS
from mhnet.evaluation import protocols
from mhnet.images import pictures, rgb
from mhnet.images.header import read_header
from mhnet.restore.page import Scores
from mhnet.restore.plan import plan
from mhnet.restore.precision import PRECISIONS, Precision
from mhnet.restore.restorer import Restorer, RestoreWarning, Tile
from mhnet.restore.tiles import SMALLEST

Progress = Callable[[float, str], None]

_SHOWN = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF")  # kinds that browsers show
_HELD = 3  # networks that are kept in memory


class Cancelled(Exception):
    """Nobody waits for the result any more."""


@dataclass(frozen=True)
class Limits:
    """What is accepted: bytes of a file, pixels of an image, files at once."""

    bytes: int = 64 << 20
    pixels: int = 50_000_000
    files: int = 20


@dataclass(frozen=True)
class Settings:
    """How to restore: the weights' file or name, and what `Restorer` takes."""

    weights: str
    tile: Tile = "auto"
    precision: str = "auto"
    local_statistics: bool | None = None

    def __post_init__(self) -> None:
        """Raises MHNetError for a tile or precision that there is not."""
        number = isinstance(self.tile, int) and not isinstance(self.tile, bool) and self.tile >= SMALLEST
        if self.tile not in ("auto", "off") and not number:
            raise MHNetError(f"A tile is auto, off or a number from {SMALLEST} up, not {self.tile!r}.")
        if self.precision not in PRECISIONS:
            raise MHNetError(f"There is no precision {self.precision!r}: use one of {', '.join(PRECISIONS)}.")


@dataclass(frozen=True)
class Result:
    """A restored photo: its file, and what was done in another way than was asked for."""

    path: Path
    notes: list[str]


class Workshop:
    """Restores photos one after the other, with networks that stay in memory.

    Args:
        device: where networks compute (`mhnet.core.devices.choose_device`).
        limits: what is accepted.
    """

    def __init__(self, device: str, limits: Limits):
        self.device = device
        self.limits = limits
        self._networks: OrderedDict[Settings, tuple[Restorer, Steps]] = OrderedDict()
        self._one = threading.Lock()

    def check(self, path: Path) -> tuple[int, int]:
        """A photo's height and width; MHNetError where it is none, or too large."""
        size, limits = path.stat().st_size, self.limits
        if size > limits.bytes:
            raise MHNetError(f"{path.name} has {size / 1e6:.3g} MB; up to {limits.bytes / 1e6:.3g} are taken.")
        height, width = rgb.size(path)
        if height * width > limits.pixels:
            count, most = height * width / 1e6, limits.pixels / 1e6
            raise MHNetError(f"{path.name} has {count:.3g} megapixels; up to {most:.3g} are taken.")
        return height, width

    def restore(
        self, path: Path, folder: Path, settings: Settings, progress: Progress, cancelled: threading.Event
    ) -> Result:
        """Restores a photo to a file in a folder, as `mhnet restore` does.

        Args:
            progress: is called with the share that is done, and with words for it.
            cancelled: is looked at all the time.

        Raises:
            MHNetError: the photo cannot be read, or not restored.
            Cancelled: `cancelled` was set.
        """
        self.check(path)
        (job,) = plan([str(path)], folder, suffix="_restored")
        picture = pictures.read(path)
        with self._one:
            restorer, steps = self._network(settings)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RestoreWarning)  # told with the result
                pixels = steps.run(lambda: restorer(picture.pixels, steps.tick), progress, cancelled)
            notes = list(restorer.last.notes)
        pictures.write(job.target, replace(picture, pixels=pixels))
        return Result(job.target, notes + pictures.losses(job.target, picture))

    def protocol(self, settings: Settings) -> str:
        """How papers score what these weights are for."""
        with self._one:
            task = self._network(settings)[0].task
        return TASKS[task].protocol if task in TASKS else "rgb_channel_mean"

    def _network(self, settings: Settings) -> "tuple[Restorer, Steps]":
        if settings not in self._networks:
            precision = cast(Precision, settings.precision)
            restorer = Restorer.from_weights(
                settings.weights, self.device, settings.local_statistics, tile=settings.tile, precision=precision
            )
            steps = Steps(restorer.network)
            restorer(np.zeros((SMALLEST, SMALLEST, 3), np.uint8), steps.tick)  # so that it knows how many there are
            self._networks[settings] = restorer, steps
            if len(self._networks) > _HELD:
                self._networks.popitem(last=False)
        self._networks.move_to_end(settings)
        return self._networks[settings]


class Steps:
    """How far a network is with an image: tiles, and the modules that have been called within a tile.

    Args:
        network: is watched; each of its modules first asks whether to go on.
    """

    def __init__(self, network: nn.Module):
        self._calls = 0
        self._each = 0  # calls for a tile; 0 until one is done
        self._done = 0
        self._count = 1
        self._progress: Progress = lambda share, words: None
        self._cancelled = threading.Event()
        for module in network.modules():
            module.register_forward_pre_hook(self._step)

    def run(self, compute: Callable[[], Any], progress: Progress, cancelled: threading.Event) -> Any:
        """What `compute` returns; Cancelled as soon as a module is called when nobody waits any more."""
        self._calls, self._progress, self._cancelled = 0, progress, cancelled
        return compute()

    def tick(self, done: int, count: int) -> None:
        """For the restorer to call: so many tiles are done."""
        if done > self._done:
            self._each = self._calls
        self._done, self._count, self._calls = done, count, 0
        self._tell()

    def _step(self, module: nn.Module, arguments: Any) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        self._calls += 1
        self._tell()

    def _tell(self) -> None:
        within = min(self._calls / self._each, 1) if self._each and self._done < self._count else 0
        words = f"tile {min(self._done + 1, self._count)} of {self._count}" if self._count > 1 else ""
        self._progress((self._done + within) / self._count, words)


def score(before: Path, after: Path, clean: Path, protocol: str) -> Scores:
    """Scores a photo and its result against a clean photo; MHNetError where they cannot be compared."""
    target = rgb.read(clean)
    return Scores(protocol, *(protocols.score(rgb.read(path), target, protocol) for path in (before, after)))


def find_clean(photo: Path, clean: Sequence[Path], alone: bool) -> Path | None:
    """The clean photo that belongs to a photo: that of its name, or the only one where the photo is alone too."""
    if alone and len(clean) == 1:
        return clean[0]
    return next((path for path in clean if path.stem == photo.stem), None)


def shown(path: Path, folder: Path) -> Path:
    """A file that browsers show in an image's place: itself, or a PNG in the folder."""
    head = read_header(path)
    if head.kind in _SHOWN and head.mode != "CMYK":
        return path
    preview = folder / f"{path.stem}.shown.png"
    rgb.write(preview, rgb.read(path))
    return preview


def without_folders(error: MHNetError, *paths: Path) -> str:
    """An error's sentence with files' names instead of their paths."""
    words = sentence(error)
    for path in paths:
        words = words.replace(str(path), path.name)
    return words
