"""Photos in, results out: checked, restored one after the other, scored. Nothing here knows of the page."""

import threading
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mhnet.core.errors import MHNetError
from mhnet.evaluation import protocols
from mhnet.images.header import MAX_PIXELS, read_header
from mhnet.images.read import image_size, read_image, read_rgb
from mhnet.images.write import losses, write_image, write_rgb
from mhnet.restore.change import hardly_changed
from mhnet.restore.plan import plan
from mhnet.restore.precision import PRECISIONS, Precision
from mhnet.restore.restorer import Restorer, RestoreWarning, Tile
from mhnet.restore.tiles import SMALLEST

_SHOWN = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF")  # kinds that browsers show
_HELD = 3  # networks that are kept in memory
_LOCAL = {"auto": None, "on": True, "off": False}

Progress = Callable[[float, str], None]  # is called with the share that is done, and with words for it


@dataclass(frozen=True)
class Limits:
    """What is accepted: bytes of a file, pixels of an image, files at once, bytes of everybody's files together."""

    bytes: int = 64_000_000
    pixels: int = 50_000_000
    files: int = 20
    total: int = 8_000_000_000


@dataclass(frozen=True)
class Settings:
    """How to restore: the weights' file or name, what `Restorer` takes, and how much of the change is kept, 0 to 1."""

    weights: str
    tile: Tile = "auto"
    precision: Precision = "auto"
    local_statistics: bool | None = None
    strength: float = 1

    @classmethod
    def of(cls, weights: str, tile: Any, precision: Any, local: Any, strength: Any) -> "Settings":
        """Settings as clients give them; MHNetError where there is no such setting."""
        number = int(tile) if str(tile).isdecimal() and len(str(tile)) < 10 else 0
        if tile not in ("auto", "off") and number < SMALLEST:
            raise MHNetError(f"A tile is auto, off or a number from {SMALLEST} up, not {tile!r}.")
        if precision not in PRECISIONS:
            raise MHNetError(f"There is no precision {precision!r}: use one of {', '.join(PRECISIONS)}.")
        if local not in tuple(_LOCAL):
            raise MHNetError(f"Local statistics are auto, on or off, not {local!r}.")
        if not isinstance(strength, int | float) or not 0 <= strength <= 100:
            raise MHNetError(f"A strength is a number from 0 to 100 %, not {strength!r}.")
        return cls(weights, number or tile, precision, _LOCAL[local], strength / 100)


class Cancelled(Exception):
    """Nobody waits for the result any more."""


class NetworkProgress:
    """Counts the tiles that are done, and the modules called within a tile; each first asks whether to go on."""

    def __init__(self, network: nn.Module):
        self._calls = 0
        self._calls_of_a_tile = 0  # 0 until one is done
        self._done = 0
        self._count = 1
        self.begin(lambda share, words: None, threading.Event())
        for module in network.modules():
            module.register_forward_pre_hook(self._module_called)

    def begin(self, tell: Progress, cancelled: threading.Event) -> None:
        """For a photo: whom to tell, and what to look at before each module, which raises Cancelled where it is set."""
        self._calls, self._tell, self._cancelled = 0, tell, cancelled

    def tiles_done(self, done: int, count: int) -> None:
        """For the restorer to call."""
        if done > self._done:
            self._calls_of_a_tile = self._calls
        self._done, self._count, self._calls = done, count, 0
        self._report()

    def _module_called(self, module: nn.Module, arguments: Any) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        self._calls += 1
        self._report()

    def _report(self) -> None:
        within = 0.0
        if self._calls_of_a_tile and self._done < self._count:
            within = min(self._calls / self._calls_of_a_tile, 1)
        words = f"tile {min(self._done + 1, self._count)} of {self._count}" if self._count > 1 else ""
        self._tell((self._done + within) / self._count, words)


class PhotoRestorer:
    """Restores photos one after the other, with networks that stay in memory."""

    def __init__(self, device: str, limits: Limits):
        self.device = device
        self.limits = limits
        self._restorer = lru_cache(_HELD)(self._load)
        self._one = threading.Lock()

    def check(self, path: Path) -> tuple[int, int]:
        """A photo's height and width; MHNetError where it is none, or too large."""
        size, limits = path.stat().st_size, self.limits
        if size > limits.bytes:
            raise MHNetError(f"{path.name} has {size / 1e6:.3g} MB; up to {limits.bytes / 1e6:.3g} are taken.")
        height, width = image_size(path, max(limits.pixels, MAX_PIXELS))
        if height * width > limits.pixels:
            count, most = height * width / 1e6, limits.pixels / 1e6
            raise MHNetError(f"{path.name} has {count:.3g} megapixels; up to {most:.3g} are taken.")
        return height, width

    def restore(
        self, path: Path, folder: Path, settings: Settings, tell: Progress, stop: threading.Event
    ) -> tuple[Path, list[str]]:
        """Restores a photo to a file in a folder, as `mhnet restore` does; Cancelled where `stop` was set. Gives the
        file, and notes of what was hardly changed, or done in another way than was asked for."""
        self.check(path)
        (job,) = plan([str(path)], folder, suffix="_restored").jobs
        picture = read_image(path, max(self.limits.pixels, MAX_PIXELS))
        with self._one:
            restorer, progress = self._restorer(replace(settings, strength=1))  # which changes nothing of the network
            progress.begin(tell, stop)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RestoreWarning)  # told with the result
                restorer.strength = 100 * settings.strength
                pixels = restorer(picture.pixels, progress.tiles_done)
            last = restorer.last
            notes = [*hardly_changed(next(iter(last.changes), None), restorer.task), *last.notes]
        write_image(job.target, replace(picture, pixels=pixels))
        return job.target, notes + losses(job.target, picture)

    def _load(self, settings: Settings) -> tuple[Restorer, NetworkProgress]:
        restorer = Restorer.from_weights(settings.weights, self.device, settings.local_statistics, tile=settings.tile,
                                         precision=settings.precision, compile="off")  # fmt: skip
        progress = NetworkProgress(restorer.network)  # counts in Python, which a recording does not call
        restorer(np.zeros((SMALLEST, SMALLEST, 3), np.uint8), progress.tiles_done)  # counts the modules of a tile
        return restorer, progress


def zipped(files: Sequence[Path], folder: Path) -> Path:
    """One zip of several files; those of the same name are numbered."""
    target, seen = folder / "restored.zip", Counter[str]()
    with zipfile.ZipFile(target, "w") as archive:
        for file in files:
            seen[file.name] += 1
            number = f"_{seen[file.name]}" if seen[file.name] > 1 else ""
            archive.write(file, f"{file.stem}{number}{file.suffix}")
    return target


def scores(before: Path, after: Path, clean: Path, protocol: str) -> dict[str, Any]:
    """Scores as JSON, which has no infinity: None for the PSNR of images that are equal."""
    found: dict[str, Any] = {"protocol": protocol}
    for side, image in (("before", before), ("after", after)):
        psnr, ssim = protocols.score(read_rgb(image), read_rgb(clean), protocol)
        found[side] = {"psnr": None if np.isinf(psnr) else round(psnr, 2), "ssim": round(ssim, 4)}
    return found


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
    write_rgb(preview, read_rgb(path))
    return preview
