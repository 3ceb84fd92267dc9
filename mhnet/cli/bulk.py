"""What `mhnet restore --engine ray` does."""

import argparse
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from tqdm import tqdm

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.cli.outcomes import OutcomePrinter
from mhnet.core.errors import MHNetError, sentence
from mhnet.restore import bulk, stores
from mhnet.restore.bulk_report import reporting
from mhnet.restore.outcomes import Outcome
from mhnet.restore.plan import Plan, plan


def restore_in_bulk(args: argparse.Namespace, checkpoint: Checkpoint, options: dict[str, Any]) -> int:
    """Restores what the options name, computing by those of `Restorer`; the exit status."""
    computing = bulk.Computing(checkpoint, args.tlc, round(args.max_megapixels * 1e6), options)
    names = [name if stores.is_address(name) else str(Path(name).absolute()) for name in (*args.inputs, str(args.out))]
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
            with bar, reporting(work, store, report) as add_row:
                bulk.restore_bulk(work, computing, share, each, check=args.check and not args.overwrite)
        except RayError as error:
            raise MHNetError(f"Ray stopped: {sentence(MHNetError(str(error)))}") from error
    stores.results_there(work.results, [job.target for job in work.jobs])  # removes what killed processes left
    return f"{store.shown(report)}.csv"
