"""Many images through a network, from files to files."""

import errno
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from mhnet.core.errors import MHNetError
from mhnet.images.read import ImageData, image_size, read_image, read_rgb
from mhnet.images.write import losses, write_image, write_rgb
from mhnet.restore.plan import Job
from mhnet.restore.restorer import Restorer, RestoreWarning

_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {n:.1f} of {total} [{elapsed}, {remaining} left]"


@dataclass
class Outcome:
    """What became of a file.

    Attributes:
        status: "restored", "skipped" because a whole result was there, or "failed".
        seconds: it was computed for.
        tile: height and width of the tiles; None for an image computed whole.
        reason: why it failed, '' otherwise.
        notes: what was not done as asked, as sentences.
        no_place: it failed because the disk is full or read-only.
    """

    job: Job
    status: Literal["restored", "skipped", "failed"]
    seconds: float = 0.0
    tile: tuple[int, int] | None = None
    reason: str = ""
    notes: list[str] = field(default_factory=list)
    no_place: bool = False


def restore_all(
    jobs: Sequence[Job],
    restorer: Restorer,
    *,
    overwrite: bool = False,
    progress: bool = True,
    each: Callable[[Outcome], None] = lambda outcome: None,
    video: Callable[[Job], list[str] | None] | None = None,
) -> list[Outcome]:
    """Restores files to files, each result whole or not at all; one that fails does not stop the rest.

    The next image is read and the last one written while one is computed. A result that is there and whole is kept, so
    that a run that was stopped goes on where it was.

    Args:
        jobs: from `plan`.
        overwrite: restore also what has a result.
        progress: show a bar, on a terminal.
        each: is called with every outcome, in order.
        video: restores a video and returns its notes, or None where its result is there.

    Returns:
        The outcomes in order. Once the results' place is full or read-only, the rest is failed without being tried.
    """
    outcomes: list[Outcome] = []
    bar = tqdm(total=len(jobs), desc="restoring", bar_format=_BAR, leave=False, disable=None if progress else True)
    with bar, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        writing: Future[Outcome] | None = None

        def tell() -> None:
            if writing is not None:
                outcomes.append(writing.result())
                each(outcomes[-1])

        try:
            for job, reading in _ahead(reader, jobs, overwrite):
                computed = _computed(job, reading, restorer, bar, video)
                tell()
                writing = writer.submit(_written, *computed)
                if outcomes and outcomes[-1].no_place:
                    break
        finally:
            tell()
    for job in jobs[len(outcomes) :]:
        outcomes.append(Outcome(job, "failed", reason=f"not tried, since {outcomes[-1].job.target} had no place"))
        each(outcomes[-1])
    return outcomes


def _ahead(
    reader: ThreadPoolExecutor, jobs: Sequence[Job], overwrite: bool
) -> Iterator[tuple[Job, "Future[ImageData | None]"]]:
    """Every job with what is read of it, while the next one is read."""
    reading = [reader.submit(_read, job, overwrite) for job in jobs[:1]]
    for i, job in enumerate(jobs):
        reading += [reader.submit(_read, following, overwrite) for following in jobs[i + 1 : i + 2]]
        yield job, reading.pop(0)


def _read(job: Job, overwrite: bool) -> ImageData | None:
    """The picture to restore; None where a whole result is there, and of videos."""
    if job.video or (not overwrite and is_whole(job)):
        return None
    return read_image(job.source)


def is_whole(job: Job) -> bool:
    """Whether a job's result is there, can be read to its end, and has the size of its source."""
    if not job.target.is_file():
        return False
    if job.video:
        return True
    try:
        return read_image(job.target).pixels.shape[:2] == image_size(job.source)
    except MHNetError:
        return False


def _computed(
    job: Job,
    reading: "Future[ImageData | None]",
    restorer: Restorer,
    bar: "tqdm[Any]",
    video: Callable[[Job], list[str] | None] | None,
) -> tuple[Outcome, ImageData | None]:
    """What became of a job so far, and the picture that is to be written."""
    start, share = time.perf_counter(), 0.0

    def tick(done: int, count: int) -> None:
        nonlocal share
        bar.update(done / count - share)
        share = done / count

    try:
        picture = reading.result()
        if picture is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RestoreWarning)  # told with the outcome
                restored = replace(picture, pixels=restorer(picture.pixels, tick))
            seconds = time.perf_counter() - start
            return Outcome(job, "restored", seconds, restorer.last.tile, notes=restorer.last.notes), restored
        if job.video and video is not None and (notes := video(job)) is not None:
            tick(1, 1)
            return Outcome(job, "restored", time.perf_counter() - start, notes=notes), None
        bar.total -= 1  # so that what costs no time does not count in the time left
        return Outcome(job, "skipped"), None
    except MHNetError as error:
        bar.total -= share == 0
        return Outcome(job, "failed", reason=str(error)), None
    except MemoryError:
        return Outcome(job, "failed", reason=f"{job.source} does not fit in memory: close other programs."), None


def _written(outcome: Outcome, picture: ImageData | None) -> Outcome:
    """The outcome once the picture, if there is one, lies on disk."""
    if picture is None:
        return outcome
    try:
        write_image(outcome.job.target, picture)
    except MHNetError as error:
        cause = error.__cause__
        full = isinstance(cause, OSError) and cause.errno in _NO_PLACE
        return replace(outcome, status="failed", reason=str(error), no_place=full)
    return replace(outcome, notes=[*outcome.notes, *losses(outcome.job.target, picture)])


def check_targets(targets: Sequence[Path], originals: Sequence[Path]) -> None:
    """Makes the folders that results go to, before any work is done.

    Raises:
        MHNetError: a result would replace an original, or a folder cannot be written to.
    """
    kept = {os.path.realpath(path) for path in originals}
    for target in targets:
        if os.path.realpath(target) in kept:
            raise MHNetError(f"{target} would be replaced by its own restored image: name another --result_dir")
    for folder in {target.parent for target in targets}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MHNetError(f"{folder} cannot be made ({error.strerror}): name another --result_dir") from error
        if not os.access(folder, os.W_OK):
            raise MHNetError(f"{folder} cannot be written to: name another --result_dir")


def restore_files(restorer: Restorer, files: Sequence[tuple[Path, Path]], title: str = "") -> list[tuple[Path, str]]:
    """Restores images to other files, each written whole or not at all; one that fails does not stop the rest.

    Args:
        restorer: the network.
        files: (image, where its restored one goes).
        title: what stands before the progress bar.

    Returns:
        The images that failed, each with the reason.
    """
    failures: list[tuple[Path, str]] = []
    for source, target in tqdm(files, f"restoring {title}".strip(), unit="image", delay=1, leave=False, disable=None):
        try:
            write_rgb(target, restorer(read_rgb(source)))
        except MHNetError as error:  # noqa: PERF203
            target.unlink(missing_ok=True)  # what an earlier run left there is not this run's result
            failures.append((source, str(error)))
    return failures
