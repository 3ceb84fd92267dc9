"""One image through a network: of any kind and size, whole or in tiles."""

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mhnet.checkpoints.bundled import weights_path
from mhnet.checkpoints.files import read_checkpoint, sha256
from mhnet.checkpoints.networks import Build, network_of
from mhnet.core import allocator
from mhnet.core.devices import arrived, choose_device, room_like, sent
from mhnet.core.errors import MHNetError
from mhnet.inference.fuse import FusedNetwork
from mhnet.inference.graphs import GraphedNetwork
from mhnet.restore import memory, tiles
from mhnet.restore.change import Change, ChangeMeter
from mhnet.restore.forms import prepared
from mhnet.restore.precision import Precision, computing_in

Tick = Callable[[int, int], None]
Tile = int | Literal["auto", "off"]
AnyImage = TypeVar("AnyImage", np.ndarray, Tensor, Image.Image)

AT_ONCE = 512 * 512  # pixels that are computed whole without asking how much memory is free
SHARE = 0.5  # of the free memory that is used
ROOM_ON_CPU = 2 << 30  # bytes: with them a process stays below 3 GiB
LEAST_SHARE = 0.25  # of them, for a tile, however much the image itself takes
ROWS = 512  # of a result that are finished at once, so that what is held beside them is little
LARGE = 1 << 19  # pixels: after an image of more, memory is given back to the system
LEVELS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


class RestoreWarning(UserWarning):
    """An image was restored in another way than was asked for."""


@dataclass
class Computation:
    """How an image was computed.

    Attributes:
        tile: height and width of a tile; None for an image computed whole.
        count: of tiles.
        precision: that it was computed in.
        changes: how much the network changed each image; empty where the network was not asked.
        notes: what was done in another way than was asked for, as sentences.
    """

    tile: tuple[int, int] | None = None
    count: int = 1
    precision: Precision = "fp32"
    changes: tuple[Change, ...] = ()
    notes: list[str] = field(default_factory=list)


class Restorer:
    """Restores images with one network.

    Args:
        network: the network; it is moved to the device and put into evaluation mode.
        device: where it computes; a name such as in `mhnet.core.devices.choose_device`, or a device.
        local_statistics: use means over windows (TLC) as if trained on patches of this side; None: global means.
        precision: "auto", "fp32", "bf16" or "fp16" (`mhnet.restore.precision`); "auto" takes bf16 for 8 bits alone.
        fuse: on a CPU, compute the same function in less time and memory where it was seen to be the same
            (`mhnet.inference.fuse`).
        tile: "auto" computes an image in tiles where it would not fit in the memory that is free, "off" never, and a
            number in tiles of at most so many pixels a side.
        compile: "auto" records and compiles the network for sizes that come again, on a CUDA GPU
            (`mhnet.inference.graphs`); "off": never.
        strength: percent of the network's change that results get: 0 gives the original's values, 100 the network's.
        room: bytes that an image, its result among them, may take on a CPU; half of what is free where that is less.

    Attributes:
        task: what the weights are for, where that is noted.
        identity: the weights' SHA-256; '' where they are not from a file.
        local_statistics: as above.
        as_written: why the network has no faster form that was asked for; else ''.
        last: how the last image was computed.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str = "cpu",
        local_statistics: int | None = None,
        *,
        precision: Precision = "auto",
        tile: Tile = "auto",
        fuse: bool = True,
        compile: Literal["auto", "off"] = "auto",
        strength: float = 100,
        room: int = ROOM_ON_CPU,
    ):
        if not 0 <= strength <= 100:
            raise MHNetError(f"The strength is in percent, from 0 to 100, not {strength}.")
        self.task: str | None = None
        self.identity = ""
        self.device = choose_device(device) if isinstance(device, str) else device
        self.tile: Tile = tile
        self.local_statistics, self.strength, self.room = local_statistics, strength, room
        self.forms = prepared(network, self.device, local_statistics, precision, fuse, compile == "auto")
        self.precision: Precision = self.forms.precision
        self.network, self.as_written = self.forms.network, self.forms.as_written
        self.last, self._now = Computation(), self.network  # the form that computes this image
        self._per_pixel: dict[nn.Module, float] = {}
        self._most: int | None = None  # pixels at once, once memory has run out
        self._held = 0  # pixels at once for which the memory is at hand, kept from an earlier image

    @classmethod
    def from_weights(
        cls,
        path: str | Path,
        device: torch.device | str = "cpu",
        local_statistics: bool | None = None,
        *,
        network: Build | None = None,
        **options: Any,
    ) -> "Restorer":
        """A restorer from a checkpoint.

        Args:
            path: a file, or the name of weights that ship.
            device: as for the class.
            local_statistics: on, off, or with None as is noted with the weights (`Checkpoint.local_patch`).
            network: builds another network than this package's, as for `mhnet.load`.
            **options: as for the class.

        Raises:
            WeightsError: the file is missing, damaged, unsafe, or not an MHNet.
        """
        checkpoint = read_checkpoint(path)
        patch = checkpoint.local_patch(local_statistics)
        restorer = cls(network_of(checkpoint, network, path), device, patch, **options)
        restorer.task, restorer.identity = checkpoint.task, sha256(weights_path(path))
        return restorer

    def __call__(self, image: AnyImage, tick: Tick | None = None) -> AnyImage:
        """The restored image, of the same kind, size and bits as the image.

        Args:
            image: uint8 or uint16, H×W×3 RGB, or H×W×1 or H×W grey, full scale 255 or 65535, or N×H×W×3 or N×H×W×1;
                or N×3×H×W or N×1×H×W floats in [0, 1], whose result lies on the same device; or a PIL image, whose
                alpha is kept.
            tick: is called with how many tiles are done and how many there are, before the first and after each.

        Raises:
            ValueError: the image has another type or shape.
            MHNetError: memory does not suffice for the smallest tile, or the network's result is not finite.
        """
        self.last, tick = Computation(), tick or (lambda done, count: None)
        if isinstance(image, Tensor):
            return self._tensor(image, tick)
        if isinstance(image, Image.Image):
            return self._pil(image, tick)
        return self._array(image, tick)

    def _array(self, image: np.ndarray, tick: Tick) -> np.ndarray:
        if not isinstance(image, np.ndarray):
            raise ValueError(f"an image is an array, a PIL image or a tensor, not {type(image).__name__}")
        stack = {2: image[None, ..., None], 3: image[None], 4: image}.get(image.ndim)
        if image.dtype not in LEVELS or stack is None or stack.shape[3] not in (1, 3) or 0 in image.shape:
            raise ValueError(f"an image is uint8 or uint16, H×W×3 or grey H×W, not {image.dtype} {image.shape}")
        batch = torch.from_numpy(np.require(stack, requirements=["C", "W"])).permute(0, 3, 1, 2)
        restored = self._restore(batch, LEVELS[image.dtype], tick)
        return restored.permute(0, 2, 3, 1).numpy().reshape(image.shape)

    def _pil(self, image: Image.Image, tick: Tick) -> Image.Image:
        if image.mode in ("I", "F"):
            raise ValueError(f"an image of mode {image.mode!r} has no known full scale: convert it to 'I;16' or 'RGB'")
        transparent = "A" in image.getbands() or "transparency" in image.info
        if image.mode.startswith("I;16"):
            return Image.fromarray(self._array(np.asarray(image, np.uint16), tick))
        grey = image.mode in ("1", "L", "LA", "La")
        alpha = image.convert("RGBA").getchannel("A") if transparent else None
        restored = Image.fromarray(self._array(np.asarray(image.convert("L" if grey else "RGB")), tick))
        restored.info = {key: value for key, value in image.info.items() if key != "transparency"}
        if alpha is not None:
            restored.putalpha(alpha)
        return restored

    def _tensor(self, image: Tensor, tick: Tick) -> Tensor:
        if image.ndim != 4 or image.shape[1] not in (1, 3) or 0 in image.shape or not image.is_floating_point():
            raise ValueError(f"a batch of images is N×3×H×W or N×1×H×W floats, not {image.dtype} {tuple(image.shape)}")
        return self._restore(image, 1, tick)

    @torch.inference_mode()
    def _restore(self, image: Tensor, most: int, tick: Tick) -> Tensor:
        """N×C×H×W of any type, white being `most`, to the same; with smaller tiles where memory runs out."""
        images, _, height, width = image.shape
        exact = None if most == 255 else self.forms.exact
        self._now, self.last.precision = exact or self.network, "fp32" if exact else self.precision
        if self.strength == 0:
            allocator.give_back()
            tick(0, 1)
            tick(1, 1)
            return image.clone()
        allocator.keep_large(not isinstance(self.network, FusedNetwork))
        grid, result = self._grid(image), room_like(image, self.device)
        while not self._fits(grid, image, most, result, tick):
            if isinstance(self.network, GraphedNetwork):
                self.network.forget()
            memory.let_go(self.device)
            smaller = tiles.by_pixels(height, width, grid.pixels // 2)
            if self.tile == "off":
                raise MHNetError(f"Memory does not suffice for {height}×{width} pixels at once: restore them in tiles.")
            if smaller.pixels >= grid.pixels:
                raise MHNetError(f"Memory does not suffice for a tile of {grid} pixels: close other programs.")
            grid, self._most = smaller, smaller.pixels * images
            self._note(f"memory ran out, tiles of {grid} pixels were used")
        self._keep_memory(grid.pixels * images)
        self.last.tile = (grid.rows.side, grid.columns.side) if grid.tiles > 1 else None
        self.last.count = grid.tiles
        return result

    def _fits(self, grid: tiles.Grid, image: Tensor, most: int, result: Tensor, tick: Tick) -> bool:
        """Computes an image in these tiles, unless memory runs out."""
        done, meter = itertools.count(), ChangeMeter(len(image))

        def compute(box: tiles.Box) -> Tensor:
            top, bottom, left, right = box
            part = sent(image[:, :, top:bottom, left:right], self.device)
            tick(next(done), grid.tiles)
            return self._computed((part.float() / most).contiguous(memory_format=torch.channels_last))

        def finish(top: int, band: Tensor) -> None:
            for rows in band.split(ROWS, -2):
                before = sent(image[:, :, top : top + rows.shape[-2]], rows.device).float()
                after = rows.clamp(0, 1) * most
                meter.add(before, after, most)
                after = torch.lerp(before, after, self.strength / 100)
                after = after if most == 1 else after.round().to(torch.uint8 if most == 255 else torch.int32)
                result[:, :, top : top + rows.shape[-2]].copy_(after, non_blocking=after.is_cuda)
                top += rows.shape[-2]

        try:
            tiles.run(grid, compute, finish)
            tick(next(done), grid.tiles)
            arrived(self.device)
        except (RuntimeError, MemoryError) as error:
            if not memory.ran_out(error):
                raise
            return False
        self.last.changes = meter.changes(image[0, 0].numel())
        return True

    def _computed(self, image: Tensor) -> Tensor:
        """A tile N×C×H×W on the device → its result there."""
        colour = image if image.shape[1] == 3 else image.expand(-1, 3, -1, -1)
        with computing_in(self.forms.autocast, self.device):
            restored = self._now(colour).float()
        if self.forms.autocast != "fp32" and not restored.isfinite().all():
            self._note(f"values left the range of {self.precision}, so it was computed in fp32")
            restored = self._now(colour)
        if not restored.isfinite().all():
            raise MHNetError("The network's result is not finite: the image or the weights hold extreme values.")
        if isinstance(self.network, GraphedNetwork):
            for sentence in self.network.notes:
                self._note(sentence)
            self.network.notes.clear()
        return restored.mean(1, keepdim=True) if image.shape[1] == 1 else restored

    def _grid(self, image: Tensor) -> tiles.Grid:
        """The tiles of an image; a single one where it is computed whole."""
        images, _, height, width = image.shape
        grid = tiles.by_side(height, width, self.tile if isinstance(self.tile, int) else max(height, width))
        if self.tile == "off":
            return grid
        if self.tile == "auto" and height * width * images > max(AT_ONCE, self._held):
            allocator.give_back()
            if (per_pixel := self._per_pixel.get(self._now)) is None:
                plain = self._now.network if isinstance(self._now, GraphedNetwork) else self._now
                with computing_in(self.forms.autocast, self.device):
                    per_pixel = self._per_pixel[self._now] = memory.bytes_per_pixel(plain, self.device)
            room = int(SHARE * memory.free(self.device))
            if self.device.type == "cpu":
                room = min(room, max(self.room - 2 * image.nbytes, int(LEAST_SHARE * self.room)))
            if memory.needed(per_pixel, height * width * images) > room:
                grid = tiles.by_pixels(height, width, memory.fitting(per_pixel, room) // images)
        if self._most is not None and grid.pixels * images > self._most:
            grid = tiles.by_pixels(height, width, self._most // images)
        return grid

    def _keep_memory(self, pixels: int) -> None:
        """Remembers what was computed at once, or gives memory back where that was much."""
        if pixels > LARGE:
            allocator.give_back()
        self._held = max(self._held, pixels) if allocator.kept() and pixels <= LARGE else 0

    def _note(self, sentence: str) -> None:
        if sentence not in self.last.notes:
            self.last.notes.append(sentence)
            warnings.warn(sentence, RestoreWarning, stacklevel=2)
