"""The faster forms of a network on a CUDA GPU, each for images of one size: recorded, and compiled.

A GPU computes a small image sooner than Python has launched its kernels. A recording (CUDA graph) launches all of them
at once. `torch.compile` merges kernels that would read and write whole maps for a few operations, but takes a minute.
So the first image of a size is computed as it is; the second is recorded, in the time of a few images; and once much
of one size was computed, the network is compiled for it.
"""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mhnet.core.errors import first_line
from mhnet.models.mhnet import RestorationNetwork, pad_to_multiple

RECORDED = 1 << 21
"""Pixels of the largest image that is recorded: in larger ones launching is a small part, and a recording keeps the
memory of its maps."""
KEPT = 4
"""Recordings that are kept at once, which share the memory of their maps."""
COMPILED = 500_000_000
"""Pixels of one size after which the network is compiled for it: a guess at what takes as long as compiling does."""

Run = Callable[[Tensor], Tensor]
Key = tuple[torch.Size, torch.dtype | None]  # an image's shape, and the type of autocast


class Recording:
    """The kernels that a network launches for an image of one size, in the autocast that is on."""

    def __init__(self, run: Run, image: Tensor, pool: object):
        kind = image.device.type
        # as it is on, but without keeping converted weights: the recording would refer to those that are gone after it
        autocast = torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), False)
        with torch.cuda.device(image.device), autocast:
            self.image = image.clone()
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                run(self.image)  # libraries choose their kernels, which cannot be recorded
            torch.cuda.current_stream().wait_stream(beside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=pool):  # type: ignore[arg-type]
                self.result = run(self.image)

    def __call__(self, image: Tensor) -> Tensor:
        self.image.copy_(image)
        self.graph.replay()
        return self.result.clone()  # the next image overwrites it


class GraphedNetwork(nn.Module):
    """A network that records and compiles itself for sizes that come again. Results are the network's own, after
    compiling but for rounding.

    Args:
        network: images N×3×H×W → restored images, for inference.

    Attributes:
        notes: why it could not be recorded or compiled, as sentences; it then computes as it is.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.notes: list[str] = []
        self.pool: object = None
        self.seen: Counter[Key] = Counter()
        self.recordings: dict[Key, Run] = {}  # the last used one last
        self.compiled: dict[Key, Run] = {}
        self.unrecorded: set[Key] = set()  # what cannot be recorded
        self.compiles = True

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        if isinstance(self.network, RestorationNetwork):
            image = pad_to_multiple(image)  # as it does itself: tiles that end with the image have the others' size
        return self._restored(image)[:, :, :height, :width]

    def _restored(self, image: Tensor) -> Tensor:
        kind = image.device.type
        key = (image.shape, torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None)
        self.seen[key] += 1
        if self.compiles and key not in self.compiled and self.seen[key] * image[:, 0].numel() > COMPILED:
            self.recordings.pop(key, None)
            self._compile(key, image)
        run = self.compiled.get(key, self.network)
        if self.seen[key] == 1 or image[:, 0].numel() > RECORDED or key in self.unrecorded:
            return run(image)
        recording = self.recordings.pop(key, None) or self._recorded(key, run, image)
        if recording is None:
            return run(image)
        self.recordings[key] = recording
        return recording(image)

    def forget(self) -> None:
        """Lets go of the recordings and their memory."""
        self.recordings.clear()
        self.pool = None

    def _compile(self, key: Key, image: Tensor) -> None:
        compiled = torch.compile(self.network, dynamic=False)
        try:
            compiled(image)
            self.compiled[key] = compiled
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # of the compiler, the driver, or what either needs and is not here
            self.compiles = False
            self.notes.append(f"the network could not be compiled ({first_line(error)})")

    def _recorded(self, key: Key, run: Run, image: Tensor) -> Run | None:
        while len(self.recordings) >= KEPT:
            del self.recordings[next(iter(self.recordings))]
        try:
            self.pool = self.pool or torch.cuda.graph_pool_handle()
            return Recording(run, image, self.pool)
        except RuntimeError as error:  # there is too little memory, or it asks for a value, which no recording holds
            self.unrecorded.add(key)
            self.forget()
            if not isinstance(error, torch.cuda.OutOfMemoryError):
                self.notes.append(f"the network could not be recorded ({first_line(error)})")
            return None
