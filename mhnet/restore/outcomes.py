"""What became of a file: written, failed with what an error says of it, or not tried."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mhnet.core.errors import MHNetError, first_line
from mhnet.images.read import ImageData
from mhnet.images.write import losses
from mhnet.restore import stores
from mhnet.restore.change import Change
from mhnet.restore.plan import Job
from mhnet.restore.stores import HERE, Store

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Outcome:
    """What became of a file: "skipped" because a whole result was there, "not tried" once the disk was full."""

    job: Job
    status: Literal["restored", "skipped", "failed", "not tried"] = "restored"
    seconds: float = 0.0  # it was computed for; of images computed at once, each one's share
    tile: tuple[int, int] | None = None  # height and width of the tiles; None for an image computed whole
    precision: str = ""  # that it was computed in
    change: Change | None = None  # how much the network changed it, before `strength`; None where that is not known
    reason: str = ""  # why there is no result
    notes: Sequence[str] = ()  # what was not done as asked, as sentences
    disk_full: bool = False  # it failed because the disk is full or read-only
    bytes: int = 0  # of the file, where they are noted
    height: int = 0  # of the picture, likewise
    width: int = 0

    @property
    def has_result(self) -> bool:
        return self.status in ("restored", "skipped")


def written(outcome: Outcome, picture: ImageData | None, store: Store = HERE) -> Outcome:
    """The outcome once the restored picture, if there is one, lies in its place."""
    if picture is None:
        return outcome
    try:
        stores.write_picture(store, outcome.job.target, picture)
        return replace(outcome, notes=[*outcome.notes, *losses(outcome.job.target, picture)])
    except Exception as error:
        return failed(outcome, error)


def failed(outcome: Outcome, error: Exception) -> Outcome:
    """The outcome of a file that an error ended; whatever it is, it is that file's alone."""
    source, cause = outcome.job.source, error.__cause__ or error
    if isinstance(error, MHNetError):
        reason = str(error) if source.name in str(error) else f"{source}: {error}"
    elif isinstance(error, MemoryError):
        reason = f"{source} does not fit in memory: close other programs, or compute with fewer workers."
    else:
        reason = f"{source} cannot be restored ({type(error).__name__}: {first_line(error)})."
    disk_full = isinstance(cause, OSError) and cause.errno in _DISK_FULL
    return replace(outcome, status="failed", reason=reason, disk_full=disk_full)


def not_tried(jobs: Sequence[Job], last: Outcome) -> list[Outcome]:
    """The outcomes of what comes after a file that found the disk full."""
    reason = f"not tried, since there was no place for {last.job.target}"
    return [Outcome(job, "not tried", reason=reason) for job in jobs]
