"""Where files lie, and how they are read and written there: this machine's folders, or an object store.

Stores are pyarrow's file systems: `s3://bucket/photos`, `gs://…`, `abfs://…`, `hdfs://…`, or any that a program passes.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import psutil

from mhnet.core.errors import MHNetError, first_line, printable
from mhnet.core.files import replacing, unfinished
from mhnet.images.header import MAX_PIXELS, ImageError
from mhnet.images.listing import Refusing, walk_folder
from mhnet.images.read import ImageData, read_image
from mhnet.images.write import encode_image, write_image

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_PUT_WHOLE = ("s3", "gcs", "abfs")  # where a file appears when it is complete, and folders need not be made
_UNFINISHED = re.compile(r"\.(\d{1,9})-(.+)", re.DOTALL)  # names that `files.unfinished` gives


class Store(NamedTuple):
    """What holds files."""

    system: "FileSystem | None" = None  # pyarrow's; None for this machine's own folders
    prefix: str = ""  # what stands before its paths where they are shown, such as "s3://"

    @property
    def local(self) -> bool:
        return self.system is None

    def shown(self, path: Path) -> str:
        return self.prefix + self.key(path)

    def key(self, path: Path) -> str:
        """What the file system calls a path."""
        if self.system is None:
            return str(path)
        return "" if path == Path() else path.as_posix()

    def real(self, path: Path) -> str:
        """What all paths of a file have in common, whatever links they lead through."""
        return os.path.realpath(path) if self.local else self.key(path)  # Path.resolve fails on a link to itself

    def absolute(self, path: Path) -> Path:
        return path.absolute() if self.system is None else path

    def is_folder(self, path: Path) -> bool:
        """Whether a path is a folder's; MHNetError where there is nothing so called, or the store is not reached."""
        if self.system is None:
            there, folder = path.exists(), path.is_dir()
        else:
            from pyarrow.fs import FileType

            try:
                kind = self.system.get_file_info(self.key(path)).type
            except OSError as error:
                shown = printable(self.shown(path))
                raise MHNetError(f"{shown} cannot be reached ({first_line(error)}): check the access.") from error
            there, folder = kind != FileType.NotFound, kind == FileType.Directory
        if not there:
            raise MHNetError(f"There is no file or folder {printable(self.shown(path))}: check the path.")
        return folder

    def files_below(self, folder: Path, apart: Path | None, unlisted: Refusing) -> Iterator[Path]:
        """The files in a folder and its subfolders, without hidden ones and what lies in the folder `apart`; `unlisted`
        is told of subfolders that cannot be listed."""
        if self.system is None:
            left_out = apart and self.real(apart)
            for here, subfolders, names in walk_folder(folder, unlisted):
                subfolders[:] = [name for name in subfolders if self.real(here / name) != left_out]
                yield from (here / name for name in names)
            return
        from pyarrow.fs import FileSelector

        for info in self.system.get_file_info(FileSelector(self.key(folder), recursive=True)):
            path = Path(info.path)
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if info.is_file and not hidden and not (apart and path.is_relative_to(apart)):
                yield path


HERE = Store()


def find_store(text: str) -> tuple[Store, Path]:
    """The store that a path or an address names, and the path in it; `file://…` is this machine's own. MHNetError where
    pyarrow is missing, does not know such an address, or does not reach it."""
    if "://" not in text:
        return HERE, Path(text)
    try:
        from pyarrow.fs import FileSystem, LocalFileSystem
    except ImportError as error:
        raise MHNetError(f"{printable(text)} lies in a store, which needs pyarrow: pip install 'mhnet[ray]'") from error
    try:
        system, path = FileSystem.from_uri(text)
    except (OSError, ValueError, NotImplementedError) as error:
        reason = first_line(error)
        raise MHNetError(f"{printable(text)} cannot be reached ({reason}): check the address and access.") from error
    if isinstance(system, LocalFileSystem):
        return HERE, Path(path)
    return Store(system, f"{urlsplit(text).scheme}://"), Path(path)


def read_picture(store: Store, path: Path, max_pixels: int = MAX_PIXELS) -> tuple[ImageData, int]:
    """The picture in a file of at most so many pixels, and the file's bytes; ImageError as of `read_image`, and where
    the store does not give the file."""
    if store.system is None:
        return read_image(path, max_pixels), path.stat().st_size
    try:
        with store.system.open_input_file(store.key(path)) as stream:
            return read_image(path, max_pixels, stream), stream.size()
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {store.shown(path)}; check the path.") from error
    except OSError as error:
        raise ImageError(f"{store.shown(path)} cannot be read ({first_line(error)}); check the store.") from error


def write_picture(store: Store, path: Path, picture: ImageData) -> None:
    """Write a picture, whole or not at all, in the format of the path's extension; ImageError as of `write_image`, and
    where the store does not take the file."""
    if store.system is None:
        write_image(path, picture)
        return
    try:
        put(store, path, encode_image(path, picture))
    except OSError as error:
        reason = first_line(error)
        raise ImageError(f"{store.shown(path)} cannot be written ({reason}); choose another place.") from error


def put(store: Store, path: Path, data: bytes) -> None:
    """Puts bytes into a file, whole or not at all; raises OSError."""
    system, key, part = store.system, store.key(path), store.key(unfinished(path))
    if system is None:
        with replacing(path) as temporary:
            temporary.write_bytes(data)
        return
    if system.type_name in _PUT_WHOLE:
        with system.open_output_stream(key) as stream:
            stream.write(data)
        return
    if folder := store.key(path.parent):
        system.create_dir(folder)
    try:
        with system.open_output_stream(part) as stream:
            stream.write(data)
        system.move(part, key)
    except OSError:
        with contextlib.suppress(OSError):
            system.delete_file(part)
        raise


def results_there(store: Store, targets: Collection[Path]) -> set[Path]:
    """Which of the results are there and not empty; what killed writers have left beside them is removed.

    Results are put whole, so that those that are there need not be read.
    """
    wanted, there = set(targets), set()
    parts = {(target.parent, unfinished(target).name.partition("-")[2]) for target in wanted}
    for folder in {target.parent for target in wanted}:
        for name, length in _files(store, folder):
            path, left = folder / name, _UNFINISHED.fullmatch(name)
            if path in wanted and length > 0:
                there.add(path)
            elif left and (folder, left[2]) in parts and not (store.local and _is_others(int(left[1]))):
                with contextlib.suppress(OSError):
                    store.system.delete_file(store.key(path)) if store.system else path.unlink()
    return there


def _is_others(process: int) -> bool:
    """Whether it is another process that runs on this machine."""
    return process != os.getpid() and psutil.pid_exists(process)


def _files(store: Store, folder: Path) -> Iterator[tuple[str, int]]:
    """The names and bytes of the files in a folder; none where it cannot be listed."""
    if store.system is None:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file():
                    yield entry.name, entry.stat().st_size
        return
    from pyarrow.fs import FileSelector

    for info in store.system.get_file_info(FileSelector(store.key(folder), allow_not_found=True)):
        if info.is_file:
            yield info.base_name, info.size or 0
