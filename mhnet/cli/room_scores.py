"""What the rooms' test.py and evaluate_PSNR_SSIM.py share: which sets, which results, and scoring them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mhnet.cli import scores
from mhnet.core.errors import printable
from mhnet.core.tasks import Task

if TYPE_CHECKING:
    from mhnet.data.sets import FoundTestSet

TLC_FOLDER = "tlc"


def add_sets(parser: argparse.ArgumentParser, task: Task, room: Path) -> None:
    """The options of everything that scores: which sets, which results, how."""
    parser.add_argument(
        "--input_dir",
        type=Path,
        default=room / "Datasets",
        help="folder of the test sets, or of one (default: %(default)s)",
    )
    names = ", ".join(one.name for one in task.sets)
    parser.add_argument("--dataset", nargs="+", metavar="SET", help=f"such as {names} (default: those that are there)")
    parser.add_argument("--result_dir", type=Path, default=room / "results", help="(default: %(default)s)")
    parser.add_argument("--protocol", help="how to score (default: as papers score the set)")
    parser.add_argument("--score_input", action="store_true", help="score the degraded images too")
    scores.add_options(parser)


def find_sets(task: Task, args: argparse.Namespace) -> "tuple[list[FoundTestSet], bool]":
    """The test sets that the command names, with the protocol it names, and whether all of them are there; those that
    are not are told."""
    from mhnet.data.sets import find_test_sets
    from mhnet.evaluation.protocols import get_protocol

    found, missing = find_test_sets(task, args.input_dir, args.dataset, args.result_dir)
    for sentence in missing:
        print(f"left out: {printable(sentence)}", file=sys.stderr)
    for one in found:
        if args.protocol:
            one.protocol = get_protocol(args.protocol).name
    return found, not missing


def originals(found: "Sequence[FoundTestSet]") -> list[Path]:
    return [path for one in found for _, *pair in one.files for path in pair if path is not None]


def results_in(folder: Path, local: bool) -> Path:
    """Where the restored sets lie, with or without local statistics."""
    return folder / TLC_FOLDER if local else folder


def score(found: "Sequence[FoundTestSet]", variants: Sequence[bool], args: argparse.Namespace) -> int:
    """Scores the restored images that have clean ones, as they lie on disk; returns the exit status."""
    from mhnet.data.pairs import Pair
    from mhnet.evaluation.scoring import DEGRADED, MHNET, evaluate_pairs

    for one in found:
        if all(target is None for _, _, target in one.files):
            print(f"{printable(one.name)}: no clean images, so nothing to score")
    distance, evaluations = scores.distance(args), []
    methods = [(f"{MHNET} (TLC)" if local else MHNET, results_in(args.result_dir, local)) for local in variants]
    for method, results in [*[(DEGRADED, Path())] * args.score_input, *methods]:
        for one in found:
            files = [(name, source, target) for name, source, target in one.files if target is not None]
            if not files:
                continue
            pairs = [
                Pair(source if method == DEGRADED else results / one.name / f"{name}.png", target, name)
                for name, source, target in files
            ]
            evaluation = evaluate_pairs(pairs, one.protocol, name=one.name, processes=args.processes, distance=distance)
            evaluation.method, evaluation.inputs = method, {name: source for name, source, _ in files}
            evaluations.append(evaluation)
    return scores.finish(evaluations, args)
