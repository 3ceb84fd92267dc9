"""Which file becomes which: what a command names, and where each result goes."""

import glob
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from natsort import natsorted, ns

from mhnet.core.errors import MHNetError, printable
from mhnet.restore.kinds import is_restorable, result_extension
from mhnet.restore.stores import HERE, Store, find_store
from mhnet.restore.video_kinds import is_film


class Job(NamedTuple):
    """One file to restore.

    Args:
        source: the file.
        target: where its result goes.
        root: the folder that was searched for it, or the one it lies in.
        film: whether it is one, by its content.
    """

    source: Path
    target: Path
    root: Path
    film: bool = False


class Plan(NamedTuple):
    """What to restore.

    Args:
        jobs: in the order of the inputs, and in natural order within a folder.
        folder: what the results lie in.
        inputs: the store of the sources.
        results: the store of the results.
    """

    jobs: list[Job]
    folder: Path
    inputs: Store = HERE
    results: Store = HERE


def plan(
    inputs: Sequence[str],
    out: Path | str,
    *,
    suffix: str = "",
    extension: str | None = None,
    within: tuple[Store, Store] | None = None,
) -> Plan:
    """Plans what becomes of files, here or in stores.

    Args:
        inputs: files, folders, and patterns such as `photos/**/*.jpg`, or addresses of files and folders in a store.
            Of folders and patterns, images and videos are taken, known by extension; hidden ones are not. Folders
            below them are mirrored; of several folders, each gets one of its own name.
        out: a folder, or, for a single file, the result's name; or the address of either.
        suffix: what is put behind the results' names, before the extension.
        extension: of images' results, such as ".png"; by default the source's.
        within: the stores of the inputs and of the results, where these are paths in them.

    Raises:
        MHNetError: an input is not there or holds nothing, inputs lie in several stores, a result would replace an
            original or another result, or cannot be written where it is to go.
    """
    found = [(within[0], Path(name)) if within else find_store(name) for name in inputs]
    results, top = (within[1], Path(out)) if within else find_store(str(out))
    store, paths = found[0][0], [path for _, path in found]
    if other := next((name for name, (one, _) in zip(inputs, found, strict=True) if not one.equals(store)), None):
        both = f"{printable(other)} lies in another store than {printable(inputs[0])}"
        raise MHNetError(f"{both}: restore them one after the other.")
    same = store.equals(results)
    is_pattern = [store.local and glob.has_magic(name) and not os.path.lexists(name) for name in inputs]
    is_folder = [not pattern and store.is_folder(path) for path, pattern in zip(paths, is_pattern, strict=True)]
    to_file = len(inputs) == 1 and not any(is_folder + is_pattern) and _names_a_file(results, top)
    jobs: dict[Path, Job] = {}
    for path, folder, pattern in zip(paths, is_folder, is_pattern, strict=True):
        sources = [(path.parent, path)]
        if folder:
            sources = [(path, one) for one in _below(store, path, top if same else None, suffix)]
        elif pattern:
            sources = list(_matching(path))
        if not sources:
            raise MHNetError(f"There are no images or videos in {printable(store.shown(path))}: name another.")
        own = Path(path.resolve().name if store.local else path.name) if folder and sum(is_folder) > 1 else Path()
        for root, source in sources:
            name = f"{source.stem}{suffix}{result_extension(source, extension)}"
            relative = (own / source.relative_to(root)).with_name(name)
            jobs.setdefault(
                store.absolute(source), Job(source, top if to_file else top / relative, root, is_film(source))
            )
    made = Plan(list(jobs.values()), top.parent if to_file else top, store, results)
    check_targets(made.jobs, [job.source for job in made.jobs] if same else [], results)
    return made


def check_targets(jobs: Iterable[Job], originals: Collection[Path], results: Store = HERE) -> None:
    """Checks that results can go where they are to go, before any work is done.

    Raises:
        MHNetError: a result would replace an original or another result, or a folder cannot be written to.
    """
    kept = {identity for path in originals for identity in _identities(results, path)}
    taken: dict[str, Job] = {}
    for job in jobs:
        target = printable(results.shown(job.target))
        if not kept.isdisjoint(_identities(results, job.target)):
            raise MHNetError(f"{target} is an original and would be replaced by a result: choose another folder for "
                             "the results, or a suffix such as _restored.")  # fmt: skip
        other = taken.setdefault(_compared(results, job.target), job)
        if other is not job:
            both = f"{printable(other.source)} and {printable(job.source)}"
            raise MHNetError(f"{both} would both become {target}: restore them one after the other, into two folders.")
    for folder in {job.target.parent for job in taken.values()} if results.local else ():
        existing = next((place for place in (folder, *folder.absolute().parents) if place.exists()), folder)
        if not existing.is_dir():
            raise MHNetError(f"{printable(existing)} is a file, not a folder: choose another one for the results.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise MHNetError(f"{printable(existing)} cannot be written to: choose another folder for the results.")


def _names_a_file(store: Store, out: Path) -> bool:
    """Whether OUT names a result rather than a folder."""
    return is_restorable(out) and not (store.local and out.is_dir())


def _below(store: Store, folder: Path, out: Path | None, suffix: str) -> list[Path]:
    """The images and videos below a folder, without what an earlier run has put there; `out` is None elsewhere."""
    among = out is not None and store.real(out) == store.real(folder)  # results among their originals
    found = [path for path in store.files_below(folder, None if among else out) if is_restorable(path)]
    if suffix and among:
        stems = {path.parent / path.stem for path in found}
        found = [path for path in found if not path.stem.endswith(suffix)
                 or path.parent / path.stem.removesuffix(suffix) not in stems]  # fmt: skip
    return natsorted(found, key=lambda path: path.relative_to(folder).as_posix(), alg=ns.PATH | ns.IGNORECASE)


def _matching(pattern: Path) -> Iterator[tuple[Path, Path]]:
    """The images and videos that a pattern stands for, each with the folder it is mirrored from."""
    plain = next(place for place, part in enumerate(pattern.parts) if glob.has_magic(part))
    root = Path(*pattern.parts[: min(plain, len(pattern.parts) - 1)])
    found = [Path(one) for one in glob.glob(str(pattern), recursive=True)]  # noqa: PTH207  (takes absolute patterns)
    for one in natsorted(found, key=lambda path: path.as_posix(), alg=ns.PATH | ns.IGNORECASE):
        if one.is_file() and is_restorable(one):
            yield root, one


def _identities(store: Store, path: Path) -> Iterator[object]:
    """What all names of one file, such as links and hard links, have in common."""
    yield store.real(path)
    if store.local:
        try:
            about = path.stat()
        except (OSError, ValueError):  # it is not there
            return
        yield about.st_dev, about.st_ino


def _compared(store: Store, path: Path) -> str:
    """A path as its file system usually compares it."""
    real = store.real(path)
    return real.casefold() if store.local and sys.platform in ("win32", "darwin") else real
