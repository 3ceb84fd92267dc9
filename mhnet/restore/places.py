"""Where many files lie, and how they are read and written there: this machine's folders, or an object store.

Stores are pyarrow's file systems: `s3://bucket/photos`, `gs://…`, `abfs://…`, `hdfs://…`, or any that a program passes.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from mhnet.core.errors import MHNetError
from mhnet.core.files import replacing
from mhnet.images.header import ImageError
from mhnet.images.read import ImageData, read_image, read_image_stream
from mhnet.images.write import encode_image, write_image

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_PUT_WHOLE = ("s3", "gcs", "abfs")  # where a file appears when it is complete, and folders need not be made
_UNFINISHED = re.compile(r"\.\d+-(.+)", re.DOTALL)  # what `files.replacing` and `put` call a file until it is whole


class Store(NamedTuple):
    """What holds files.

    Args:
        system: pyarrow's file system, whose paths' parts are joined by "/"; None for this machine's own folders.
        prefix: what stands before its paths where they are shown, such as "s3://".
    """

    system: "FileSystem | None" = None
    prefix: str = ""

    def shown(self, path: str) -> str:
        return self.prefix + path

    def parent(self, path: str) -> str:
        return path.rpartition("/")[0] if self.system else os.path.dirname(path)  # noqa: PTH120

    def joined(self, folder: str, name: str) -> str:
        if self.system:
            return f"{folder}/{name}" if folder else name
        return os.path.join(folder, name)  # noqa: PTH118


HERE = Store()


def is_address(text: str) -> bool:
    """Whether a text is the address of a store rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def find(text: str) -> tuple[Store, str]:
    """The store that a path or an address names, and the path in it; `file://…` is this machine's own.

    Raises:
        MHNetError: pyarrow is missing, does not know such an address, or does not reach it.
    """
    if not is_address(text):
        return HERE, text
    try:
        from pyarrow.fs import FileSystem, LocalFileSystem
    except ImportError as error:
        raise MHNetError(f"{text} lies in a store, which needs pyarrow: pip install 'mhnet[ray]'") from error
    try:
        system, path = FileSystem.from_uri(text)
    except (OSError, ValueError, NotImplementedError) as error:
        raise MHNetError(f"{text} cannot be reached ({first_line(error)}): check the address and access.") from error
    if isinstance(system, LocalFileSystem):
        return HERE, path
    return Store(system, f"{urlsplit(text).scheme}://"), path.rstrip("/")


def read(store: Store, path: str) -> tuple[ImageData, int]:
    """The picture in a file, and the file's bytes.

    Raises:
        ImageError: as `read_image` does, and where the store does not give the file.
    """
    if store.system is None:
        return read_image(path), os.stat(path).st_size  # noqa: PTH116
    try:
        with store.system.open_input_file(path) as stream:
            length = stream.size()
            return read_image_stream(path, stream, length), length
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {store.shown(path)}; check the path.") from error
    except OSError as error:
        raise ImageError(f"{store.shown(path)} cannot be read ({first_line(error)}); check the store.") from error


def write(store: Store, path: str, picture: ImageData) -> None:
    """Write a picture, whole or not at all, in the format of the path's extension.

    Raises:
        ImageError: as `write_image` does, and where the store does not take the file.
    """
    if store.system is None:
        write_image(path, picture)
        return
    try:
        put(store, path, encode_image(path, picture))
    except OSError as error:
        raise ImageError(
            f"{store.shown(path)} cannot be written ({first_line(error)}); choose another place."
        ) from error


def put(store: Store, path: str, data: bytes) -> None:
    """Puts bytes into a file, whole or not at all; raises OSError."""
    system, folder = store.system, store.parent(path)
    if system is None:
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(data)
        return
    if system.type_name in _PUT_WHOLE:
        with system.open_output_stream(path) as stream:
            stream.write(data)
        return
    part = store.joined(folder, f".{os.getpid()}-{path.rpartition('/')[2]}")
    if folder:
        system.create_dir(folder)
    try:
        with system.open_output_stream(part) as stream:
            stream.write(data)
        system.move(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            system.delete_file(part)
        raise


def results_there(store: Store, targets: Collection[str]) -> set[str]:
    """Which of the results are there and not empty; what killed writers have left beside them is removed.

    Results are put whole, so that those that are there need not be read.
    """
    wanted, there = set(targets), set()
    for folder in {store.parent(target) for target in wanted}:
        for name, length in _files(store, folder):
            path, unfinished = store.joined(folder, name), _UNFINISHED.fullmatch(name)
            if path in wanted and length > 0:
                there.add(path)
            elif unfinished and store.joined(folder, unfinished[1]) in wanted:
                with contextlib.suppress(OSError):
                    store.system.delete_file(path) if store.system else os.unlink(path)  # noqa: PTH108
    return there


def _files(store: Store, folder: str) -> Iterator[tuple[str, int]]:
    """The names and bytes of the files in a folder; none where there is no such folder."""
    if store.system is None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder or ".") as entries:
            for entry in entries:
                if entry.is_file():
                    yield entry.name, entry.stat().st_size
        return
    from pyarrow.fs import FileSelector

    for info in store.system.get_file_info(FileSelector(folder, allow_not_found=True)):
        if info.is_file:
            yield info.base_name, info.size or 0


def first_line(error: BaseException) -> str:
    """As much of an error's words as a sentence bears."""
    return (str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__)[:200]
