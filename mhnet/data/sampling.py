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


class EpochBatches(Sampler[list[Key]]):
    """One process's share of an epoch's batches: every place of the epoch once, shuffled by seed and epoch. A batch is
    cut into `parts` micro-batches, and each of those is shared by all processes; what it holds depends on neither.

    Set `epoch` before iterating, and `start` to the first batch that is wanted.

    Args:
        size: places in an epoch; what is left at its end is not used.
        batch: crops in a batch of all processes, by epoch; a multiple of processes × parts.
    """

    def __init__(
        self, size: int, seed: int, batch: Callable[[int], int], parts: int = 1, process: int = 0, processes: int = 1
    ):
        self.size, self.seed, self.batch = size, seed, batch
        self.parts, self.process, self.processes = parts, process, processes
        self.epoch = self.start = 0

    def steps(self, epoch: int) -> int:
        """Batches of an epoch."""
        return self.size // self.batch(epoch)

    def __len__(self) -> int:
        return (self.steps(self.epoch) - self.start) * self.parts

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        keys, size = [(self.epoch, int(place)) for place in order], self.batch(self.epoch)
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
