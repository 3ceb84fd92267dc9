"""Scores of folders of restored images against their clean ones, by a named protocol, over processes."""

import math
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from mhnet.core.chatter import part_errors
from mhnet.core.errors import MHNetError, printable, shortened
from mhnet.core.files import StrPath
from mhnet.core.tasks import Published, TestSet, known_set
from mhnet.data.pairs import Pair, clean_side, pair_results
from mhnet.evaluation import protocols
from mhnet.images.read import read_rgb

IMAGES_PER_PROCESS = 8  # fewer are scored sooner than another process has started
MHNET, DEGRADED = "MHNet", "input"  # who made the images that are scored; the degraded ones are nobody's

Distance = Callable[[np.ndarray, np.ndarray], float]
T = TypeVar("T")


class ImageScore(NamedTuple):
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
        protocol: the name of the protocol in `protocols.PROTOCOLS`.
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
    rows: list[ImageScore] = field(default_factory=list)
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
        return protocols.mean_score([protocols.Score(row.psnr, row.ssim) for row in self.rows])

    @property
    def lpips(self) -> float | None:
        """Mean LPIPS, None where it was not asked for."""
        distances = [row.lpips for row in self.rows if row.lpips is not None]
        return protocols.mean_of(distances) if distances else None

    @property
    def doubts(self) -> list[str]:
        """Why the mean is not the public set's, or not that of all images, as sentences."""
        sentences, part = [], f"the mean of {self.name} is not of the whole set"
        if self.known and (miscounted := self.known.miscounted(self.name, self.total)):
            sentences.append(miscounted)
        if self.failures:
            sentences.append(f"{part}, not scored: {shortened([failure.name for failure in self.failures])}")
        if self.unrestored:
            sentences.append(f"{part}, nothing was restored for {shortened(self.unrestored)}")
        return sentences


def evaluate_folder(
    results_dir: StrPath,
    targets_dir: StrPath,
    protocol: str,
    *,
    name: str = "",
    inputs_dir: StrPath | None = None,
    processes: int | None = None,
    distance: Distance | None = None,
) -> Evaluation:
    """Score restored images against the clean ones of the same names (`pair_results`), also in subfolders.

    Args:
        results_dir: the restored images.
        targets_dir: the clean ones.
        protocol: a name of `mhnet.evaluation.protocols.PROTOCOLS`.
        name: the set's name; by default the results' folder's. A public set is known by this name, or else by that
            of the folder of the clean images or of the one or two above it (`GoPro/test/target`).
        inputs_dir: where the degraded images lie, to be shown.
        processes: as for `evaluate_pairs`.
        distance: as for `evaluate_pairs`.

    Raises:
        MHNetError: the protocol is unknown, a folder is missing or empty, or a restored image has no clean one.
    """
    protocols.get_protocol(protocol)
    if Path(results_dir).resolve() == Path(targets_dir).resolve():
        raise MHNetError(f"{results_dir} would be compared with itself: name the folder of the clean images as well")
    targets_dir = clean_side(Path(targets_dir))
    pairs, unrestored = pair_results(results_dir, targets_dir)
    inputs = {} if inputs_dir is None else {one.name: one.target for one in pair_results(results_dir, inputs_dir)[0]}
    shown = name or Path(results_dir).resolve().name
    evaluation = evaluate_pairs(pairs, protocol, name=shown, processes=processes, distance=distance)
    above = [] if name else list(reversed(targets_dir.resolve().parts))[:3]
    evaluation.known = next((found for part in [shown, *above] if (found := known_set(part))), None)
    evaluation.unrestored, evaluation.inputs = unrestored, inputs
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
        pairs: restored and clean images.
        protocol: as for `evaluate_folder`.
        name: the set's name.
        processes: how many score at once, this one among them; by default one per core, and one for a few images.
            With more than one, a script needs its `if __name__ == "__main__":`.
        distance: LPIPS (`mhnet.evaluation.lpips`), computed in this process after the scores.
    """
    protocols.get_protocol(protocol)
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        processes = min(len(pairs) // IMAGES_PER_PROCESS, cores)
    scoring = _outcomes(partial(_score, protocol), pairs, processes)
    outcomes: dict[int, ImageScore | Failure] = dict(_bar(scoring, f"scoring {name}", len(pairs)))
    if distance is not None:
        scored = ((place, one) for place, one in outcomes.items() if isinstance(one, ImageScore))
        for place, one in _bar(list(scored), f"LPIPS {name}", len(pairs)):
            outcomes[place] = _with_lpips(one, pairs[place], distance)
    ordered = [outcomes[place] for place in sorted(outcomes)]
    return Evaluation(
        name,
        protocol,
        [one for one in ordered if isinstance(one, ImageScore)],
        [one for one in ordered if isinstance(one, Failure)],
        known=known_set(name),
        pairs={pair.name: pair for pair in pairs},
    )


def _bar(outcomes: Iterable[T], title: str, total: int) -> Iterable[T]:
    return tqdm(outcomes, printable(title).strip(), total, unit="image", delay=2, leave=False, disable=None)


def _with_lpips(score: ImageScore, pair: Pair, distance: Distance) -> ImageScore | Failure:
    try:
        return score._replace(lpips=distance(read_rgb(pair.degraded), read_rgb(pair.target)))
    except MHNetError as error:
        return Failure(score.name, str(error))


def _score(protocol: str, pair: Pair) -> ImageScore | Failure:
    try:
        return ImageScore(pair.name, *protocols.score(read_rgb(pair.degraded), read_rgb(pair.target), protocol))
    except MHNetError as error:
        return Failure(pair.name, str(error))


def _outcomes(
    score: Callable[[Pair], ImageScore | Failure], pairs: Sequence[Pair], processes: int
) -> Iterator[tuple[int, ImageScore | Failure]]:
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
    left, given = deque(range(len(pairs))), dict[Future[ImageScore | Failure], int]()
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
    except (BrokenProcessPool, OSError) as error:  # OSError: the pool breaks while a process is started
        raise MHNetError("A process that scored images was stopped, perhaps for want of memory; use fewer.") from error
    finally:
        cv2.setNumThreads(threads)
        pool.shutdown(cancel_futures=True)


def _start_process() -> None:
    cv2.setNumThreads(1)
    part_errors()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
