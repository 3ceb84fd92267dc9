"""Scores of folders of restored images against their clean ones, as tables that say by which protocol."""

import csv as csv_format
import io
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
from tqdm import tqdm

from mhnet import images, metrics
from mhnet.data.pairs import Pair, pair_folders, target_images
from mhnet.errors import MHNetError
from mhnet.files import replacing

IMAGES_PER_PROCESS = 8  # fewer are scored sooner than another process has started
WORDS = 2  # columns of a table that hold words


class Row(NamedTuple):
    """One image: its name, PSNR in dB (inf where nothing differs) and SSIM."""

    name: str
    psnr: float
    ssim: float


class Failure(NamedTuple):
    """An image that could not be scored, and why."""

    name: str
    reason: str


@dataclass
class Evaluation:
    """A set's scores.

    Attributes:
        name: the set's name in tables.
        protocol: the name of the protocol in `metrics.PROTOCOLS`.
        rows: one per scored image, in natural order.
        failures: images that could not be read or scored.
        unrestored: clean images without a restored one: the mean is then not the set's.
    """

    name: str
    protocol: str
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unrestored: list[Path] = field(default_factory=list)

    @property
    def identical(self) -> list[str]:
        """Images that equal their clean ones under the protocol: infinite PSNR, left out of the mean PSNR."""
        return [row.name for row in self.rows if math.isinf(row.psnr)]

    @property
    def mean(self) -> metrics.Score:
        """Mean SSIM of all rows and mean PSNR of the finite ones; inf where all are identical, nan for no rows."""
        finite = [row.psnr for row in self.rows if math.isfinite(row.psnr)]
        psnr = _mean(finite) if finite or not self.rows else math.inf
        return metrics.Score(psnr, _mean([row.ssim for row in self.rows]))


def evaluate_folder(
    results_dir: images.StrPath, targets_dir: images.StrPath, protocol: str, *, processes: int | None = None
) -> Evaluation:
    """Score restored images against the clean ones of the same names (`pair_folders`), also in subfolders.

    Raises MHNetError for an unknown protocol, a missing or empty folder, and a restored image without its clean one.
    """
    metrics.get_protocol(protocol)
    pairs = pair_folders(results_dir, targets_dir)
    evaluation = evaluate_pairs(pairs, protocol, name=Path(results_dir).resolve().name, processes=processes)
    restored = {pair.target for pair in pairs}
    evaluation.unrestored = [path for path in target_images(targets_dir) if path not in restored]
    return evaluation


def evaluate_pairs(pairs: Sequence[Pair], protocol: str, *, name: str = "", processes: int | None = None) -> Evaluation:
    """Score pairs whose degraded sides are restored images; one that fails is noted and the rest is scored.

    Args:
        processes: how many score at once; by default one per core, and one for a few images. With more than one, a
            script needs its `if __name__ == "__main__":`.
    """
    metrics.get_protocol(protocol)
    if processes is None:
        processes = min(len(pairs) // IMAGES_PER_PROCESS, _cores())
    evaluation = Evaluation(name, protocol)
    with (
        _mapper(processes) as mapper,
        tqdm(total=len(pairs), desc=f"scoring {name}".strip(), unit="image", delay=2, leave=False, disable=None) as bar,
    ):
        for outcome in mapper(partial(_score, protocol), pairs):
            if isinstance(outcome, Row):
                evaluation.rows.append(outcome)
            else:
                evaluation.failures.append(outcome)
            bar.set_postfix_str(f"{evaluation.mean.psnr:.2f} dB", refresh=False)
            bar.update()
    return evaluation


def format_table(evaluations: Sequence[Evaluation]) -> str:
    """A Markdown table of sets, with the unweighted mean of the sets where there are several of one protocol."""
    table = [("set", "protocol", "images", "PSNR (dB)", "SSIM")]
    for one in evaluations:
        scored, total = len(one.rows), len(one.rows) + len(one.failures) + len(one.unrestored)
        count = str(total) if scored == total else f"{scored} of {total}"
        table.append((one.name, one.protocol, count, *_digits(one.mean)))
    if len(evaluations) > 1 and len({one.protocol for one in evaluations}) == 1:
        mean = metrics.Score(*(_mean(column) for column in zip(*(one.mean for one in evaluations), strict=True)))
        table.append((f"mean of {len(evaluations)} sets", evaluations[0].protocol, "", *_digits(mean)))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [f"| {' | '.join(_aligned(cells, widths))} |" for cells in table]
    rules = ["-" * (width + 1) + ("-" if i < WORDS else ":") for i, width in enumerate(widths)]
    lines.insert(1, f"|{'|'.join(rules)}|")
    for one in evaluations:
        if one.identical:
            names = _shortened(one.identical)
            lines.append(f"{one.name}: left out of the mean PSNR because they equal the clean: {names}")
    return "\n".join(lines)


def to_csv(evaluations: Sequence[Evaluation], path: images.StrPath) -> None:
    """Write one line per image with all digits, or the reason of its failure; MHNetError if the system refuses."""
    text = io.StringIO()
    lines = csv_format.writer(text, lineterminator="\n")
    lines.writerow(["set", "name", "protocol", "psnr", "ssim", "failure"])
    for one in evaluations:
        lines.writerows([one.name, row.name, one.protocol, row.psnr, row.ssim, ""] for row in one.rows)
        lines.writerows([one.name, name, one.protocol, "", "", reason] for name, reason in one.failures)
    try:
        with replacing(Path(path)) as part:
            part.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise MHNetError(f"{path} cannot be written ({error.strerror}); choose another place.") from error


def run(results: images.StrPath, targets: images.StrPath, protocol: str, csv: images.StrPath | None = None) -> int:
    """Print the scores of a folder and what failed; returns the exit status, 1 if an image could not be scored."""
    evaluation = evaluate_folder(results, targets, protocol)
    print(format_table([evaluation]))
    if csv is not None:
        to_csv([evaluation], csv)
    for name, reason in evaluation.failures:
        print(f"not scored: {name}: {reason}", file=sys.stderr)
    if evaluation.unrestored:
        paths = _shortened([str(path) for path in evaluation.unrestored])
        print(f"warning: the mean is not of the whole set, nothing was restored for {paths}", file=sys.stderr)
    return 1 if evaluation.failures else 0


def _score(protocol: str, pair: Pair) -> Row | Failure:
    try:
        return Row(pair.name, *metrics.score(images.read(pair.degraded), images.read(pair.target), protocol))
    except MHNetError as error:
        return Failure(pair.name, str(error))


@contextmanager
def _mapper(processes: int) -> Iterator[Callable[..., Iterable[Row | Failure]]]:
    """`map` over so many processes, in order; the plain one for fewer than two."""
    if processes < 2:
        yield map
        return
    spawn = multiprocessing.get_context("spawn")  # forking a process with threads, such as PyTorch's, may hang
    pool = ProcessPoolExecutor(min(processes, 61), spawn, initializer=_start_process)  # 61 is the most on Windows
    try:
        yield partial(pool.map, chunksize=2)
    except BrokenProcessPool as error:
        raise MHNetError("A process that scored images was stopped, perhaps for want of memory; use fewer.") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_process() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _digits(score: metrics.Score) -> tuple[str, str]:
    return f"{score.psnr:.2f}", f"{score.ssim:.4f}"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Cells padded to their columns' widths, words to the left and figures to the right."""
    padded = zip(cells, widths, strict=True)
    return [cell.ljust(width) if i < WORDS else cell.rjust(width) for i, (cell, width) in enumerate(padded)]


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
