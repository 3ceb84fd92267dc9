"""Writing a file whole or not at all."""

import errno
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mhnet.core.errors import MHNetError

StrPath = str | os.PathLike[str]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to; on success it is flushed to disk and takes `path`'s place.

    On an exception, such as OSError for a full disk, it is removed and `path` stays as it was. Folders are made.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise FileExistsError(errno.EEXIST, "it is a device or a pipe", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.umask(mask := os.umask(0))
        temporary.chmod(0o666 & ~mask)  # some libraries leave files to their owner alone
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network file systems cannot flush folders; the file is in place
                os.fsync(folder)
        finally:
            os.close(folder)


def unfinished(path: Path) -> Path:
    """Where this process writes a file until it is whole: `.PID-NAME`."""
    return path.with_name(f".{os.getpid()}-{short_name(path)}")


def short_name(path: Path) -> str:
    """A file's name, or a checksum with its extension for one of many bytes: file systems allow 255."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= 240 else f"{zlib.crc32(name):08x}{path.suffix}"


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all; MHNetError where the system refuses."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MHNetError(f"{path} cannot be written ({error.strerror}): choose another place") from error


def read_json(path: Path) -> Any:
    """What a file of JSON holds; None where it cannot be read, or is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
