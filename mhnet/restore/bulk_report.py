"""What became of very many files, as two tables: Parquet for programs, CSV for people."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import csv, parquet

from mhnet.core.errors import MHNetError, printable
from mhnet.restore import stores
from mhnet.restore.outcomes import Outcome
from mhnet.restore.plan import Plan
from mhnet.restore.stores import Store

SCHEMA = pyarrow.schema({
    "file": pyarrow.string(), "status": pyarrow.string(), "reason": pyarrow.string(), "bytes": pyarrow.int64(),
    "height": pyarrow.int32(), "width": pyarrow.int32(), "seconds": pyarrow.float64(), "tile": pyarrow.string(),
    "change": pyarrow.float64(),
    "result": pyarrow.string(), "notes": pyarrow.string(),
})  # fmt: skip
_AT_A_TIME = 1000  # rows that are held


@contextmanager
def reporting(plan: Plan, store: Store, path: Path) -> Iterator[Callable[[Outcome], None]]:
    """Takes outcomes, and puts them to PATH.parquet and PATH.csv at the end, also where the run is interrupted.

    Raises:
        MHNetError: it cannot be written there.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        tables = [Path(name) / f"report{end}" for end in (".parquet", ".csv")]
        try:
            with parquet.ParquetWriter(tables[0], SCHEMA) as first, csv.CSVWriter(tables[1], SCHEMA) as second:

                def flush() -> None:
                    for writer in (first, second):
                        writer.write_table(pyarrow.Table.from_pylist(rows, SCHEMA))
                    rows.clear()

                def add(outcome: Outcome) -> None:
                    rows.append(_row(outcome, plan))
                    if len(rows) == _AT_A_TIME:
                        flush()

                try:
                    yield add
                finally:
                    flush()
        finally:
            for table in tables:
                place = path.with_name(path.name + table.suffix)
                try:
                    stores.put(store, place, table.read_bytes())
                except OSError as error:
                    reason, shown = error.strerror or stores.first_line(error), printable(store.shown(place))
                    raise MHNetError(f"{shown} cannot be written ({reason}): name another report.") from error


def _row(outcome: Outcome, plan: Plan) -> dict[str, Any]:
    return {
        "file": printable(plan.inputs.shown(outcome.job.source)), "status": outcome.status,
        "reason": printable(outcome.reason) or None, "bytes": outcome.bytes or None,
        "height": outcome.height or None, "width": outcome.width or None, "seconds": round(outcome.seconds, 3),
        "tile": f"{outcome.tile[0]}x{outcome.tile[1]}" if outcome.tile else None,
        "change": outcome.change.mean if outcome.change else None,
        "result": printable(plan.results.shown(outcome.job.target)) if outcome.has_result else None,
        "notes": " ".join(outcome.notes) or None,
    }  # fmt: skip
