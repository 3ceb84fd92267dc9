"""What bulk restoration does to one file after the other: read it, restore it, write it.

Each step runs in processes of its own. Between them an item travels as a row of an Arrow table. A step that fails
leaves its reason in the item, and the steps behind it pass it on.
"""

import os
import pickle
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow
import ray

from mhnet.core.errors import MHNetError
from mhnet.core.version import __version__
from mhnet.images.read import ImageData
from mhnet.restore import stores
from mhnet.restore.kinds import is_film
from mhnet.restore.outcomes import Outcome, failed, written
from mhnet.restore.plan import Job
from mhnet.restore.stores import Store

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

    from mhnet.restore.restorer import Restorer

BATCH_PIXELS = 1 << 21  # of small images that are computed at once, at most


class Item(NamedTuple):
    """A file on its way: its place in the plan, its outcome so far, and between the steps what is in it, then the
    restored form of that."""

    number: int
    outcome: Outcome
    picture: ImageData | None = None


def version() -> str:
    """The version of mhnet that a process has."""
    return __version__


def packed(items: Iterable[Item]) -> pyarrow.Table:
    """Items as the rows of a table."""
    rows = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]
    return pyarrow.table({"item": pyarrow.array(rows, pyarrow.large_binary())})


def unpacked(table: pyarrow.Table) -> Iterator[Item]:
    """The items of a table's rows."""
    for row in table["item"]:
        yield pickle.loads(row.as_buffer())


def read(
    table: pyarrow.Table, *, inputs: Store, results: Store, check: bool, max_pixels: int
) -> Iterator[pyarrow.Table]:
    """Reads the file of each row of a plan, except, with `check`, where a whole result is there."""
    for row in table.to_pylist():
        source, target = (Path(os.fsdecode(row[side])) for side in ("source", "target"))
        item = Item(row["number"], Outcome(Job(source, target, source.parent)))
        yield packed([_attempt(_read, item, inputs, results, check, max_pixels)])


def _read(item: Item, inputs: Store, results: Store, check: bool, max_pixels: int) -> Item:
    job = item.outcome.job
    if is_film(job.source):
        raise MHNetError(f"{inputs.shown(job.source)} is a film: restore it without --engine ray.")
    picture, size = stores.read_picture(inputs, job.source, max_pixels)
    height, width = picture.pixels.shape[:2]
    outcome = replace(item.outcome, bytes=size, height=height, width=width)
    if check and _size_of(results, job.target, max_pixels) == (height, width):
        return Item(item.number, replace(outcome, status="skipped"))
    return Item(item.number, outcome, picture)


def _size_of(store: Store, path: Path, max_pixels: int) -> tuple[int, ...]:
    """Height and width of an image that can be read to its end, or nothing."""
    try:
        return stores.read_picture(store, path, max_pixels)[0].pixels.shape[:2]
    except MHNetError:
        return ()


class Ledger:
    """Which items are being computed: those that are begun and never ended have ended their process."""

    def __init__(self) -> None:
        self.begun: Counter[int] = Counter()

    def begin(self, numbers: list[int], most: int) -> bool:
        """Notes that items are begun, unless one of them has ended more processes than that; whether they are."""
        if any(self.begun[number] > most for number in numbers):
            return False
        self.begun.update(numbers)
        return True

    def end(self, numbers: list[int]) -> None:
        for number in numbers:
            del self.begun[number]


class Restoring:
    """A network in a process of its own, which restores the pictures of items.

    `make` refers to what makes the restorer, at most `batch` images of one size are computed at once, and `ledger` is
    the process of the run's `Ledger`.
    """

    def __init__(self, make: "ObjectRef[Callable[[], Restorer]]", batch: int, ledger: "ActorHandle"):
        self.restorer = ray.get(make)()
        self.batch, self.ledger = batch, ledger

    def __call__(self, table: pyarrow.Table) -> Iterator[pyarrow.Table]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told with the item
            for kind, items in groupby(unpacked(table), _kind):
                if kind is None:
                    yield packed(items)
                else:
                    yield from self._alike(list(items))

    def _alike(self, items: list[Item]) -> Iterator[pyarrow.Table]:
        """Restores pictures of one kind and size; where some at once fail, one by one, so that none suffers from
        another."""
        size = items[0].outcome
        count = max(min(self.batch, BATCH_PIXELS // (size.height * size.width)), 1)
        for start in range(0, len(items), count):
            some = items[start : start + count]
            restored: list[Item] = []
            if len(some) > 1:
                with suppress(Exception):
                    restored = self._noted(some, 0)
            each = ([_attempt(lambda one: self._noted([one], 1)[0], item)] for item in some)
            for done in [restored] if restored else each:
                yield packed(done)

    def _noted(self, items: list[Item], most: int) -> list[Item]:
        """Items restored at once, unless one of them has ended more processes than that."""
        numbers = [item.number for item in items]
        if not ray.get(self.ledger.begin.remote(numbers, most)):
            source = items[0].outcome.job.source
            raise MHNetError(f"{source} ended its process twice: it may need more memory than there is.")
        try:
            return self._at_once(items)
        finally:
            self.ledger.end.remote(numbers)

    def _at_once(self, items: list[Item]) -> list[Item]:
        start = time.perf_counter()
        found = [item.picture for item in items if item.picture is not None]
        pixels = [picture.pixels for picture in found]
        restored = self.restorer(pixels[0][None] if len(pixels) == 1 else np.stack(pixels))
        last, seconds, done = self.restorer.last, (time.perf_counter() - start) / len(items), []
        changes = last.changes or (None,) * len(items)
        for item, picture, one, change in zip(items, found, restored, changes, strict=True):
            notes = tuple(last.notes)  # how much was changed is a column of the report
            outcome = replace(item.outcome, seconds=seconds, tile=last.tile, precision=last.precision, change=change,
                              notes=notes)  # fmt: skip
            done.append(Item(item.number, outcome, replace(picture, pixels=one)))
        return done


def _kind(item: Item) -> tuple[Any, ...] | None:
    """What pictures have in common that can be computed at once; None where there is nothing to restore."""
    return None if item.picture is None else (item.picture.pixels.shape, item.picture.pixels.dtype.str)


def write(table: pyarrow.Table, *, results: Store) -> Iterator[pyarrow.Table]:
    """Writes each item's restored picture, whole or not at all."""
    for number, outcome, picture in unpacked(table):
        yield packed([Item(number, written(outcome, picture, results))])


def _attempt(step: Callable[..., Item], item: Item, *more: Any) -> Item:
    """The item after a step; where the step fails, with the reason and without the picture."""
    try:
        return step(item, *more)
    except Exception as error:  # one file's trouble is not the others'
        return Item(item.number, failed(item.outcome, error))
