"""Which samples make a batch: drawn by seed, epoch and place in the epoch alone.

What is drawn depends neither on the number of loader processes nor on where a run was interrupted.
"""

import signal
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from torch.utils.data import Sampler

Key = tuple[int, int]
"""A sample of training: the epoch and the place in it."""


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
