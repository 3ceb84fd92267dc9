"""Which file becomes which where there may be very many, here or in stores."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mhnet.core.errors import MHNetError, printable
from mhnet.images.listing import has_image_extension
from mhnet.restore import places
from mhnet.restore.places import HERE, Store
from mhnet.restore.plan import ending, plan, wanted

Pair = tuple[str, str]  # paths of a source and of its result, each in its store


class BulkPlan(NamedTuple):
    """What to restore.

    Args:
        pairs: every source with its result.
        inputs: the store of the sources.
        results: the store of the results.
        folder: what the results lie in.
    """

    pairs: list[Pair]
    inputs: Store
    results: Store
    folder: str


def plan_bulk(inputs: Sequence[str], out: str, *, suffix: str = "", extension: str | None = None) -> BulkPlan:
    """What to restore, by the rules of `mhnet.restore.plan.plan`, with paths or addresses as inputs and output.

    Patterns are for paths. Hidden names are not taken in stores either.

    Raises:
        MHNetError: as `plan` does, where a store is not reached, and for inputs in several stores.
    """
    found = [places.find(name) for name in inputs]
    store = found[0][0]
    if other := next((name for name, (one, _) in zip(inputs, found, strict=True) if not _same(one, store)), None):
        raise MHNetError(f"{printable(other)} lies in another store than {printable(inputs[0])}: restore them one "
                         "after the other.")  # fmt: skip
    results, top = places.find(out)
    names = [path for _, path in found]
    if store.system is None:
        return _from_here(names, results, top, suffix, extension)
    return plan_stored(store, names, results, top, suffix=suffix, extension=extension)


def _from_here(names: list[str], results: Store, out: str, suffix: str, extension: str | None) -> BulkPlan:
    if results.system is None:
        jobs = plan(names, Path(out), suffix=suffix, extension=extension)
        pairs = [(os.path.abspath(job.source), os.path.abspath(job.target)) for job in jobs]  # noqa: PTH100
        return BulkPlan(pairs, HERE, HERE, out if jobs[0].target != Path(out) else os.path.dirname(out))  # noqa: PTH120
    nowhere = Path(os.devnull)  # stands in for what holds the results: nothing is below it
    above, _, last = out.rpartition("/")
    jobs = plan(names, nowhere / last, suffix=suffix, extension=extension)
    below = [job.target.relative_to(nowhere).as_posix() for job in jobs]
    pairs = [
        (os.path.abspath(job.source), results.joined(above, name))  # noqa: PTH100
        for job, name in zip(jobs, below, strict=True)
    ]
    return BulkPlan(pairs, HERE, results, out if jobs[0].target != nowhere / last else above)


def plan_stored(
    store: Store, names: Sequence[str], results: Store, out: str, *, suffix: str = "", extension: str | None = None
) -> BulkPlan:
    """`plan_bulk` for files and folders in a store, by their paths there.

    Raises:
        MHNetError: as `plan_bulk` does.
    """
    folders = {name for name in dict.fromkeys(names) if _is_folder(store, name)}
    pairs: dict[str, str] = {}
    several = sum(name in folders for name in names) > 1
    to_file = len(names) == 1 and not folders and has_image_extension(out)
    for name in names:
        own = name.rpartition("/")[2] if several and name in folders else ""
        apart = out if _same(store, results) else None
        found = list(_below(store, name, apart, suffix)) if name in folders else [(name.rpartition("/")[0], name)]
        if not found:
            raise MHNetError(f"There are no images or videos in {printable(store.shown(name))}: name another.")
        for root, source in found:
            place = PurePosixPath(own) / source[len(root) :].lstrip("/")
            if ".." in place.parts:
                raise MHNetError(f"{printable(store.shown(source))} has .. in its name: give it another one.")
            result = place.with_name(f"{place.stem}{suffix}{ending(Path(place.name), extension)}")
            pairs.setdefault(source, out if to_file else results.joined(out, str(result)))
    _check(store, pairs, results)
    return BulkPlan(list(pairs.items()), store, results, out if not to_file else results.parent(out))


def _is_folder(store: Store, path: str) -> bool:
    from pyarrow.fs import FileType

    assert store.system is not None
    try:
        kind = store.system.get_file_info(path).type
    except OSError as error:
        raise MHNetError(
            f"{store.shown(path)} cannot be reached ({places.first_line(error)}): check the access."
        ) from error
    if kind == FileType.NotFound:
        raise MHNetError(f"There is no file or folder {printable(store.shown(path))}: check the address.")
    return kind == FileType.Directory


def _below(store: Store, folder: str, out: str | None, suffix: str) -> Iterator[tuple[str, str]]:
    """The images and videos below a folder, without what an earlier run has put there; `out` is None elsewhere."""
    from pyarrow.fs import FileSelector

    assert store.system is not None
    found = [info.path for info in store.system.get_file_info(FileSelector(folder, recursive=True)) if info.is_file]
    stems = {path.rpartition(".")[0] for path in found} if suffix and out == folder else set()
    for path in sorted(found):
        stem, hidden = path.rpartition(".")[0], "/." in path[len(folder) :]
        if out is not None and out != folder and path.startswith(f"{out}/"):
            continue
        ours = stem.endswith(suffix) and stem.removesuffix(suffix) in stems - {stem}
        if wanted(path) and not hidden and not ours:
            yield folder, path


def _check(store: Store, pairs: dict[str, str], results: Store) -> None:
    """Raises MHNetError where a result would replace an original or another result."""
    taken: dict[str, str] = {}
    for source, target in pairs.items():
        if target in pairs and _same(store, results):
            raise MHNetError(f"{printable(store.shown(target))} is an original and would be replaced by a result: name "
                             "another folder with -o, or add --suffix _restored.")  # fmt: skip
        other = taken.setdefault(target, source)
        if other != source:
            both = f"{printable(store.shown(other))} and {printable(store.shown(source))}"
            raise MHNetError(f"{both} would both become {printable(results.shown(target))}: restore them one after the "
                             "other, into two folders.")  # fmt: skip


def _same(one: Store, other: Store) -> bool:
    if one.system is None or other.system is None:
        return one.system is other.system
    return one.system.equals(other.system)
