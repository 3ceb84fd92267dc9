"""What people watch while a network trains: a bar, a line per epoch, a table of all epochs."""

import csv
import io
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from tqdm import tqdm

from mhnet.files import write_text

T = TypeVar("T")
COLUMNS: tuple[str, ...] = ("epoch", "step", "lr", "train_psnr", "val_psnr", "val_input_psnr", "seconds")


class EpochLog(Generic[T]):
    """The bar of one epoch: PSNR in dB, learning rate, images per second and the share of time spent waiting for data.

    Args:
        batches: what to iterate over.
        title: what stands before the bar.
        lr: the epoch's learning rate.
    """

    def __init__(self, batches: Iterable[T], title: str, lr: float):
        self.batches = tqdm(batches, title, unit="step", leave=False, delay=1, disable=None)
        self.lr = lr
        self.images = 0
        self.psnr_sum = 0.0
        self.waited = 0.0
        self.started = time.monotonic()

    def __iter__(self) -> Iterator[T]:
        waiting = time.monotonic()
        for batch in self.batches:
            self.waited += time.monotonic() - waiting
            yield batch
            waiting = time.monotonic()

    def add(self, psnr: float, images: int) -> None:
        """Counts a batch: its mean PSNR in dB and its number of images."""
        self.psnr_sum += psnr * images
        self.images += images
        self.batches.set_postfix_str(self.summary(), refresh=False)

    @property
    def psnr(self) -> float:
        """Mean PSNR of the epoch's crops so far, in dB."""
        return self.psnr_sum / max(self.images, 1)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def summary(self) -> str:
        seconds = max(self.seconds, 1e-9)
        waiting = 100 * self.waited / seconds
        return f"{self.psnr:.2f} dB, lr {self.lr:.2g}, {self.images / seconds:.1f} images/s, waiting {waiting:.0f} %"


def write_table(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Writes one row per epoch as CSV, whole or not at all; MHNetError if the system refuses."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())
