"""The command line of the rooms' test.py."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mhnet.cli import room_scores
from mhnet.cli.gpus import add_gpus, check_gpus, show_gpus
from mhnet.core import allocator
from mhnet.core.errors import MHNetError, exits_cleanly, printable
from mhnet.core.tasks import Task

if TYPE_CHECKING:
    from mhnet.checkpoints.networks import Build
    from mhnet.restore.restorer import Restorer

SHOWN = 5  # failures that are told one by one
TLC = {"off": [False], "on": [True], "both": [False, True]}


@exits_cleanly
def test_command(
    task: Task,
    room: Path,
    networks: "Mapping[str, Build]",
    words: Sequence[str] | None = None,
    prog: str = "python test.py",
) -> int:
    """Restores test sets, and scores what was written where there are clean images.

    Args:
        task: what the room is for.
        room: the folder with Datasets/, checkpoints/ and pretrained_models/.
        networks: what builds each architecture.
        words: the command line; None: the program's.
        prog: how it was called.
    """
    parser = argparse.ArgumentParser(
        prog,
        description=f"Restore images with this room's network ({task.name}) and score them.",
        epilog=f"Example: {prog} --tlc both --report scores",
    )
    room_scores.add_sets(parser, task, room)
    parser.add_argument(
        "--weights", type=Path, help="a .safetensors or .pth file (default: what was trained here last)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: %(default)s)")
    add_gpus(parser)
    parser.add_argument(
        "--tlc",
        choices=list(TLC),
        default="off",
        help=f"local statistics at test time; with them, results go to RESULT_DIR/{room_scores.TLC_FOLDER} "
        "(default: %(default)s, whatever the weights note)",
    )
    parser.add_argument(
        "--no-fuse", action="store_true", help="compute the network as MHNet.py is written, never in its faster form"
    )
    args = parser.parse_args(words)
    allocator.keep_pages()
    show_gpus(args.gpus)
    from mhnet.core.devices import choose_device
    from mhnet.images.read import ImageData, read_rgb
    from mhnet.restore.folders import restore_all
    from mhnet.restore.plan import Job, check_targets

    found, complete = room_scores.find_sets(task, args)
    weights = args.weights or default_weights(room)
    check_gpus(args.gpus)
    device, failures = choose_device(args.device), []
    for local in TLC[args.tlc]:
        results = room_scores.results_in(args.result_dir, local)
        jobs = {
            one.name: [Job(image, results / one.name / f"{name}.png", image.parent) for name, image, _ in one.files]
            for one in found
        }
        check_targets([job for of_set in jobs.values() for job in of_set], room_scores.originals(found))
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
    return max(int(bool(failures) or not complete), room_scores.score(found, TLC[args.tlc], args))


def make_restorer(
    weights: Path, networks: "Mapping[str, Build]", task: Task, device: object, local: bool, fuse: bool
) -> "Restorer":
    """A restorer of the room's network in fp32, as scores are compared; what a person should know of it is printed.

    Raises:
        WeightsError: the file cannot be read, or it was trained with another edited network than the room's.
    """
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
    restorer = Restorer(network, device, patch, precision="fp32", tile="off", fuse=fuse)  # type: ignore[arg-type]
    if restorer.as_written:
        print(f"computing {names} as it is written: {restorer.as_written}", flush=True)
    return restorer


def default_weights(room: Path) -> Path:
    """The best weights that were trained in the room last, else the one file in pretrained_models/.

    Raises:
        MHNetError: there is neither, or several files.
    """
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
