"""What the scripts in `Deblurring/` and `Deraining/` share: their command lines."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mhnet.cli import scores
from mhnet.core import allocator
from mhnet.core.errors import MHNetError, ToldElsewhere, exits_cleanly, printable
from mhnet.core.tasks import Task

if TYPE_CHECKING:
    from mhnet.data.sets import FoundTestSet

SHOWN = 5  # failures that are told one by one
TLC = {"off": [False], "on": [True], "both": [False, True]}
TLC_FOLDER = "tlc"


@exits_cleanly
def train_command(task: Task, room: Path, argv: Sequence[str] | None = None, prog: str = "python train.py") -> int:
    """`train.py`: trains by the room's training.yml and `KEY VALUE` pairs over it. `prog` is how it was called."""
    parser = argparse.ArgumentParser(prog, description=f"Train MHNet for {task.name}.", epilog=f"Example: {prog} "
                                     "OPTIM.BATCH_SIZE 8 DATA.TRAIN_DIR /data/pairs")  # fmt: skip
    parser.add_argument("--config", type=Path, default=room / "training.yml", help="settings (default: %(default)s)")
    parser.add_argument("--gpus", help="numbers of the GPUs to show to CUDA, e.g. 0")
    parser.add_argument("--input", help="folder of degraded images, instead of the settings' TRAIN_DIR")
    parser.add_argument("--target", help="the folder of their clean ones")
    parser.add_argument(
        "--dry-run", action="store_true", help="two steps and a validation: memory and time, and nothing is left behind"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file")
    args = parser.parse_args(argv)
    allocator.keep_pages()
    _show_gpus(args.gpus)
    from mhnet.train.config import ConfigError, load_config
    from mhnet.train.dry_run import dry_run
    from mhnet.train.stop import Stopped
    from mhnet.train.trainer import train

    _check_gpus(args.gpus)
    sides = {"DATA.TRAIN_DIR": args.input, "DATA.TRAIN_TARGET_DIR": args.target}
    named = [word for key, folder in sides.items() if folder for word in (key, folder)]
    try:
        config = load_config(task, args.config, [*named, *args.overrides])
    except ConfigError as error:
        raise error if int(os.environ.get("LOCAL_RANK", 0)) == 0 else ToldElsewhere(str(error)) from error
    if args.dry_run:
        dry_run(config, task)
        return 0
    first, status = int(os.environ.get("RANK", 0)) == 0, 0
    try:
        said = f"best weights: {train(config, task)}"
    except Stopped as stopped:
        said, status = str(stopped), stopped.exit_status
    if first:
        print(said)
    return status


@exits_cleanly
def test_command(task: Task, room: Path, argv: Sequence[str] | None = None, prog: str = "python test.py") -> int:
    """`test.py`: restores test sets, and scores what was written where there are clean images. `prog` is how it was
    called."""
    parser = argparse.ArgumentParser(prog, description=f"Restore images with MHNet ({task.name}) and score them.",
                                     epilog=f"Example: {prog} --tlc both --report scores")  # fmt: skip
    _add_scoring(parser, task, room)
    parser.add_argument("--weights", type=Path, help="a .safetensors or .pth file (default: the one trained here)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: %(default)s)")
    parser.add_argument("--gpus", help="numbers of the GPUs to show to CUDA, e.g. 0")
    parser.add_argument(
        "--tlc",
        choices=list(TLC),
        default="off",
        help=f"local statistics at test time; with them, results go to RESULT_DIR/{TLC_FOLDER} (default: %(default)s, "
        "whatever the weights note)",
    )
    args = parser.parse_args(argv)
    allocator.keep_pages()
    _show_gpus(args.gpus)
    from mhnet.core.devices import choose_device
    from mhnet.restore.folders import check_targets, restore_files
    from mhnet.restore.restorer import Restorer

    found = _sets(task, args)
    weights = args.weights or default_weights(room)
    _check_gpus(args.gpus)
    device, failures = choose_device(args.device), []
    for local in TLC[args.tlc]:
        results = _results(args.result_dir, local)
        jobs = {
            one.name: [(image, results / one.name / f"{name}.png") for name, image, _ in one.files] for one in found
        }
        check_targets([target for files in jobs.values() for _, target in files], _originals(found))
        restorer = Restorer.from_weights(weights, device, local, precision="fp32", tile="off")  # as scores are compared
        if restorer.task not in (None, task.name):
            print(
                printable(f"warning: {weights} was trained for {restorer.task}, not for {task.name}"), file=sys.stderr
            )
        print(printable(f"restoring with {weights} on {device}{' with local statistics' * local}"), flush=True)
        for name, files in jobs.items():
            failed = restore_files(restorer, files, name)
            failures += failed
            done = f"{len(files) - len(failed)} of {len(files)}" if failed else str(len(files))
            print(printable(f"{name}: {done} images in {results / name}"), flush=True)
    for _, reason in failures[:SHOWN]:
        print(f"not restored: {printable(reason)}", file=sys.stderr)
    if len(failures) > SHOWN:
        print(f"not restored: {len(failures) - SHOWN} more", file=sys.stderr)
    return max(int(bool(failures)), _score(found, TLC[args.tlc], args))


@exits_cleanly
def evaluate_command(task: Task, room: Path, argv: Sequence[str] | None = None) -> int:
    """`evaluate_PSNR_SSIM.py`: scores restored images that lie in `RESULTS/SET/`."""
    parser = argparse.ArgumentParser(description=f"PSNR and SSIM of restored images ({task.name}).")
    _add_scoring(parser, task, room)
    args = parser.parse_args(argv)
    found = _sets(task, args)
    # Whichever of test.py's results are there.
    there = [local for local in (False, True) if any((_results(args.result_dir, local) / one.name).is_dir()
             for one in found)]  # fmt: skip
    if not there:
        raise MHNetError(
            f"There are no results in {args.result_dir}: run test.py first, or name them with --result_dir"
        )
    return _score(found, there, args)


def default_weights(room: Path) -> Path:
    """What was trained in the room, else the one file in pretrained_models/.

    Raises:
        MHNetError: there is neither, or several files.
    """
    trained = room / "checkpoints" / "mhnet"
    for name in ("model_best.safetensors", "model_latest.safetensors"):
        if (trained / name).exists():
            return trained / name
    folder = room / "pretrained_models"
    found = sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".pth", ".pt"))
    if len(found) == 1:
        return found[0]
    if found:
        raise MHNetError(f"{folder} holds {', '.join(path.name for path in found)}: choose one with --weights.")
    raise MHNetError(f"There are no weights in {trained} or {folder}: run train.py, or name a file with --weights.")


def _add_scoring(parser: argparse.ArgumentParser, task: Task, room: Path) -> None:
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


def _show_gpus(gpus: str | None) -> None:
    """Limits CUDA to these GPUs; must come before PyTorch looks for them."""
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus


def _check_gpus(gpus: str | None) -> None:
    """A GPU that was asked for by number must be there."""
    import torch

    if gpus and not torch.cuda.is_available():
        raise MHNetError(f"There is no GPU {gpus} here: leave out --gpus to compute on the CPU")


def _sets(task: Task, args: argparse.Namespace) -> "list[FoundTestSet]":
    """The test sets that the command names, with the protocol it names."""
    from mhnet.data.sets import find_test_sets
    from mhnet.evaluation.protocols import get_protocol

    found, missing = find_test_sets(task, args.input_dir, args.dataset, args.result_dir)
    if missing:
        raise MHNetError("; ".join(missing))
    for one in found:
        if args.protocol:
            one.protocol = get_protocol(args.protocol).name
    return found


def _tell(found: "Sequence[FoundTestSet]") -> None:
    """What the user should know of the sets before believing a score."""
    for one in found:
        if one.warning:
            print(f"warning: {printable(one.warning)}", file=sys.stderr)
        if all(target is None for _, _, target in one.files):
            print(f"{printable(one.name)}: no clean images, so nothing to score")


def _originals(found: "Sequence[FoundTestSet]") -> list[Path]:
    return [path for one in found for _, *pair in one.files for path in pair if path is not None]


def _results(folder: Path, local: bool) -> Path:
    """Where the restored sets lie, with or without local statistics."""
    return folder / TLC_FOLDER if local else folder


def _score(found: "Sequence[FoundTestSet]", variants: Sequence[bool], args: argparse.Namespace) -> int:
    """Scores the restored images that have clean ones, as they lie on disk; returns the exit status."""
    from mhnet.data.pairs import Pair
    from mhnet.evaluation.scoring import DEGRADED, MHNET, evaluate_pairs

    _tell(found)
    distance, evaluations = scores.distance(args), []
    methods = [(f"{MHNET} (TLC)" if local else MHNET, _results(args.result_dir, local)) for local in variants]
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
    return scores.finish(evaluations, args, counts_told=True)
