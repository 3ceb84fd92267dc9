"""Which file becomes which: what a command names, and where each result goes."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from natsort import natsorted, ns

from mhnet.core.errors import MHNetError, printable
from mhnet.images.listing import has_image_extension, walk_folder
from mhnet.restore.video_kinds import EXTENSIONS, is_film, result_extension

_OTHERS = ".png"  # what an image of a kind that is read but not written becomes


class Job(NamedTuple):
    """One file to restore.

    Args:
        source: the file.
        target: where its result goes.
        root: the folder that was searched for it, or the one it lies in.
    """

    source: Path
    target: Path
    root: Path

    @property
    def video(self) -> bool:
        return is_film(self.source)


def plan(inputs: Sequence[str], out: Path, *, suffix: str = "", extension: str | None = None) -> list[Job]:
    """What to restore, in the order of the inputs and in natural order within a folder.

    Args:
        inputs: files, folders, and patterns such as `photos/**/*.jpg`. Of folders and patterns, images and videos are
            taken, known by extension; hidden ones are not. Folders below them are mirrored; of several folders, each
            gets one of its own name.
        out: a folder, or, for a single file, the result's name.
        suffix: what is put behind the results' names, before the extension.
        extension: of images' results, such as ".png"; by default the source's.

    Raises:
        MHNetError: an input is not there or holds nothing, a result would replace an original, or two results would
            have one name.
    """
    folders = sum(Path(name).is_dir() for name in inputs)
    to_file = len(inputs) == 1 and folders == 0 and Path(inputs[0]).exists() and is_file_name(out)
    jobs: dict[Path, Job] = {}
    for name in inputs:
        found = list(_below(Path(name), out, suffix) if Path(name).is_dir() else _named(name))
        if not found:
            raise MHNetError(f"There are no images or videos in {printable(name)}: name another.")
        for root, source in found:
            place = source.relative_to(root)
            if folders > 1 and Path(name).is_dir():
                place = Path(Path(name).resolve().name) / place
            name_of_result = f"{source.stem}{suffix}{ending(source, extension)}"
            target = out if to_file else (out / place).with_name(name_of_result)
            jobs.setdefault(source.absolute(), Job(source, target, root))
    _check(list(jobs.values()))
    return list(jobs.values())


def is_file_name(out: Path) -> bool:
    """Whether OUT names a result rather than a folder."""
    return not out.is_dir() and (has_image_extension(out.name) or is_film(out))


def ending(source: Path, extension: str | None) -> str:
    """The extension of a file's result; `extension` is that of images' results, where it is not as the source's."""
    if is_film(source):
        return result_extension(source)
    return extension or (source.suffix if has_image_extension(source.name) else _OTHERS)


def check_place(folder: Path) -> None:
    """Raises MHNetError unless results can be written to a folder, or to one that can be made there."""
    existing = next((place for place in (folder, *folder.absolute().parents) if place.exists()), folder)
    if not existing.is_dir():
        raise MHNetError(f"{printable(existing)} is a file, not a folder: name another place with -o.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise MHNetError(f"{printable(existing)} cannot be written to: name another place with -o.")


def _named(name: str) -> Iterator[tuple[Path, Path]]:
    """The file of that name, or the files that a pattern stands for, each with the folder it is mirrored from."""
    path = Path(name)
    if os.path.lexists(path) or not glob.has_magic(name):
        if not path.exists():
            raise MHNetError(f"There is no file or folder {printable(name)}: check the path.")
        yield path.parent, path
        return
    root = Path(*_before_pattern(path))
    found = [Path(one) for one in glob.glob(name, recursive=True)]  # noqa: PTH207  (takes absolute patterns)
    for one in natsorted(found, key=lambda path: path.as_posix(), alg=ns.PATH | ns.IGNORECASE):
        if one.is_file() and wanted(one.name):
            yield root, one


def _before_pattern(path: Path) -> Iterator[str]:
    """The parts of a pattern that are plain names."""
    for part in path.parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def _below(folder: Path, out: Path, suffix: str) -> Iterator[tuple[Path, Path]]:
    """The images and videos below a folder, without what an earlier run has put there."""
    results = os.path.realpath(out)  # Path.resolve fails on a link that leads to itself
    within = results != os.path.realpath(folder)
    found = []
    for here, subfolders, names in walk_folder(folder):
        if within:
            subfolders[:] = [name for name in subfolders if os.path.realpath(here / name) != results]
        stems = {Path(name).stem for name in names}
        for name in names:
            ours = suffix and not within and Path(name).stem.removesuffix(suffix) in stems - {Path(name).stem}
            if wanted(name) and not ours:
                found.append(here / name)
    for path in natsorted(found, key=lambda path: path.relative_to(folder).as_posix(), alg=ns.PATH | ns.IGNORECASE):
        yield folder, path


def wanted(name: str) -> bool:
    """Whether a file name ends like an image's or a video's."""
    return has_image_extension(name) or Path(name).suffix.lower() in EXTENSIONS


def _check(jobs: list[Job]) -> None:
    """Raises MHNetError where a result would replace an original or another result."""
    originals = {_identity(job.source) for job in jobs}
    paths = {os.path.realpath(job.source) for job in jobs}
    taken: dict[str, Job] = {}
    for job in jobs:
        identity = _identity(job.target)
        if (identity and identity in originals) or os.path.realpath(job.target) in paths:
            raise MHNetError(f"{printable(job.target)} is an original and would be replaced by a result: name another "
                             "folder with -o, or add --suffix _restored.")  # fmt: skip
        other = taken.setdefault(_compared(job.target), job)
        if other is not job:
            both = f"{printable(other.source)} and {printable(job.source)}"
            raise MHNetError(f"{both} would both become {printable(job.target)}: restore them one after the other, "
                             "into two folders.")  # fmt: skip


def _identity(path: Path) -> tuple[int, int] | None:
    """What two names of one file, such as hard links, have in common; None for a file that is not there."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return None
    return about.st_dev, about.st_ino


def _compared(path: Path) -> str:
    """A path as this system's file systems usually compare it."""
    real = os.path.realpath(path)
    return real.casefold() if sys.platform in ("win32", "darwin") else real
