"""Which file becomes which: what a command names, and where each result goes."""

import glob
import itertools
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from natsort import natsorted, ns

from mhnet.core.errors import MHNetError, printable, shortened
from mhnet.images.kinds import WRITTEN_EXTENSIONS
from mhnet.restore.kinds import CONTAINERS, claims_to_be_restorable, is_film, is_restorable, result_extension
from mhnet.restore.stores import HERE, Store, find_store


class Job(NamedTuple):
    """One file to restore."""

    source: Path
    target: Path  # where its result goes
    root: Path  # the folder that was searched for it, or the one it lies in
    film: bool = False  # whether it is one, by its content


class Plan(NamedTuple):
    """What to restore."""

    jobs: list[Job]  # in the order of the inputs, and in natural order within a folder
    folder: Path  # what the results lie in
    inputs: Store = HERE  # where the sources lie
    results: Store = HERE
    renamed: Sequence[Job] = ()  # those whose results would have had the name of another's, and got one of their own
    refused: Sequence[tuple[Job, str]] = ()  # what is not tried, with the reason: results of one name, closed folders
    others: int = 0  # how many files were found that are neither images nor films


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
            Of folders and patterns, what is an image or a film or claims to be one is taken; hidden files are not.
            Folders below them are mirrored; of several folders, each gets one of its own name.
        out: a folder, or, for a single file, the result's name; or the address of either.
        suffix: what is put behind the results' names, before the extension.
        extension: of images' results, such as ".png"; by default the source's.
        within: the stores of the inputs and of the results, where these are paths in them.

    Raises:
        MHNetError: an input is not there or holds nothing, inputs lie in several stores, a result would replace an
            original, or cannot be written where it is to go.
    """
    found = [(within[0], Path(name)) if within else find_store(name) for name in inputs]
    results, top = (within[1], Path(out)) if within else find_store(str(out))
    store, paths = found[0][0], [path for _, path in found]
    if other := next((name for name, (one, _) in zip(inputs, found, strict=True) if one.system != store.system), None):
        both = f"{printable(other)} lies in another store than {printable(inputs[0])}"
        raise MHNetError(f"{both}: restore them one after the other.")
    same = store.system == results.system
    is_pattern = [store.local and glob.has_magic(name) and not os.path.lexists(name) for name in inputs]
    is_folder = [not pattern and store.is_folder(path) for path, pattern in zip(paths, is_pattern, strict=True)]
    named = top.suffix.lower() in WRITTEN_EXTENSIONS | CONTAINERS.keys() and not (results.local and top.is_dir())
    to_file = named and len(inputs) == 1 and not any(is_folder + is_pattern)
    restorable = is_restorable if store.local else claims_to_be_restorable  # in a store, by its name alone
    jobs: dict[Path, Job] = {}
    unlisted: list[tuple[Job, str]] = []
    others = 0
    for path, folder, pattern in zip(paths, is_folder, is_pattern, strict=True):
        candidates = [path]
        if folder:
            closed: dict[Path, str] = {}
            candidates = _below(store, path, top if same else None, suffix, closed)
            unlisted += [(Job(one, top / one.relative_to(path), path), why) for one, why in closed.items()]
        elif pattern:
            candidates = [Path(one) for one in glob.glob(str(path), recursive=True)]  # noqa: PTH207  (absolute ones too)
            candidates = [one for one in candidates if one.is_file()]
        sources = [one for one in candidates if restorable(one)] if folder or pattern else candidates
        others += len(candidates) - len(sources)
        if not sources and not unlisted:
            raise MHNetError(f"There are no images or videos in {printable(store.shown(path))}: name another.")
        plain = itertools.takewhile(lambda part: not glob.has_magic(part), path.parent.parts)  # what patterns mirror
        root = Path(*plain) if pattern else path if folder else path.parent
        own = Path(path.resolve().name if store.local else path.name) if folder and sum(is_folder) > 1 else Path()
        for source in natsorted(sources, key=lambda one: one.as_posix(), alg=ns.PATH | ns.IGNORECASE):
            name = f"{source.stem}{suffix}{result_extension(source, extension)}"
            target = top if to_file else top / (own / source.relative_to(root)).with_name(name)
            jobs.setdefault(store.absolute(source), Job(source, target, root, is_film(source)))
    apart, renamed, colliding = _kept_apart(list(jobs.values()), results, suffix)
    check_targets(apart, [job.source for job in jobs.values()] if same else [], results)
    return Plan(apart, top.parent if to_file else top, store, results, renamed, [*unlisted, *colliding], others)


def _kept_apart(jobs: list[Job], results: Store, suffix: str) -> tuple[list[Job], list[Job], list[tuple[Job, str]]]:
    """The jobs, of which those that would have had one target got targets of their own, as `a.jpg.png` and `a.tif.png`;
    these; and those that cannot."""
    counts = Counter(_compared(results, job.target) for job in jobs)
    users: dict[str, list[Job]] = {}
    for job in jobs:
        if counts[_compared(results, job.target)] > 1:
            job = job._replace(target=job.target.with_name(f"{job.source.name}{suffix}{job.target.suffix}"))
        users.setdefault(_compared(results, job.target), []).append(job)
    colliding = []
    for same in (same for same in users.values() if len(same) > 1):
        names = shortened([printable(job.source) for job in same], 2)
        target = printable(same[0].target)
        why = f"{names} would become one file, {target}: restore them one after the other, into two folders."
        colliding += [(job, why) for job in same]
    apart, unchanged = [same[0] for same in users.values() if len(same) == 1], set(jobs)
    return apart, [job for job in apart if job not in unchanged], colliding


def check_targets(jobs: Iterable[Job], originals: Collection[Path], results: Store = HERE) -> None:
    """Checks that results can go where they are to go, before any work is done: MHNetError where one would replace an
    original, or a folder cannot be written to."""
    kept = {identity for path in originals for identity in _identities(results, path)}
    folders = set()
    for job in jobs:
        if not kept.isdisjoint(_identities(results, job.target)):
            target = printable(results.shown(job.target))
            raise MHNetError(f"{target} is an original and would be replaced by a result: choose another folder for "
                             "the results, or a suffix such as _restored.")  # fmt: skip
        folders.add(job.target.parent)
    for folder in folders if results.local else ():
        existing = next((place for place in (folder, *folder.absolute().parents) if place.exists()), folder)
        if not existing.is_dir():
            raise MHNetError(f"{printable(existing)} is a file, not a folder: choose another one for the results.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise MHNetError(f"{printable(existing)} cannot be written to: choose another folder for the results.")


def _below(store: Store, folder: Path, out: Path | None, suffix: str, closed: dict[Path, str]) -> list[Path]:
    """The files below a folder, without an earlier run's; `out` is None elsewhere, `closed` gets folders not listed."""
    among = out is not None and store.real(out) == store.real(folder)  # results among their originals
    found = list(store.files_below(folder, None if among else out, closed.__setitem__))
    if suffix and among:
        stems = {path.parent / path.stem for path in found}
        found = [path for path in found if not path.stem.endswith(suffix)
                 or path.parent / path.stem.removesuffix(suffix) not in stems]  # fmt: skip
    return found


def _identities(store: Store, path: Path) -> Iterator[object]:
    """What all names of one file, such as links and hard links, have in common."""
    yield store.real(path)
    with suppress(OSError, ValueError):  # it is not there
        if store.local:
            about = path.stat()
            yield about.st_dev, about.st_ino


def _compared(store: Store, path: Path) -> str:
    """A path as its file system usually compares it."""
    real = store.real(path)
    return real.casefold() if store.local and sys.platform in ("win32", "darwin") else real
