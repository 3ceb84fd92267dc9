"""A user's mistakes, and how the command-line doors answer them."""

import atexit
import contextlib
import errno
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import ParamSpec

from mhnet.core.terminal import paint

P = ParamSpec("P")
_OF_LIBRARIES = re.compile(r"<_io\.|\bbuild\b")
_NO_NAMES = (errno.ENAMETOOLONG, errno.ELOOP)


class MHNetError(Exception):
    """A mistake that the user can mend: one sentence that names the file, the value and the way out."""


class ToldElsewhere(MHNetError):
    """One that another of several processes tells of, and fails by: this one ends without a word, and without an error,
    at which a launcher would end the other before it has spoken."""


def exits_cleanly(main: Callable[P, int | None]) -> Callable[P, int]:
    """Turn a door's `main` into one that returns the exit status and shows no traceback for a user's mistake.

    MHNetError becomes `error: ...` on stderr and 1, Ctrl-C becomes `interrupted` and 130, and a reader of our output
    that has left (`mhnet ... | head`) becomes a silent 141. Everything else is a defect and propagates.
    """

    @functools.wraps(main)
    def door(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            status = main(*args, **kwargs)
            sys.stdout.flush()
        except ToldElsewhere:
            return 0
        except MHNetError as error:
            print(f"{paint('error:', 'red', sys.stderr)} {printable(sentence(error))}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:
            # What is still buffered would fail once more when the interpreter exits: let it go nowhere.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except OSError as error:
            if error.errno not in _NO_NAMES:
                raise
            name = printable(str(error.filename)[:100])
            print(f"error: {name} … is no file's name ({error.strerror}); check the path.", file=sys.stderr)
            return 1
        finally:
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # all is done: Ctrl-C has nothing to stop
        return status or 0

    return door


def sentence(error: MHNetError) -> str:
    """The error's sentence, also where PyTorch's DataLoader has put a worker's traceback in front of it."""
    text = str(error).strip()
    if not text.startswith("Caught ") or "\nOriginal Traceback" not in text:
        return text
    return re.split(rf"^[\w.]*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1]


def first_line(error: BaseException) -> str:
    """An error's words, as much of them as a sentence bears."""
    said = error.args[0] if error.args else ""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(error)  # LibRaw's words are bytes
    first = text.strip().partition("\n")[0].rstrip(".")
    return (first if len(first) < 150 else f"{first[:150]} …") or type(error).__name__


def in_brackets(error: BaseException) -> str:
    """An error's words in brackets behind a space; nothing where they speak of the library and not of the file."""
    return "" if _OF_LIBRARIES.search(words := first_line(error)) else f" ({words})"


def shortened(names: Sequence[object], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def printable(text: object) -> str:
    """Text for one line of a terminal: what cannot be printed, such as a line break in a file's name, as an escape."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))
