"""What the scripts in `Deblurring/` and `Deraining/` share: their command lines."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mhnet import scores
from mhnet.errors import MHNetError, exits_cleanly
from mhnet.tasks import Task

TLC = {"off": [False], "on": [True], "both": [False, True]}
TLC_FOLDER = "tlc"


@dataclass
class FoundSet:
    """A test set on disk: its name, its images with their clean ones where there are any, and how it is scored."""

    name: str
    files: Sequence[tuple[str, Path, Path | None]]
    protocol: str


@exits_cleanly
def train_command(task: Task, room: Path, argv: Sequence[str] | None = None) -> int:
    """`train.py`: trains by the room's training.yml and `KEY VALUE` pairs over it."""
    parser = argparse.ArgumentParser(description=f"Train MHNet for {task.name}.", epilog="Example: python train.py "
                                     "OPTIM.BATCH_SIZE 8 DATA.TRAIN_DIR /data/pairs")  # fmt: skip
    parser.add_argument("--config", type=Path, default=room / "training.yml", help="settings (default: %(default)s)")
    parser.add_argument("--gpus", help="numbers of the GPUs to show to CUDA, e.g. 0")
    parser.add_argument("--input", help="folder of degraded images, instead of the settings' TRAIN_DIR")
    parser.add_argument("--target", help="the folder of their clean ones")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file")
    args = parser.parse_args(argv)
    _show_gpus(args.gpus)
    from mhnet.train.config import load_config
    from mhnet.train.trainer import train

    sides = {"DATA.TRAIN_DIR": args.input, "DATA.TRAIN_TARGET_DIR": args.target}
    named = [word for key, folder in sides.items() if folder for word in (key, folder)]
    best = train(load_config(task, args.config, [*named, *args.overrides]), task)
    print(f"best weights: {best}")
    return 0


@exits_cleanly
def test_command(task: Task, room: Path, argv: Sequence[str] | None = None) -> int:
    """`test.py`: restores test sets, and scores what was written where there are clean images."""
    parser = argparse.ArgumentParser(description=f"Restore images with MHNet ({task.name}) and score them.")
    _add_sets(parser, task, room)
    parser.add_argument("--result_dir", type=Path, default=room / "results", help="(default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="a .safetensors or .pth file (default: the one trained here)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: %(default)s)")
    parser.add_argument("--gpus", help="numbers of the GPUs to show to CUDA, e.g. 0")
    parser.add_argument(
        "--tlc",
        choices=list(TLC),
        default="off",
        help=f"local statistics at test time; with them, results go to RESULT_DIR/{TLC_FOLDER} (default: %(default)s)",
    )
    parser.add_argument("--score_input", action="store_true", help="score the degraded images too")
    scores.add_options(parser)
    args = parser.parse_args(argv)
    _show_gpus(args.gpus)
    from mhnet.devices import choose_device
    from mhnet.restore.folders import restore_files
    from mhnet.restore.restorer import Restorer

    found = find_sets(task, args.input_dir, args.dataset)
    weights = args.weights or default_weights(room)
    device, failures = choose_device(args.device), []
    for local in TLC[args.tlc]:
        restorer = Restorer.from_weights(weights, device, local)
        print(f"restoring with {weights} on {device}{' with local statistics' * local}", flush=True)
        results = _results(args.result_dir, local)
        for one in found:
            files = [(source, results / one.name / f"{name}.png") for name, source, _ in one.files]
            failures += restore_files(restorer, files, one.name)
            print(f"{one.name}: {len(files)} images in {results / one.name}", flush=True)
    for _, reason in failures:
        print(f"not restored: {reason}", file=sys.stderr)
    return max(int(bool(failures)), _score(found, TLC[args.tlc], args))


@exits_cleanly
def evaluate_command(task: Task, room: Path, argv: Sequence[str] | None = None) -> int:
    """`evaluate_PSNR_SSIM.py`: scores restored images that lie in `RESULTS/SET/`."""
    parser = argparse.ArgumentParser(description=f"PSNR and SSIM of restored images ({task.name}).")
    _add_sets(parser, task, room)
    parser.add_argument("--result_dir", type=Path, default=room / "results", help="(default: %(default)s)")
    parser.add_argument("--score_input", action="store_true", help="score the degraded images too")
    scores.add_options(parser)
    args = parser.parse_args(argv)
    found = find_sets(task, args.input_dir, args.dataset)
    # Whichever of test.py's results are there; where none are, that is said of the plain ones.
    there = [local for local in (False, True) if any((_results(args.result_dir, local) / one.name).is_dir()
             for one in found)]  # fmt: skip
    return _score(found, there or [False], args)


def find_sets(task: Task, root: Path, names: Sequence[str] | None) -> list[FoundSet]:
    """The named test sets at or below a folder, or without names the task's sets that are there, or the folder itself.

    Raises:
        MHNetError: a named set, or any image, is missing.
    """
    if not root.is_dir():
        raise MHNetError(f"There is no folder {root}: put the test images there, or name another with --input_dir.")
    if names:
        places = [(name, _place(root, name)) for name in names]
        for name, place in places:
            if place is None:
                raise MHNetError(
                    f"There is no set {name} in {root}: {root / name} and {root / 'test' / name} are no folders."
                )
    else:
        places = [(one.name, _place(root, one.name)) for one in task.sets]
        if not any(place for _, place in places):
            places = [(root.resolve().name, root)]
    return [_open_set(task, name, place) for name, place in places if place]


def default_weights(room: Path) -> Path:
    """What was trained in the room, else the one file in pretrained_models/.

    Raises:
        MHNetError: there is neither, or several files.
    """
    trained = room / "checkpoints" / "mhnet" / "model_best.safetensors"
    if trained.exists():
        return trained
    folder = room / "pretrained_models"
    found = sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".pth", ".pt"))
    if len(found) == 1:
        return found[0]
    if found:
        raise MHNetError(f"{folder} holds {', '.join(path.name for path in found)}: choose one with --weights.")
    raise MHNetError(
        f"There are no weights: {trained} and {folder} are empty; run train.py, or name a file with --weights."
    )


def _add_sets(parser: argparse.ArgumentParser, task: Task, room: Path) -> None:
    parser.add_argument(
        "--input_dir",
        type=Path,
        default=room / "Datasets",
        help="folder of the test sets, or of one (default: %(default)s)",
    )
    names = ", ".join(one.name for one in task.sets)
    parser.add_argument("--dataset", nargs="+", metavar="SET", help=f"such as {names} (default: those that are there)")


def _show_gpus(gpus: str | None) -> None:
    """Limits CUDA to these GPUs; must come before PyTorch looks for them."""
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus


def _place(root: Path, name: str) -> Path | None:
    return next((place for place in (root / name, root / "test" / name) if place.is_dir()), None)


def _open_set(task: Task, name: str, place: Path) -> FoundSet:
    from mhnet import images
    from mhnet.data.pairs import PairError, find_pairs, find_sides

    known = task.set_named(name)
    try:
        find_sides(place)
    except PairError:
        files = [
            (path.relative_to(place).with_suffix("").as_posix(), path, None) for path in images.find_images(place, True)
        ]
    else:
        files = [(pair.name, pair.degraded, pair.target) for pair in find_pairs(place, "test")]
    if not files:
        raise MHNetError(f"There are no images in {place}: put them there, or name another folder with --input_dir.")
    if known and len(files) not in known.counts:
        expected = " or ".join(map(str, known.counts))
        print(f"warning: {place} holds {len(files)} images, the set {known.name} has {expected}", file=sys.stderr)
    return FoundSet(name, files, known.protocol if known else task.protocol)


def _results(folder: Path, local: bool) -> Path:
    """Where the restored sets lie, with or without local statistics."""
    return folder / TLC_FOLDER if local else folder


def _score(found: Sequence[FoundSet], variants: Sequence[bool], args: argparse.Namespace) -> int:
    """Scores the restored images that have clean ones, as they lie on disk; returns the exit status."""
    from mhnet.data.pairs import Pair
    from mhnet.evaluate import DEGRADED, MHNET, evaluate_pairs

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
