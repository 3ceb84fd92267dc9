"""What `mhnet restore --engine ray` does."""

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path

import pyarrow
from ray.exceptions import RayError
from tqdm import tqdm

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.core.errors import MHNetError, printable
from mhnet.restore import bulk, places
from mhnet.restore.bulk_plan import BulkPlan, plan_bulk
from mhnet.restore.bulk_report import reporting
from mhnet.restore.bulk_steps import Item
from mhnet.restore.plan import check_place

TOLD = 20  # failures that are told on the terminal; the report has all


def check_options(args: argparse.Namespace) -> None:
    """Raises MHNetError for options that go with the other engine alone."""
    for name, given in {"--targets": args.targets, "--protocol": args.protocol, "--compare": args.compare}.items():
        if given:
            raise MHNetError(
                f"{name} does not go with --engine ray: use `mhnet evaluate` on the results, or no --engine."
            )
    if args.report and Path(args.report).suffix.lower() in (".html", ".htm"):
        raise MHNetError("--engine ray makes no HTML page: name its tables, as in --report out/report.")


def restore_in_bulk(args: argparse.Namespace, checkpoint: Checkpoint) -> int:
    """Restores what the options name; the exit status."""
    plan = plan_bulk(args.inputs, str(args.out), suffix=args.suffix, extension=args.format and f".{args.format}")
    if plan.results.system is None:
        check_place(Path(plan.folder))
    told = _Told(args, plan)
    there = places.results_there(plan.results, [target for _, target in plan.pairs])
    kept = there if not (args.overwrite or args.check) else set()
    told.kept([pair for pair in plan.pairs if pair[1] in kept])
    work = bulk.planned([pair for pair in plan.pairs if pair[1] not in kept])
    try:
        if len(work):
            _restore(args, checkpoint, plan, work, told)
    except KeyboardInterrupt:
        done = told.counts["restored"] + told.counts["skipped"]
        print(f"interrupted: {done} of {len(plan.pairs)} are done; the same command goes on from here", file=sys.stderr)
        return 130
    told.summary()
    return int(told.counts["failed"] > 0)


def _restore(
    args: argparse.Namespace, checkpoint: Checkpoint, plan: BulkPlan, work: pyarrow.Table, told: "_Told"
) -> None:
    store, report = (plan.results, plan.results.joined(plan.folder, "report"))
    if args.report:
        store, report = places.find(str(args.report))
    told.report = store.shown(report := report.removesuffix(".csv").removesuffix(".parquet")) + ".csv"
    computing = bulk.Computing(checkpoint, args.precision, args.tile, args.tlc, not args.no_fuse)
    bar = tqdm(total=len(work), desc="restoring", unit="image", leave=False, disable=None if told.progress else True)
    with bulk.cluster() as resources:
        share = bulk.shares(resources, args.device, args.workers, args.batch)

        def each(item: Item) -> None:
            bar.update()
            rows.add(item)
            told.tell(item)

        try:
            with bar, reporting(plan.inputs, plan.results, store, report) as rows:
                bulk.restore_bulk(work, computing, share, each, inputs=plan.inputs, results=plan.results,
                                  check=args.check and not args.overwrite)  # fmt: skip
        except RayError as error:
            raise MHNetError(f"Ray stopped: {str(error).strip().splitlines()[-1]}") from error
    places.results_there(plan.results, [os.fsdecode(name.as_py()) for name in work["target"]])  # removes what was left


class _Told:
    """What has been said of a run, in the words that its options ask for."""

    def __init__(self, args: argparse.Namespace, plan: BulkPlan):
        self.plan, self.json, self.quiet, self.out = plan, args.json, args.quiet, str(args.out)
        self.progress = not args.quiet and not args.json
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []
        self.report = ""

    def kept(self, pairs: list[tuple[str, str]]) -> None:
        """Says what was there before."""
        self.counts["skipped"] += len(pairs)
        for source, target in pairs if self.json else ():
            self._line(Item(0, source, target, status="skipped"))

    def tell(self, item: Item) -> None:
        """Says what has become of an item."""
        self.counts[item.status] += 1
        if item.status == "failed" and len(self.failed) < TOLD:
            self.failed.append(item.reason)
        if self.json:
            self._line(item)
        elif not self.quiet:
            for note in item.notes:
                tqdm.write(
                    f"note: {printable(self.plan.inputs.shown(item.source))}: {printable(note)}", file=sys.stderr
                )

    def _line(self, item: Item) -> None:
        failed = item.status == "failed"
        about = {
            "source": self.plan.inputs.shown(item.source),
            "result": None if failed else self.plan.results.shown(item.target),
            "status": item.status,
            "seconds": round(item.seconds, 3),
            "tile": item.tile,
            "reason": item.reason or None,
            "notes": item.notes,
        }
        print(json.dumps(about), flush=True)

    def summary(self) -> None:
        """Says what became of all."""
        counts, more = self.counts, self.counts["failed"] - len(self.failed)
        if self.progress:
            words = f"{printable(self.out)}: {counts['restored']} restored"
            words += (
                f", {counts['skipped']} already there (--overwrite restores them again)" if counts["skipped"] else ""
            )
            words += f", {counts['failed']} failed" if counts["failed"] else ""
            print(words + (f"; each is a row of {printable(self.report)} and .parquet" if self.report else ""))
        for reason in self.failed:
            print(f"failed: {printable(reason)}", file=sys.stderr)
        if more:
            print(f"failed: {more} more, see {printable(self.report)}", file=sys.stderr)
