"""What people watch while a network trains: the bar of an epoch, the table of all epochs."""

import csv
import io
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from mhnet.core.files import write_text
from mhnet.train.state import Progress

COLUMNS: tuple[str, ...] = (
    "epoch", "step", "lr", "train_psnr", "val_psnr", "val_input_psnr", "seconds", "waiting", "skipped",
)  # fmt: skip
Row = dict[str, float]
Step = tuple[Tensor, ...]


class EpochLog:
    """The bar of one epoch: PSNR in dB, learning rate, images per second, the share of time spent waiting for data, and
    how many steps were skipped.

    Args:
        batches: micro-batches.
        parts: how many of them make a step.
        steps: steps of the whole epoch.
        progress: how far the epoch has come; it is counted on.
        title: what stands before the bar.
        shown: whether this process shows a bar.
    """

    def __init__(
        self, batches: Iterable[Tensor], parts: int, steps: int, progress: Progress, title: str, shown: bool = True
    ):
        self.batches, self.parts, self.progress = iter(batches), parts, progress
        self.bar = tqdm(
            total=steps, initial=progress.batch, desc=title, unit="step", leave=False, delay=1,
            disable=None if shown else True,
        )  # fmt: skip
        self.waited = 0.0
        self.images = 0
        self.started = self.noted = time.monotonic()

    def __iter__(self) -> Iterator[Step]:
        """Yields the micro-batches of each step."""
        waiting = time.monotonic()
        for step in zip(*[self.batches] * self.parts, strict=True):
            self.waited += time.monotonic() - waiting
            yield step
            waiting = time.monotonic()
        self.bar.close()

    def add(self, psnr_sum: float, images: int, lr: float) -> None:
        """Counts a step: the sum of its crops' PSNR in dB, and their number."""
        progress, now = self.progress, time.monotonic()
        self.images += images
        progress.psnr_sum += psnr_sum
        progress.images += images
        progress.seconds += now - self.noted
        self.noted = now
        self.bar.set_postfix_str(self.summary(lr), refresh=False)
        self.bar.update()

    @property
    def psnr(self) -> float:
        """Mean PSNR of the epoch's crops so far, in dB."""
        return self.progress.psnr_sum / max(self.progress.images, 1)

    @property
    def waiting(self) -> float:
        """The share of this process's time in the epoch spent waiting for data."""
        return self.waited / max(time.monotonic() - self.started, 1e-9)

    def summary(self, lr: float) -> str:
        rate = self.images / max(time.monotonic() - self.started, 1e-9)
        text = f"{self.psnr:.2f} dB, lr {lr:.2g}, {rate:.1f} images/s, waiting {100 * self.waiting:.0f} %"
        return text + (f", {self.progress.skipped} skipped" if self.progress.skipped else "")


def write_table(path: Path, history: Sequence[Row]) -> None:
    """Writes one row per epoch as CSV, whole or not at all; MHNetError if the system refuses."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())
