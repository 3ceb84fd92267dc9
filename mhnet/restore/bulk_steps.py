"""What bulk restoration does to one file after the other: read it, restore it, write it.

Each step runs in processes of its own. Between them an item travels as a row of an Arrow table. A step that fails
leaves its reason in the item, and the steps behind it pass it on.
"""

import errno
import os
import pickle
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow
import ray

from mhnet.core.errors import MHNetError
from mhnet.core.version import __version__
from mhnet.images.read import ImageData
from mhnet.images.write import losses
from mhnet.restore import places
from mhnet.restore.places import Store
from mhnet.restore.video_kinds import is_film

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

    from mhnet.restore.restorer import Restorer

TOGETHER = 1 << 21  # pixels of small images that are computed at once, at most
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Item:
    """A file on its way, and what has become of it.

    Args:
        number: its place in the plan.
        source: the file's path in its store.
        target: where its result goes, in the results' store.
        picture: between the steps, what is in the file, then its restored form.
        status: "restored" unless it is one of the others.
        reason: why it failed, '' otherwise.
        size: of the file, bytes.
        height, width: of the picture.
        seconds: it was computed for; of images computed at once, each one's share.
        tile: height and width of the tiles; None for an image computed whole.
        notes: what was not done as asked, as sentences.
        no_place: it failed because the disk is full or read-only.
    """

    number: int
    source: str
    target: str
    picture: ImageData | None = None
    status: Literal["restored", "skipped", "failed"] = "restored"
    reason: str = ""
    size: int = 0
    height: int = 0
    width: int = 0
    seconds: float = 0.0
    tile: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    no_place: bool = False


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


def read(table: pyarrow.Table, *, inputs: Store, results: Store, check: bool) -> Iterator[pyarrow.Table]:
    """Reads the file of each row of a plan (`bulk.planned`), except, with `check`, where a whole result is there."""
    for row in table.to_pylist():
        item = Item(row["number"], os.fsdecode(row["source"]), os.fsdecode(row["target"]))
        yield packed([_guarded(_read, item, inputs, results, check)])


def _read(item: Item, inputs: Store, results: Store, check: bool) -> Item:
    if is_film(Path(item.source)):
        raise MHNetError(f"{inputs.shown(item.source)} is a video: restore it without --engine ray.")
    picture, size = places.read(inputs, item.source)
    height, width = picture.pixels.shape[:2]
    found = replace(item, picture=picture, size=size, height=height, width=width)
    whole = check and _size_of(results, item.target) == (height, width)
    return replace(found, picture=None, status="skipped") if whole else found


def _size_of(store: Store, path: str) -> tuple[int, ...]:
    """Height and width of an image that can be read to its end, or nothing."""
    try:
        return places.read(store, path)[0].pixels.shape[:2]
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

    Args:
        make: a reference to what makes the restorer.
        batch: images of one size that are computed at once, at most.
        ledger: the process of the run's `Ledger`.
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
        """Restores pictures of one kind and size."""
        count = max(min(self.batch, TOGETHER // (items[0].height * items[0].width)), 1)
        for start in range(0, len(items), count):
            some = items[start : start + count]
            if len(some) > 1 and (restored := self._all_or_none(some)):
                yield packed(restored)
            else:
                for item in some:
                    yield packed([_guarded(self._alone, item)])

    def _all_or_none(self, items: list[Item]) -> list[Item] | None:
        """Items restored at once; None where they are to be taken one by one, so that none suffers from another."""
        if not self._begin(items, 0):
            return None
        try:
            return self._at_once(items)
        except Exception:
            return None
        finally:
            self._end(items)

    def _alone(self, item: Item) -> Item:
        if not self._begin([item], 1):
            raise MHNetError(f"{item.source} ended its process twice: it may need more memory than there is.")
        try:
            return self._at_once([item])[0]
        finally:
            self._end([item])

    def _begin(self, items: list[Item], most: int) -> bool:
        return ray.get(self.ledger.begin.remote([item.number for item in items], most))

    def _end(self, items: list[Item]) -> None:
        self.ledger.end.remote([item.number for item in items])

    def _at_once(self, items: list[Item]) -> list[Item]:
        start = time.perf_counter()
        found = [item.picture for item in items if item.picture is not None]
        pixels = [picture.pixels for picture in found]
        restored = [self.restorer(pixels[0])] if len(pixels) == 1 else self._stacked(np.stack(pixels))
        about: dict[str, Any] = {"seconds": (time.perf_counter() - start) / len(items),
                                 "tile": self.restorer.last.tile, "notes": tuple(self.restorer.last.notes)}  # fmt: skip
        return [
            replace(item, picture=replace(picture, pixels=one), **about)
            for item, picture, one in zip(items, found, restored, strict=True)
        ]

    def _stacked(self, pixels: np.ndarray) -> np.ndarray:
        """N×H×W×C, uint8 or uint16 → the same, restored at once."""
        import torch

        most = np.iinfo(pixels.dtype).max
        floats = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2) / most
        return (self.restorer(floats) * most).round().permute(0, 2, 3, 1).numpy().astype(pixels.dtype)


def _kind(item: Item) -> tuple[Any, ...] | None:
    """What pictures have in common that can be computed at once; None where there is nothing to restore."""
    return None if item.picture is None else (item.picture.pixels.shape, item.picture.pixels.dtype.str)


def write(table: pyarrow.Table, *, results: Store) -> Iterator[pyarrow.Table]:
    """Writes each item's restored picture, whole or not at all."""
    for item in unpacked(table):
        yield packed([_guarded(_write, item, results)])


def _write(item: Item, results: Store) -> Item:
    if item.picture is None:
        return item
    places.write(results, item.target, item.picture)
    lost = losses(item.target, item.picture)
    return replace(item, picture=None, notes=(*item.notes, *lost))


def _guarded(step: Callable[..., Item], item: Item, *more: Any) -> Item:
    """The item after a step; where the step fails, with the reason and without the picture."""
    no_place = False
    try:
        return step(item, *more)
    except MHNetError as error:
        reason, cause = str(error), error.__cause__
        no_place = isinstance(cause, OSError) and cause.errno in _NO_PLACE
    except MemoryError:
        reason = f"{item.source} does not fit in memory: use fewer --workers."
    except Exception as error:  # one file's trouble is not the others'
        reason = f"{item.source} failed ({type(error).__name__}: {places.first_line(error)})."
    return replace(item, picture=None, status="failed", reason=reason, no_place=no_place)
