"""The command `mhnet evaluate`; and, for every command that scores, its options and what it prints and writes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mhnet.cli.usage import Commands, add_command
from mhnet.core.errors import MHNetError, printable

if TYPE_CHECKING:
    from mhnet.evaluation.scoring import Evaluation

PROTOCOLS = "rain_y_matlab, gopro_rgb_matlab, rgb_channel_mean, realblur_ecc, y_float"


def add_evaluate_command(commands: Commands) -> None:
    evaluate = add_command(commands, "evaluate", _evaluate)
    evaluate.add_argument("results", type=Path, metavar="RESULTS", help="folder of restored images")
    evaluate.add_argument("targets", type=Path, metavar="TARGETS", help="folder of their clean ones")
    evaluate.add_argument("more", type=Path, nargs="*", metavar="RESULTS TARGETS", help="those of further sets")
    evaluate.add_argument("--protocol", nargs="+", required=True, metavar="NAME", help=f"how to score: {PROTOCOLS}")
    evaluate.add_argument("--set", nargs="+", default=[], metavar="NAME", help="the sets' names (default: by folders)")
    evaluate.add_argument("--inputs", type=Path, nargs="+", default=[], metavar="FOLDER", help="degraded images of "
                          "each set, to be shown in the report")  # fmt: skip
    evaluate.add_argument("--method", default="MHNet", help="who restored the images (default: %(default)s)")
    add_options(evaluate)


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


def _evaluate(args: argparse.Namespace) -> int:
    """score restored images against their targets

    Pairs the images of two folders by name and prints PSNR and SSIM, as a table and as a LaTeX row. Several sets:
    RESULTS TARGETS RESULTS TARGETS and so on; then also their unweighted mean.

    mhnet evaluate results/Rain100L Datasets/test/Rain100L/target --protocol rain_y_matlab
    mhnet evaluate results/GoPro GoPro/test/target --protocol gopro_rgb_matlab --report scores/
    mhnet evaluate results/A clean/A results/B clean/B --protocol rain_y_matlab --csv scores.csv
    """
    from mhnet.evaluation import protocols
    from mhnet.evaluation.lpips import load_lpips
    from mhnet.evaluation.scoring import evaluate_folder

    folders = [args.results, args.targets, *args.more]
    results, targets = folders[::2], folders[1::2]
    if len(results) != len(targets):
        raise MHNetError(f"Folders come in twos, RESULTS TARGETS; {results[-1]} has no folder of targets behind it.")
    for option, given in (("--set", args.set), ("--inputs", args.inputs)):
        if given and len(given) != len(results):
            raise MHNetError(f"{option} has {len(given)} entries for {len(results)} sets; give one for each, or none.")
    names, inputs = args.set or [""] * len(results), args.inputs or [None] * len(results)
    for protocol in args.protocol:
        protocols.get_protocol(protocol)
    options = {"processes": args.processes, "distance": load_lpips() if args.lpips else None}
    evaluations = [
        evaluate_folder(result, target, protocol, name=name, inputs_dir=folder, **options)
        for protocol in args.protocol
        for result, target, name, folder in zip(results, targets, names, inputs, strict=True)
    ]
    for evaluation in evaluations:
        evaluation.method = args.method
    return finish(evaluations, args)


def finish(evaluations: "Sequence[Evaluation]", args: argparse.Namespace) -> int:
    """Prints the table and the LaTeX rows, warns of what is missing, and writes the files that were asked for; the exit
    status, 1 if an image could not be scored."""
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
