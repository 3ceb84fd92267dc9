"""What `mhnet restore` says of each file, and of all at the end."""

import argparse
import json
import sys
from collections import Counter

from tqdm import tqdm

from mhnet.core.errors import printable
from mhnet.restore.outcomes import Outcome
from mhnet.restore.plan import Plan
from mhnet.restore.stores import HERE, Store

MOST_FAILURES = 20  # that are told of very many files; the report has all


class OutcomePrinter:
    """Prints outcomes, of files in `inputs` with results in `results`, as the options --quiet, --json and --verbose ask
    for, and counts them."""

    def __init__(self, args: argparse.Namespace, inputs: Store = HERE, results: Store = HERE):
        self.args, self.inputs, self.results = args, inputs, results
        self.progress: bool = not args.quiet and not args.json  # whether there are bars, and a sentence at the end
        self.counts: Counter[str] = Counter()
        self.reasons: list[str] = []
        self.not_tried = ""

    def tell_plan(self, planned: Plan) -> None:
        """Says which results get names of their own, what was found besides, and what cannot be restored."""
        for job in planned.renamed if self.progress else ():
            source, result = (printable(path.name) for path in (job.source, job.target))
            print(f"note: {source} becomes {result}: another result would have the same name", file=sys.stderr)
        if self.args.verbose and self.progress:
            print(f"left out, neither images nor films: {planned.others}", file=sys.stderr)
        for job, reason in planned.refused:
            self.tell(Outcome(job, "failed", reason=reason))

    def tell(self, outcome: Outcome) -> None:
        """Counts an outcome, and says what is to be said of it at once."""
        self.counts[outcome.status] += 1
        if outcome.status == "failed":
            self.reasons.append(outcome.reason)
        elif outcome.status == "not tried":
            self.not_tried = outcome.reason
        source = self.inputs.shown(outcome.job.source)
        if self.args.json:
            result = self.results.shown(outcome.job.target) if outcome.has_result else None
            change = None if outcome.change is None else round(outcome.change.mean, 3)
            about = {"source": source, "result": result, "status": outcome.status, "seconds": round(outcome.seconds, 3),
                     "tile": outcome.tile, "precision": outcome.precision or None, "change": change,
                     "reason": outcome.reason or None, "notes": outcome.notes}  # fmt: skip
            print(json.dumps(about), flush=True)
        elif not self.args.quiet:
            for note in outcome.notes:
                tqdm.write(f"note: {printable(source)}: {printable(note)}", file=sys.stderr)

    def tell_interrupted(self, count: int) -> int:
        """Says how far an interrupted run of so many files came; the exit status."""
        done = self.counts["restored"] + self.counts["skipped"]
        print(f"interrupted: {done} of {count} are done; the same command goes on from here", file=sys.stderr)
        return 130

    def tell_counts(self, report: str = "") -> None:
        """Says how many files were restored, and where a report of them lies."""
        if not self.progress:
            return
        words = f"{printable(self.args.out)}: {self.counts['restored']} restored"
        if self.counts["skipped"]:
            words += f", {self.counts['skipped']} already there (--overwrite restores them again)"
        for status in ("failed", "not tried"):
            words += f", {self.counts[status]} {status}" if self.counts[status] else ""
        print(words + (f"; each is a row of {printable(report)} and .parquet" if report else ""))

    def tell_failures(self, report: str = "") -> int:
        """Says why files failed: of all, or of the first where a report has the rest; the exit status."""
        shown = self.reasons[:MOST_FAILURES] if report else self.reasons
        for reason in shown:
            print(f"failed: {printable(reason)}", file=sys.stderr)
        if more := len(self.reasons) - len(shown):
            print(f"failed: {more} more, see {printable(report)}", file=sys.stderr)
        if count := self.counts["not tried"]:
            print(f"{count} {printable(self.not_tried)}", file=sys.stderr)
        return int(bool(self.reasons))
