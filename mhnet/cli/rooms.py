"""The command lines of the rooms' train.py, test.py and evaluate_PSNR_SSIM.py."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mhnet.cli import evaluate
from mhnet.core import allocator
from mhnet.core.errors import MHNetError, exits_cleanly, printable
from mhnet.core.tasks import Task

if TYPE_CHECKING:
    from mhnet.checkpoints.networks import Build
    from mhnet.data.sets import FoundTestSet
    from mhnet.restore.restorer import Restorer
    from mhnet.train.job import Recipe

SHOWN = 5  # failures that are told one by one
TLC = {"off": [False], "on": [True], "both": [False, True]}
TLC_FOLDER = "tlc"


@exits_cleanly
def train_command(
    recipe: "Recipe", room: Path, words: Sequence[str] | None = None, prog: str = "python train.py"
) -> int:
    """Trains by the training.yml of a folder and `KEY VALUE` pairs over it, as the words of a command line say; without
    words, the program's. `prog` is how it was called."""
    parser = argparse.ArgumentParser(
        prog,
        description=f"Train MHNet for {recipe.task.name}.",
        epilog=f"Example: {prog} OPTIM.BATCH_SIZE 8 DATA.TRAIN_DIR /data/pairs",
    )
    parser.add_argument("--config", type=Path, default=room / "training.yml", help="settings (default: %(default)s)")
    _add_gpus(parser)
    parser.add_argument("--input", help="folder of degraded images, instead of the settings' TRAIN_DIR")
    parser.add_argument("--target", help="the folder of their clean ones")
    parser.add_argument(
        "--dry-run", action="store_true", help="two steps and a validation: memory and time, and nothing is left behind"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file")
    args = _begin(parser, words)
    from mhnet.train.config import load_config
    from mhnet.train.processes import is_first, told_once
    from mhnet.train.trainer import Stopped, dry_run

    sides = {"DATA.TRAIN_DIR": args.input, "DATA.TRAIN_TARGET_DIR": args.target}
    named = [word for key, folder in sides.items() if folder for word in (key, folder)]
    with told_once():
        settings = load_config(recipe.task, args.config, [*named, *args.overrides])
    if args.dry_run:
        dry_run(settings, recipe)
        return 0
    status = 0
    try:
        said = f"best weights: {recipe.loop(settings, recipe)}"
    except Stopped as stopped:
        said, status = str(stopped), stopped.exit_status
    if is_first():
        print(said)
    return status


@exits_cleanly
def test_command(
    task: Task,
    room: Path,
    networks: "Mapping[str, Build]",
    words: Sequence[str] | None = None,
    prog: str = "python test.py",
) -> int:
    """Restores test sets, and scores what was written where there are clean images, in a folder with Datasets/,
    checkpoints/ and pretrained_models/. `networks` are what builds each architecture, the rest as of `train_command`.
    """
    parser = argparse.ArgumentParser(
        prog,
        description=f"Restore images with this room's network ({task.name}) and score them.",
        epilog=f"Example: {prog} --tlc both --report scores",
    )
    _add_sets(parser, task, room)
    parser.add_argument(
        "--weights", type=Path, help="a .safetensors or .pth file (default: what was trained here last)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: %(default)s)")
    _add_gpus(parser)
    parser.add_argument(
        "--tlc",
        choices=list(TLC),
        default="off",
        help=f"local statistics at test time; with them, results go to RESULT_DIR/{TLC_FOLDER} "
        "(default: %(default)s, whatever the weights note)",
    )
    parser.add_argument(
        "--no-fuse", action="store_true", help="compute the network as MHNet.py is written, never in its faster form"
    )
    args = _begin(parser, words)
    from mhnet.core.devices import choose_device
    from mhnet.images.read import ImageData, read_rgb
    from mhnet.restore.folders import restore_all
    from mhnet.restore.plan import Job, check_targets

    found, complete = _find_sets(task, args)
    weights = args.weights or default_weights(room)
    originals = [path for one in found for _, *pair in one.files for path in pair if path is not None]
    device, failures = choose_device(args.device), []
    for local in TLC[args.tlc]:
        results = results_in(args.result_dir, local)
        jobs = {
            one.name: [Job(image, results / one.name / f"{name}.png", image.parent) for name, image, _ in one.files]
            for one in found
        }
        check_targets([job for of_set in jobs.values() for job in of_set], originals)
        restorer = make_restorer(weights, networks, task, device, local, not args.no_fuse)
        print(printable(f"restoring with {weights} on {device}{' with local statistics' * local}"), flush=True)
        for name, of_set in jobs.items():
            outcomes = restore_all(of_set, restorer, overwrite=True, title=f"restoring {name}",
                                   read=lambda path, _: ImageData(read_rgb(path)))  # fmt: skip
            failed = [outcome for outcome in outcomes if outcome.status == "failed"]
            for outcome in failed:
                outcome.job.target.unlink(missing_ok=True)  # what an earlier run left is not this run's result
            failures += failed
            done = f"{len(of_set) - len(failed)} of {len(of_set)}" if failed else str(len(of_set))
            print(printable(f"{name}: {done} images in {results / name}"), flush=True)
    for outcome in failures[:SHOWN]:
        print(f"not restored: {printable(outcome.reason)}", file=sys.stderr)
    if len(failures) > SHOWN:
        print(f"not restored: {len(failures) - SHOWN} more", file=sys.stderr)
    return max(int(bool(failures) or not complete), _score(found, TLC[args.tlc], args))


@exits_cleanly
def evaluate_command(task: Task, room: Path, words: Sequence[str] | None = None) -> int:
    """Scores whichever of test.py's results lie in `RESULTS/SET/`."""
    parser = argparse.ArgumentParser(description=f"PSNR and SSIM of restored images ({task.name}).")
    _add_sets(parser, task, room)
    return score_results(task, parser.parse_args(words))


def score_results(task: Task, args: argparse.Namespace) -> int:
    """Scores whichever results there are, with and without local statistics; MHNetError where there are none."""
    found, complete = _find_sets(task, args)
    places = {local: results_in(args.result_dir, local) for local in TLC["both"]}
    there = [local for local, place in places.items() if any((place / one.name).is_dir() for one in found)]
    if not there:
        raise MHNetError(
            f"There are no results in {args.result_dir}: run test.py first, or name them with --result_dir"
        )
    return max(int(not complete), _score(found, there, args))


def _add_gpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpus", help="numbers of the GPUs to show to CUDA, e.g. 0")


def _begin(parser: argparse.ArgumentParser, words: Sequence[str] | None) -> argparse.Namespace:
    """The options, once freed memory is kept and CUDA shows the GPUs of --gpus alone."""
    args = parser.parse_args(words)
    allocator.keep_pages()
    if args.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = args.gpus  # before PyTorch looks for them
    import torch

    if args.gpus and not torch.cuda.is_available():
        raise MHNetError(f"There is no GPU {args.gpus} here: leave out --gpus to compute on the CPU")
    return args


def _add_sets(parser: argparse.ArgumentParser, task: Task, room: Path) -> None:
    """The options of everything that scores: which sets, which results, how."""
    parser.add_argument("--input_dir", type=Path, default=room / "Datasets",
                        help="folder of the test sets, or of one (default: %(default)s)")  # fmt: skip
    names = ", ".join(one.name for one in task.sets)
    parser.add_argument("--dataset", nargs="+", metavar="SET", help=f"such as {names} (default: those that are there)")
    parser.add_argument("--result_dir", type=Path, default=room / "results", help="(default: %(default)s)")
    parser.add_argument("--protocol", help="how to score (default: as papers score the set)")
    parser.add_argument("--score_input", action="store_true", help="score the degraded images too")
    evaluate.add_options(parser)


def _find_sets(task: Task, args: argparse.Namespace) -> "tuple[list[FoundTestSet], bool]":
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


def results_in(folder: Path, local: bool) -> Path:
    """Where the restored sets lie, with or without local statistics."""
    return folder / TLC_FOLDER if local else folder


def _score(found: "Sequence[FoundTestSet]", variants: Sequence[bool], args: argparse.Namespace) -> int:
    """Scores the restored images that have clean ones, as they lie on disk; returns the exit status."""
    from mhnet.data.pairs import Pair
    from mhnet.evaluation.lpips import load_lpips
    from mhnet.evaluation.scoring import DEGRADED, MHNET, evaluate_pairs

    for one in found:
        if all(target is None for _, _, target in one.files):
            print(f"{printable(one.name)}: no clean images, so nothing to score")
    distance, evaluations = load_lpips() if args.lpips else None, []
    methods = [(f"{MHNET} (TLC)" if local else MHNET, results_in(args.result_dir, local)) for local in variants]
    for method, results in [*[(DEGRADED, None)] * args.score_input, *methods]:
        for one in found:
            files = [(name, source, target) for name, source, target in one.files if target is not None]
            if not files:
                continue
            pairs = [
                Pair(results / one.name / f"{name}.png" if results else source, target, name)
                for name, source, target in files
            ]
            evaluation = evaluate_pairs(pairs, one.protocol, name=one.name, processes=args.processes, distance=distance)
            evaluation.method, evaluation.inputs = method, {name: source for name, source, _ in files}
            evaluations.append(evaluation)
    return evaluate.finish(evaluations, args)


def make_restorer(
    weights: Path, networks: "Mapping[str, Build]", task: Task, device: object, local: bool, fuse: bool
) -> "Restorer":
    """A restorer of the room's network in fp32, as scores are compared; what a person should know of it is printed.
    WeightsError where the file cannot be read, or was trained with another edited network than the room's."""
    from mhnet.checkpoints.files import WeightsError, read_checkpoint
    from mhnet.checkpoints.networks import network_of
    from mhnet.checkpoints.source import edited_source
    from mhnet.restore.restorer import Restorer

    checkpoint = read_checkpoint(weights)
    network = network_of(checkpoint, networks[checkpoint.architecture], weights)
    here, trained = edited_source(network), checkpoint.edited
    names = here.names if here else "MHNet.py"
    if trained and trained["sha256"] != (here.sha256 if here else ""):
        raise WeightsError(
            f"{weights} was trained with another {printable(trained['file'])} than the {names} that is here: put back "
            "the one that the run's folder keeps in network/, or use mhnet.load(path, network=…) in a script"
        )
    if here and not trained:
        print(f"warning: {weights} was trained with MHNet as published, and {names} here is edited", file=sys.stderr)
    if checkpoint.task not in (None, task.name):
        print(f"warning: {weights} was trained for {printable(checkpoint.task)}, not for {task.name}", file=sys.stderr)
    patch = checkpoint.local_patch(local)
    restorer = Restorer(network, device, patch, precision="fp32", tile="off", fuse=fuse,  # type: ignore[arg-type]
                        compile="off")  # fmt: skip
    if restorer.as_written:
        print(f"computing {names} as it is written: {restorer.as_written}", flush=True)
    return restorer


def default_weights(room: Path) -> Path:
    """The best weights that were trained in the room last, else the one file in pretrained_models/; MHNetError where
    there is neither, or several files."""
    runs = room / "checkpoints"
    for name in ("model_best.safetensors", "model_latest.safetensors"):
        if trained := sorted(runs.glob(f"*/{name}"), key=lambda path: path.stat().st_mtime):
            return trained[-1]
    folder = room / "pretrained_models"
    found = sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".pth", ".pt"))
    if len(found) == 1:
        return found[0]
    if found:
        raise MHNetError(f"{folder} holds {', '.join(path.name for path in found)}: choose one with --weights.")
    raise MHNetError(f"There are no weights in {runs} or {folder}: run train.py, or name a file with --weights.")
