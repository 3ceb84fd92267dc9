"""Many files through a network, one after the other."""

import json
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mhnet.core import allocator
from mhnet.core.errors import MHNetError
from mhnet.core.threads import ahead
from mhnet.images.header import MAX_PIXELS, read_header
from mhnet.images.read import ImageData, image_size, read_image
from mhnet.restore.change import hardly_changed
from mhnet.restore.outcomes import Outcome, failed, not_tried, written
from mhnet.restore.plan import Job
from mhnet.restore.restorer import Restorer, RestoreWarning
from mhnet.restore.stores import HERE, results_there

ALONE = 300_000_000
"""Bytes from which on an image is restored alone: read when the one before is written, and the next one after it."""
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {n:.1f} of {total} [{elapsed}, {remaining} left]"


def restore_all(
    jobs: Sequence[Job],
    restorer: Restorer,
    *,
    overwrite: bool = False,
    progress: bool = True,
    title: str = "restoring",
    each: Callable[[Outcome], None] = lambda outcome: None,
    max_pixels: int = MAX_PIXELS,
    read: Callable[[Path, int], ImageData] = read_image,
) -> list[Outcome]:
    """Restores files to files, each result whole or not at all; whatever one file does, the rest is restored.

    The next image is read and the last one written while one is computed, unless it is large. A result that is there
    and whole is kept, so that a run that was stopped goes on where it was.

    Args:
        jobs: from `plan`.
        restorer: computes the results.
        overwrite: restore also what has a result.
        progress: show a bar, on a terminal.
        title: what stands before the bar.
        each: is called with every outcome, in order.
        max_pixels: larger images are refused.
        read: reads an image of at most so many pixels.

    Returns:
        The outcomes in order. Once the results' disk is full or read-only, the rest is not tried.
    """
    outcomes: list[Outcome] = []
    results_there(HERE, [job.target for job in jobs])  # removes what killed runs left
    bar = tqdm(total=len(jobs), desc=title, bar_format=_BAR, leave=False, disable=None if progress else True)
    with bar, ThreadPoolExecutor(1) as writer:
        writing: Future[Outcome] | None = None
        large = False  # the image that was looked at last

        def note_written() -> None:
            if writing is not None:
                outcomes.append(writing.result())
                each(outcomes[-1])

        def read_source(job: Job) -> ImageData | Exception | None:
            try:
                skipped = job.film or (not overwrite and is_whole(job, max_pixels))
                return None if skipped else read(job.source, max_pixels)
            except Exception as error:
                return error

        def read_early(job: Job) -> ImageData | Exception | Job | None:
            nonlocal large
            after_large, large = large, False
            with suppress(Exception):  # which reading meets again
                head = read_header(job.source, max_pixels)
                large = head.memory * head.height * head.width > ALONE
            return job if large or after_large else read_source(job)

        try:
            for job, picture in zip(jobs, ahead(map(read_early, jobs)), strict=True):
                alone = isinstance(picture, Job)
                if alone:
                    writing = note_written()
                    allocator.keep_large(False)
                # A large source is held by this call alone, so that it is gone when its result is written.
                restored = _restore(job, read_source(job) if alone else picture, restorer, bar, overwrite)
                note_written()
                writing = writer.submit(written, *restored)
                if alone:
                    writing = note_written()
                if outcomes and outcomes[-1].disk_full:
                    break
        finally:
            note_written()
    for outcome in not_tried(jobs[len(outcomes) :], outcomes[-1]) if outcomes else ():
        outcomes.append(outcome)
        each(outcome)
    return outcomes


def is_whole(job: Job, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether a job's result is there, can be read to its end, and has the size of its source."""
    if not job.target.is_file():
        return False
    if job.film:
        return True
    try:
        return read_image(job.target, max_pixels).pixels.shape[:2] == image_size(job.source, max_pixels)
    except MHNetError:
        return False


def _restore(
    job: Job, picture: ImageData | Exception | None, restorer: Restorer, bar: "tqdm[Any]", overwrite: bool
) -> tuple[Outcome, ImageData | None]:
    """The outcome so far, and the restored picture that is to be written."""
    start, share = time.perf_counter(), 0.0

    def tick(done: int, count: int) -> None:
        nonlocal share
        bar.update(done / count - share)
        share = done / count

    outcome = Outcome(job)
    try:
        if isinstance(picture, Exception):
            raise picture
        if picture is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RestoreWarning)  # told with the outcome
                picture = replace(picture, pixels=restorer(picture.pixels, tick))
            last, change = restorer.last, next(iter(restorer.last.changes), None)
            notes = [*last.notes, *hardly_changed(change, restorer.task)]
            outcome = replace(outcome, tile=last.tile, precision=last.precision, change=change, notes=notes)
        elif job.film and (overwrite or not is_whole(job)):
            outcome = replace(outcome, notes=_restore_video(job, restorer, overwrite, not bar.disable))
            tick(1, 1)
        else:
            outcome = replace(outcome, status="skipped")
    except Exception as error:
        return failed(outcome, error), None
    finally:
        bar.total -= share == 0  # so that what costs no time does not count in the time left
    return replace(outcome, seconds=time.perf_counter() - start if share else 0.0), picture


def _restore_video(job: Job, restorer: Restorer, overwrite: bool, progress: bool) -> list[str]:
    """Restores a video; what was not done as asked."""
    from mhnet.restore.video import restore_video

    identity = json.dumps([restorer.identity, restorer.local_statistics, restorer.precision, restorer.strength])
    return restore_video(restorer, job.source, job.target, overwrite=overwrite, progress=progress,
                         identity=identity, deep=True).notes  # fmt: skip
