"""What C libraries print on their own, kept from the person: a decoder's errors are raised and told in our words."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_lock, _within, _kept = threading.Lock(), 0, -1
_own: object = None  # the error stream of Python's own


def part_errors() -> None:
    """Gives Python an error stream that `without_chatter` leaves alone; for a program that begins."""
    global _own
    if sys.stderr is sys.__stderr__ and sys.stderr is not None and sys.stderr.fileno() == 2:
        sys.stderr.flush()
        _own = sys.stderr = os.fdopen(os.dup(2), "w", 1, sys.stderr.encoding, sys.stderr.errors)


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Within it, in any thread, what is written to the process's error stream is dropped; Python's own words are not,
    and where these go there too, everything stays."""
    global _within, _kept
    if _own is None or sys.stderr is not _own:
        yield
        return
    with _lock:
        _within += 1
        if _within == 1:
            _kept = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if not _within:
                os.dup2(_kept, 2)
                os.close(_kept)
