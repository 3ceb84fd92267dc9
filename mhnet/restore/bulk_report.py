"""What became of very many files, as two tables: Parquet for programs, CSV for people."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import csv, parquet

from mhnet.core.errors import MHNetError, printable
from mhnet.restore import places
from mhnet.restore.bulk_steps import Item
from mhnet.restore.places import Store

SCHEMA = pyarrow.schema({
    "file": pyarrow.string(), "status": pyarrow.string(), "reason": pyarrow.string(), "bytes": pyarrow.int64(),
    "height": pyarrow.int32(), "width": pyarrow.int32(), "seconds": pyarrow.float64(), "tile": pyarrow.string(),
    "result": pyarrow.string(), "notes": pyarrow.string(),
})  # fmt: skip
_AT_A_TIME = 1000  # rows that are held


class Report:
    """Takes items and writes them as rows, `_AT_A_TIME` at a time."""

    def __init__(self, inputs: Store, results: Store, writers: list[Any]):
        self.inputs, self.results, self.writers = inputs, results, writers
        self.rows: list[dict[str, Any]] = []

    def add(self, item: Item) -> None:
        failed = item.status == "failed"
        self.rows.append({
            "file": printable(self.inputs.shown(item.source)), "status": item.status,
            "reason": printable(item.reason) or None, "bytes": item.size or None, "height": item.height or None,
            "width": item.width or None, "seconds": round(item.seconds, 3),
            "tile": f"{item.tile[0]}x{item.tile[1]}" if item.tile else None,
            "result": None if failed else printable(self.results.shown(item.target)),
            "notes": " ".join(item.notes) or None,
        })  # fmt: skip
        if len(self.rows) == _AT_A_TIME:
            self.flush()

    def flush(self) -> None:
        for writer in self.writers:
            writer.write_table(pyarrow.Table.from_pylist(self.rows, SCHEMA))
        self.rows = []


@contextmanager
def reporting(inputs: Store, results: Store, store: Store, path: str) -> Iterator[Report]:
    """A report of items that is put to PATH.parquet and PATH.csv at the end, also where the run is interrupted.

    Raises:
        MHNetError: it cannot be written there.
    """
    with tempfile.TemporaryDirectory() as name:
        tables = {".parquet": Path(name) / "report.parquet", ".csv": Path(name) / "report.csv"}
        try:
            with (
                parquet.ParquetWriter(tables[".parquet"], SCHEMA) as first,
                csv.CSVWriter(tables[".csv"], SCHEMA) as second,
            ):
                report = Report(inputs, results, [first, second])
                try:
                    yield report
                finally:
                    report.flush()
        finally:
            for extension, table in tables.items():
                _put(store, path + extension, table)


def _put(store: Store, path: str, table: Path) -> None:
    try:
        places.put(store, path, table.read_bytes())
    except OSError as error:
        reason = error.strerror or places.first_line(error)
        where = printable(store.shown(path))
        raise MHNetError(f"{where} cannot be written ({reason}): name another with --report.") from error
