"""Scores of folders of restored images against their clean ones, by a named protocol, over processes."""

import math
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import cv2
import numpy as np
from tqdm import tqdm

from mhnet.core.errors import MHNetError, shortened
from mhnet.core.tasks import Published, TestSet, known_set
from mhnet.data.pairs import Pair, clean_side, pair_folders, target_images
from mhnet.evaluation import protocols
from mhnet.images import rgb

IMAGES_PER_PROCESS = 8  # fewer are scored sooner than another process has started
MHNET, DEGRADED = "MHNet", "input"  # who made the images that are scored; the degraded ones are nobody's

Distance = Callable[[np.ndarray, np.ndarray], float]


class Row(NamedTuple):
    """One image: its name, PSNR in dB (inf where nothing differs), SSIM, and LPIPS where that was asked for."""

    name: str
    psnr: float
    ssim: float
    lpips: float | None = None


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
        method: who restored them, in tables of several methods; DEGRADED for the images before restoration.
        known: the public set that this is, if any.
        pairs: what was to be scored, restored and clean, by the names of the rows.
        inputs: the degraded images by the same names, where they are known.
    """

    name: str
    protocol: str
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unrestored: list[Path] = field(default_factory=list)
    method: str = MHNET
    known: TestSet | None = None
    pairs: dict[str, Pair] = field(default_factory=dict)
    inputs: dict[str, Path] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many images the set has here, scored or not."""
        return len(self.rows) + len(self.failures) + len(self.unrestored)

    @property
    def published(self) -> Published | None:
        """The paper's figures, where they are for this set by this protocol."""
        comparable = self.known and self.protocol == self.known.protocol and self.method != DEGRADED
        return self.known.published if self.known and comparable else None

    @property
    def identical(self) -> list[str]:
        """Images that equal their clean ones under the protocol: infinite PSNR, left out of the mean PSNR."""
        return [row.name for row in self.rows if math.isinf(row.psnr)]

    @property
    def mean(self) -> protocols.Score:
        """Mean SSIM of all rows and mean PSNR of the finite ones; inf where all are identical, nan for no rows."""
        finite = [row.psnr for row in self.rows if math.isfinite(row.psnr)]
        psnr = mean_of(finite) if finite or not self.rows else math.inf
        return protocols.Score(psnr, mean_of([row.ssim for row in self.rows]))

    @property
    def lpips(self) -> float | None:
        """Mean LPIPS, None where it was not asked for."""
        distances = [row.lpips for row in self.rows if row.lpips is not None]
        return mean_of(distances) if distances else None

    @property
    def miscounted(self) -> str:
        """How the number of images differs from the public set's, as a sentence; '' where it does not."""
        return self.known.miscounted(self.name, self.total) if self.known else ""

    @property
    def doubts(self) -> list[str]:
        """Why the mean is not the public set's, or not that of all images, as sentences."""
        sentences = [self.miscounted] if self.miscounted else []
        if self.failures:
            names = shortened([failure.name for failure in self.failures])
            sentences.append(f"the mean of {self.name} is not of the whole set, not scored: {names}")
        if self.unrestored:
            paths = shortened([str(path) for path in self.unrestored])
            sentences.append(f"the mean of {self.name} is not of the whole set, nothing was restored for {paths}")
        return sentences


def evaluate_folder(
    results_dir: rgb.StrPath,
    targets_dir: rgb.StrPath,
    protocol: str,
    *,
    name: str = "",
    inputs_dir: rgb.StrPath | None = None,
    processes: int | None = None,
    distance: Distance | None = None,
) -> Evaluation:
    """Score restored images against the clean ones of the same names (`pair_folders`), also in subfolders.

    Args:
        name: the set's name; by default the results' folder's. A public set is known by this name, or else by that
            of the folder of the clean images or of the one or two above it (`GoPro/test/target`).
        inputs_dir: where the degraded images lie, to be shown.

    Raises MHNetError for an unknown protocol, a missing or empty folder, and a restored image without its clean one.
    """
    protocols.get_protocol(protocol)
    if Path(results_dir).resolve() == Path(targets_dir).resolve():
        raise MHNetError(f"{results_dir} would be compared with itself: name the folder of the clean images as well")
    targets_dir = clean_side(Path(targets_dir))
    pairs = pair_folders(results_dir, targets_dir)
    inputs = {} if inputs_dir is None else {pair.name: pair.target for pair in pair_folders(results_dir, inputs_dir)}
    shown = name or Path(results_dir).resolve().name
    evaluation = evaluate_pairs(pairs, protocol, name=shown, processes=processes, distance=distance)
    restored = {pair.target for pair in pairs}
    evaluation.unrestored = [path for path in target_images(targets_dir) if path not in restored]
    above = [] if name else list(reversed(Path(targets_dir).resolve().parts))[:3]
    candidates = (known_set(part) for part in [shown, *above])
    evaluation.known = next((found for found in candidates if found), None)
    evaluation.inputs = inputs
    return evaluation


def evaluate_pairs(
    pairs: Sequence[Pair],
    protocol: str,
    *,
    name: str = "",
    processes: int | None = None,
    distance: Distance | None = None,
) -> Evaluation:
    """Score pairs whose degraded sides are restored images; one that fails is noted and the rest is scored.

    Args:
        processes: how many score at once, this one among them; by default one per core, and one for a few images.
            With more than one, a script needs its `if __name__ == "__main__":`.
        distance: LPIPS (`mhnet.evaluation.lpips`), computed in this process after the scores.
    """
    protocols.get_protocol(protocol)
    if processes is None:
        processes = min(len(pairs) // IMAGES_PER_PROCESS, _cores())
    evaluation = Evaluation(name, protocol, known=known_set(name), pairs={pair.name: pair for pair in pairs})
    outcomes: dict[int, Row | Failure] = {}
    with _bar(pairs, f"scoring {name}") as bar:
        total, count = 0.0, 0
        for place, outcome in _outcomes(partial(_score, protocol), pairs, processes):
            outcomes[place] = outcome
            if isinstance(outcome, Row) and math.isfinite(outcome.psnr):
                total, count = total + outcome.psnr, count + 1
                bar.set_postfix_str(f"{total / count:.2f} dB", refresh=False)
            bar.update()
    for _, outcome in sorted(outcomes.items()):
        if isinstance(outcome, Row):
            evaluation.rows.append(outcome)
        else:
            evaluation.failures.append(outcome)
    if distance is not None:
        _add_lpips(evaluation, distance)
    return evaluation


def mean_of(values: Sequence[float]) -> float:
    """The mean; nan for none."""
    return sum(values) / len(values) if values else math.nan


def _add_lpips(evaluation: Evaluation, distance: Distance) -> None:
    """Replaces the rows by ones with LPIPS; an image that has none becomes a failure."""
    rows, evaluation.rows = evaluation.rows, []
    with _bar(rows, f"LPIPS {evaluation.name}") as bar:
        for row in rows:
            pair = evaluation.pairs[row.name]
            try:
                measured = distance(rgb.read(pair.degraded), rgb.read(pair.target))
                evaluation.rows.append(row._replace(lpips=measured))
            except MHNetError as error:
                evaluation.failures.append(Failure(row.name, str(error)))
            bar.update()


def _bar(what: Sequence[object], title: str) -> "tqdm[NoReturn]":
    return tqdm(total=len(what), desc=title.strip(), unit="image", delay=2, leave=False, disable=None)


def _score(protocol: str, pair: Pair) -> Row | Failure:
    try:
        return Row(pair.name, *protocols.score(rgb.read(pair.degraded), rgb.read(pair.target), protocol))
    except MHNetError as error:
        return Failure(pair.name, str(error))


def _outcomes(
    score: Callable[[Pair], Row | Failure], pairs: Sequence[Pair], processes: int
) -> Iterator[tuple[int, Row | Failure]]:
    """Outcomes with their places, as they come: this process scores from the end, while the others, which need a
    moment to start, score from the beginning."""
    if processes < 2:
        yield from enumerate(map(score, pairs))
        return
    spawn = multiprocessing.get_context("spawn")  # forking a process with threads, such as PyTorch's, may hang
    others = min(processes - 1, 61)  # the most on Windows
    pool = ProcessPoolExecutor(others, spawn, initializer=_start_process)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    left, given = deque(range(len(pairs))), dict[Future[Row | Failure], int]()
    try:
        while left or given:
            while left and len(given) < 2 * others:  # none is cancelled: a pool that breaks would hang on it
                place = left.popleft()
                given[pool.submit(score, pairs[place])] = place
            if left:
                place = left.pop()
                yield place, score(pairs[place])
            for future in wait(given, 0 if left else None, FIRST_COMPLETED).done:
                yield given.pop(future), future.result()
    except BrokenProcessPool as error:
        raise MHNetError("A process that scored images was stopped, perhaps for want of memory; use fewer.") from error
    finally:
        cv2.setNumThreads(threads)
        pool.shutdown(cancel_futures=True)


def _start_process() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
