"""What every command that scores has in common: its options, and what it prints and writes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mhnet.core.errors import printable

if TYPE_CHECKING:
    from mhnet.evaluation.scoring import Distance, Evaluation


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say how to score and what to write."""
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every image's scores to this file")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="write scores.csv, summary.md, summary.json, summary.tex, and sheets of the ten worst and best images "
        "where the degraded ones are known",
    )
    parser.add_argument("--lpips", action="store_true", help="LPIPS too (pip install 'mhnet[lpips]')")
    parser.add_argument("--processes", type=int, metavar="N", help="how many score at once (default: one per core)")


def distance(args: argparse.Namespace) -> "Distance | None":
    """LPIPS where it is asked for; MHNetError, before anything is scored, where it cannot be computed."""
    if not args.lpips:
        return None
    from mhnet.evaluation.lpips import load_lpips

    return load_lpips()


def finish(evaluations: "Sequence[Evaluation]", args: argparse.Namespace) -> int:
    """Prints the table and the LaTeX rows, warns of what is missing, and writes the files that were asked for.

    Returns:
        The exit status: 1 if an image could not be scored.
    """
    from mhnet.evaluation import tables

    if not evaluations:
        return 0
    print(f"{tables.format_table(evaluations)}\n\n{tables.latex(evaluations)}", flush=True)
    for failure in (failure for one in evaluations for failure in one.failures):
        print(f"not scored: {printable(failure.name)}: {printable(failure.reason)}", file=sys.stderr)
    for doubt in dict.fromkeys(doubt for one in evaluations for doubt in one.doubts):
        print(f"warning: {printable(doubt)}", file=sys.stderr)
    if args.csv:
        tables.to_csv(evaluations, args.csv)
    if args.report:
        tables.write_report(evaluations, args.report)
        print(f"\nreport: {printable(args.report)}")
    return int(any(one.failures for one in evaluations))
