"""What `mhnet restore --engine ray` does, and its report: Parquet for programs, CSV for people."""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import csv, parquet
from ray.exceptions import RayError
from tqdm import tqdm

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.cli.outcomes import OutcomePrinter
from mhnet.core.errors import MHNetError, first_line, printable, sentence
from mhnet.restore import bulk, stores
from mhnet.restore.outcomes import Outcome
from mhnet.restore.plan import Plan, plan
from mhnet.restore.stores import Store

SCHEMA = pyarrow.schema({
    "file": pyarrow.string(), "status": pyarrow.string(), "reason": pyarrow.string(), "bytes": pyarrow.int64(),
    "height": pyarrow.int32(), "width": pyarrow.int32(), "seconds": pyarrow.float64(), "tile": pyarrow.string(),
    "change": pyarrow.float64(),
    "result": pyarrow.string(), "notes": pyarrow.string(),
})  # fmt: skip
_AT_A_TIME = 1000  # rows that are held


def restore_in_bulk(args: argparse.Namespace, checkpoint: Checkpoint, options: dict[str, Any]) -> int:
    """Restores what the options name, computing by those of `Restorer`; the exit status."""
    computing = bulk.Computing(checkpoint, args.tlc, round(args.max_megapixels * 1e6), options)
    names = [name if "://" in name else str(Path(name).absolute()) for name in (*args.inputs, str(args.out))]
    planned = plan(names[:-1], names[-1], suffix=args.suffix, extension=args.format and f".{args.format}")
    printer = OutcomePrinter(args, planned.inputs, planned.results)
    printer.tell_plan(planned)
    there = stores.results_there(planned.results, [job.target for job in planned.jobs])
    kept = there if not (args.overwrite or args.check) else set()
    for job in planned.jobs:
        if job.target in kept:
            printer.tell(Outcome(job, "skipped"))
    work = planned._replace(jobs=[job for job in planned.jobs if job.target not in kept])
    report = ""
    try:
        if work.jobs:
            report = _restore(args, computing, work, printer)
    except KeyboardInterrupt:
        return printer.tell_interrupted(len(planned.jobs))
    printer.tell_counts(report)
    return printer.tell_failures(report)


def _restore(args: argparse.Namespace, computing: bulk.Computing, work: Plan, printer: OutcomePrinter) -> str:
    """Restores files; where their report lies."""
    store, report = stores.find_store(str(args.report)) if args.report else (work.results, work.folder / "report")
    if report.suffix in (".csv", ".parquet"):
        report = report.with_suffix("")
    disabled = None if printer.progress else True
    bar = tqdm(total=len(work.jobs), desc="restoring", unit="image", leave=False, disable=disabled)
    with bulk.cluster() as resources:
        share = bulk.shares(resources, args.device, args.workers, args.batch)

        def each(outcome: Outcome) -> None:
            bar.update()
            add_row(outcome)
            printer.tell(outcome)

        try:
            with bar, _reporting(work, store, report) as add_row:
                bulk.restore_bulk(work, computing, share, each, check=args.check and not args.overwrite)
        except RayError as error:
            raise MHNetError(f"Ray stopped: {sentence(MHNetError(str(error)))}") from error
    stores.results_there(work.results, [job.target for job in work.jobs])  # removes what killed processes left
    return f"{store.shown(report)}.csv"


@contextmanager
def _reporting(plan: Plan, store: Store, path: Path) -> Iterator[Callable[[Outcome], None]]:
    """Takes outcomes, and puts them to PATH.parquet and PATH.csv at the end, also where the run is interrupted;
    MHNetError where these cannot be written."""
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
                    reason, shown = error.strerror or first_line(error), printable(store.shown(place))
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
