"""The command `mhnet reproduce`: whether all is here to repeat the paper's tables, how, and the tables with ours."""

import argparse
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mhnet.cli import evaluate, rooms
from mhnet.cli.train_test import SETTINGS, room_of
from mhnet.cli.usage import Commands, add_command
from mhnet.core.errors import MHNetError, printable
from mhnet.core.tasks import TASKS, TRAINING_COUNTS, Task

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from mhnet.data.sets import PairSet

TRAINED_ON = {"deblurring": "GoPro", "deraining": "Rain13K"}
COPIES = 7
"""Numbers as large as the weights on disk: the latest save and the one before with Adam's two means, and the best."""
HELD = 4
"""Numbers as large as the weights on a device: weights, gradients, Adam's two means."""


class Finding(NamedTuple):
    """One thing that is needed: what there is, and what to do about it where that does not suffice."""

    name: str
    there: str
    remedy: str = ""


def add_reproduce_command(commands: Commands) -> None:
    reproduce = add_command(commands, "reproduce", _reproduce)
    reproduce.add_argument("--task", choices=list(TASKS), required=True, help=" or ".join(TASKS))
    reproduce.add_argument("--check", action="store_true", help="look at what is here, and print the plan")
    reproduce.add_argument("--gpus", type=int, default=1, metavar="N", help="with --check: how many will train")
    reproduce.add_argument(
        "--step-seconds", type=float, metavar="S", help="with --check: what train.py --dry-run said that a step takes"
    )
    reproduce.add_argument("--input_dir", type=Path, help="folder of the data sets (default: Datasets in the room)")
    reproduce.add_argument("--result_dir", type=Path, help="what test.py wrote (default: results in the room)")
    evaluate.add_options(reproduce)
    reproduce.set_defaults(protocol=None, score_input=False)


def _reproduce(args: argparse.Namespace) -> int:
    """repeat the paper's tables: what it takes, and ours beside the paper's

    With --check: looks whether data, counts, disk and memory suffice to train and test as in the paper, prints the
    commands, and exits with 1 where something is missing. Without: scores what python test.py has restored in the
    task's room, which is found as by mhnet train, beside the paper's figures, each by its protocol.

    mhnet reproduce --task deraining --check
    mhnet reproduce --task deraining --check --gpus 8 --step-seconds 0.4
    mhnet reproduce --task deraining --report scores
    """
    task = TASKS[args.task]
    room = room_of(task, Path.cwd())
    args.input_dir, args.result_dir = args.input_dir or room / "Datasets", args.result_dir or room / "results"
    if not args.check:
        args.dataset = _tested(task, args.result_dir)
        return rooms.score_results(task, args)
    if not (room / SETTINGS).is_file():
        raise MHNetError(f"There is no folder {task.folder} with {SETTINGS} here: clone the repository, and work there")
    from mhnet.data.names import PairError
    from mhnet.data.sets import find_pair_sets
    from mhnet.train.config import load_config

    config = load_config(task, room / SETTINGS)
    if args.gpus < 1 or config.OPTIM.BATCH_SIZE % args.gpus:
        raise MHNetError(f"--gpus {args.gpus} cannot share a batch of {config.OPTIM.BATCH_SIZE} evenly")
    if args.step_seconds is not None and not 0 < args.step_seconds < math.inf:
        raise MHNetError(f"--step-seconds {args.step_seconds} must be the seconds that a step takes, above 0")
    try:
        sets = find_pair_sets(args.input_dir)
    except PairError:
        sets = []  # nothing is there: each set is then told as missing
    findings = [*data_findings(task, sets), *machine_findings(task, sets, room, config, args.gpus)]
    for name, there, remedy in findings:
        print(printable(f"{'missing' if remedy else 'ok':<8}{name:<16}{there}{f': {remedy}' * bool(remedy)}"))
    print("", *map(printable, plan(task, room, config, args)), sep="\n")
    return int(any(finding.remedy for finding in findings))


def data_findings(task: Task, sets: "Sequence[PairSet]") -> Iterator[Finding]:
    """The pairs to train on, and each test set that the paper has figures for."""
    name = TRAINED_ON[task.name]
    training = [one for one in sets if one.split == "train" and one.task in (task.name, None)]
    yield _counted(f"train {name}", training, TRAINING_COUNTS[name])
    for known in task.sets:
        if known.published:
            found = [one for one in sets if one.name == known.name and one.split != "train"]
            yield _counted(known.name, found, known.counts)


def machine_findings(
    task: Task, sets: "Sequence[PairSet]", room: Path, config: "CfgNode", gpus: int
) -> Iterator[Finding]:
    """Disk for saves and results, and memory for a share of a batch."""
    import torch

    from mhnet.core.devices import choose_device
    from mhnet.restore import memory

    parameters, maps = training_bytes(config)
    tested = [one for one in sets if one.split != "train" and task.set_named(one.name)]
    disk = COPIES * parameters + sum(pair.target.stat().st_size for one in tested for pair in one.pairs)
    yield _enough("disk", disk, shutil.disk_usage(room).free, f"make room in {room}")
    device = choose_device("auto")
    seen = torch.cuda.device_count() if device.type == "cuda" else 1
    if seen < gpus:
        yield Finding("GPUs", f"{seen} seen, {gpus} named", "name as many as there are, or start on another machine")
    share, free = config.OPTIM.BATCH_SIZE // gpus, memory.free(device)
    parts = [n for n in range(1, share + 1) if share % n == 0]
    fitting = [n for n in parts if HELD * parameters + maps * share // n <= free]
    remedy = f"add OPTIM.ACCUMULATE {fitting[0]}, for the same batches in parts" if fitting else "take another device"
    yield _enough(f"memory of {device}", HELD * parameters + maps * share, free, remedy)


def training_bytes(config: "CfgNode") -> tuple[int, int]:
    """Bytes of a network's weights, and of the maps that a crop leaves for the backward pass in fp32, counted without
    computing anything."""
    import torch

    from mhnet.models import MHNet, MHNetV4
    from mhnet.train.config import network_arguments

    kind = MHNetV4 if config.MODEL.ARCHITECTURE == "mhnet_v4" else MHNet
    storages: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    with torch.device("meta"):
        network = kind(**network_arguments(config)).train()
        crop = torch.zeros(1, 3, config.DATA.PATCH, config.DATA.PATCH)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = network(crop)
    for parameter in network.parameters():
        storages.pop(parameter.untyped_storage()._cdata, None)
    maps = sum(storage.nbytes() for storage in storages.values())
    del kept
    return sum(parameter.nbytes for parameter in network.parameters()), maps


def steps(task: Task, config: "CfgNode") -> int:
    """Optimiser steps of the whole schedule on the usual download, less the images held out for validation."""
    pairs = max(TRAINING_COUNTS[TRAINED_ON[task.name]]) - config.DATA.VAL_IMAGES
    return config.OPTIM.EPOCHS * (pairs * config.DATA.REPEAT // config.OPTIM.BATCH_SIZE)


def plan(task: Task, room: Path, config: "CfgNode", args: argparse.Namespace) -> list[str]:
    """The commands, in order, each with what it is for."""
    data = args.input_dir.resolve()
    default = data == (room / "Datasets").resolve()
    where = [] if default else ["--input_dir", f"'{data}'"]
    launcher = f"torchrun --nproc_per_node {args.gpus}" if args.gpus > 1 else "python"
    train = f"{launcher} train.py" + ("" if default else f" DATA.TRAIN_DIR '{data}'")
    total = steps(task, config)
    known = f" = {total * args.step_seconds / 3600:,.0f}" if args.step_seconds else ", which the command above measures"
    lines = [
        f"cd {room}",
        f"mhnet data check '{data}'" if not default else "mhnet data check Datasets",
        f"{train} --dry-run",
        f"# {config.OPTIM.EPOCHS:,} epochs, {total:,} steps: hours = {total:,} × seconds of a step / 3600{known}",
        train,
    ]
    for known_set in task.sets:
        if quoted := known_set.published:
            ssim = "" if quoted.ssim is None else f" / {quoted.ssim:.3f}"
            lines += [
                f"# {known_set.name}, {quoted.psnr:.2f}{ssim} in the paper (quoted), by {known_set.protocol}",
                " ".join(["python test.py", "--dataset", known_set.name, *where]),
            ]
    return [*lines, " ".join(["mhnet reproduce --task", task.name, *where])]


def _tested(task: Task, results: Path) -> list[str] | None:
    """The sets that there are results of; the others of the paper's table are told with what makes them."""
    places = [rooms.results_in(results, local) for local in (False, True)]
    there = [one.name for one in task.sets if any((place / one.name).is_dir() for place in places)]
    for one in task.sets if there else ():
        if one.published and one.name not in there:
            print(f"not there yet: {one.name}: python test.py --dataset {one.name}", file=sys.stderr)
    return there or None


def _counted(name: str, sets: "Sequence[PairSet]", counts: Sequence[int]) -> Finding:
    """Pairs of a set beside the numbers that its downloads have."""
    pairs, faults = sum(len(one.pairs) for one in sets), [fault for one in sets for fault in one.faults]
    expected = " or ".join(f"{count:,}" for count in counts)
    if crops := [one for one in sets if one.layout.endswith("crops") or one.layout == "pack"]:
        return Finding(name, f"{pairs:,} pairs, {crops[0].layout}: {expected} whole images make them", "")
    remedy = "" if pairs in counts else "see the room's README, Prepare" if not pairs else "mhnet data check tells more"
    return Finding(name, f"{pairs:,} pairs of {expected}", faults[0] if faults else remedy)


def _enough(name: str, needed: int, free: int, remedy: str) -> Finding:
    there = f"{needed / 2**30:.1f} GiB needed at least, {free / 2**30:.1f} GiB free"
    return Finding(name, there, "" if needed <= free else remedy)
