"""How much memory an image takes in a network, and how much there is."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mhnet.core import allocator
from mhnet.inference.fuse import FusedNetwork
from mhnet.inference.stripes import stripes_of

PROBES = (64, 192)  # sides of the images whose maps are counted
STRIPE = 1 << 17  # values of a stripe there: usual ones would be whole maps, and large images have the same
SLACK = 1.3  # work space and allocator beyond the maps; of the fused form they are counted (tests/test_memory.py)
FIXED = 256 << 20  # what they take for an image of any size, bytes
CGROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
# A group's files with its limit and what it takes, and what of that can be taken back.
_VERSION1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION2 = ("memory.max", "memory.current", "inactive_file")


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors made under it while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id(storage := tensor.untyped_storage()) not in self.known:
                self.known.add(id(storage))
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._gone, id(storage), storage.nbytes())
        return result

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


@torch.inference_mode()
def bytes_per_pixel(network: nn.Module, device: torch.device) -> float:
    """Bytes that a network takes at most for each pixel of an image, counted while it computes two small ones: by how
    many more the larger takes, for what both take alike is in `FIXED`."""
    peaks = []
    for side in PROBES:
        image = torch.zeros(1, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
        with _LiveBytes() as count, stripes_of(STRIPE):
            network(image)
        peaks.append(count.peak)
    small, large = (side**2 for side in PROBES)
    return (peaks[1] - peaks[0]) / (large - small) * (1 if isinstance(network, FusedNetwork) else SLACK)


def needed(per_pixel: float, pixels: int) -> int:
    """Bytes to have free for so many pixels at once, from `bytes_per_pixel`."""
    return int(per_pixel * pixels) + FIXED


def fitting(per_pixel: float, room: int) -> int:
    """Pixels that fit into so many bytes: the inverse of `needed`."""
    return max(int((room - FIXED) / per_pixel), 0)


def free(device: torch.device) -> int:
    """Bytes that are free on a device: on a CUDA GPU what the driver and PyTorch's own cache have; else the system's,
    within the limits of the control groups that this process is in."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return min([psutil.virtual_memory().available, *_within_groups(Path("/proc/self/cgroup"), CGROUPS)])


def ran_out(error: BaseException) -> bool:
    """Whether an error is that of a device or system without memory left."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or any(word in str(error) for word in words)


def let_go(device: torch.device) -> None:
    """Lets go of what a failed computation held."""
    gc.collect()
    allocator.give_back()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _within_groups(membership: Path, root: Path) -> Iterator[int]:
    """What is left below each limit of the control groups, of version 1 or 2, that hold this process."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return
    for controllers, place in (line[1:] for line in lines if len(line) == 3):
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (root / "memory", _VERSION1) if controllers else (root, _VERSION2)
        below = Path(place.lstrip("/"))
        for group in (top / below, *(top / parent for parent in below.parents)):  # in a container the top is the group
            yield from _left(group, *names)


def _left(group: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    try:
        most, taken = int((group / limit).read_text()), int((group / usage).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group or limit; an absent limit reads "max"
        return
    if most < _UNLIMITED:
        yield max(most - taken + int(stat.get(reclaimable, 0)), 0)
