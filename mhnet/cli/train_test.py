"""The commands `mhnet train` and `mhnet test`: the rooms' scripts, from anywhere."""

import argparse
import importlib
import sys
from pathlib import Path

from mhnet.cli.usage import Commands, add_command
from mhnet.core.errors import MHNetError
from mhnet.core.tasks import TASKS, Task

SETTINGS = "training.yml"
ROOMS = Path(__file__).resolve().parents[2]
"""Where the rooms lie beside the package, in a clone."""


def add_room_commands(commands: Commands) -> None:
    for name, run in (("train", _train), ("test", _test)):
        parser = add_command(commands, name, run)
        parser.add_argument("task", choices=list(TASKS), metavar="TASK", help=" or ".join(TASKS))
        parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="the options of the room's script")


def room_of(task: Task, here: Path) -> Path:
    """The room to work in: the current folder if it is one, that of the task in it, that beside the package, and else
    the current folder."""
    others = {other.folder for other in TASKS.values()} - {task.folder}
    candidates = [here, here / task.folder, here.parent / task.folder, ROOMS / task.folder]
    found = (room for room in candidates if (room / SETTINGS).is_file() and room.name not in others)
    return next(found, here)


def _train(args: argparse.Namespace) -> int:
    """train a network

    Trains MHNet by the settings of TASK's room: training.yml there, or the file after --config. The room is the current
    folder if it holds training.yml, else Deblurring/ or Deraining/ in it, else that of the clone that mhnet was
    installed from. A run that was stopped goes on. Options: mhnet train TASK --help.

    mhnet train deraining
    mhnet train deblurring OPTIM.BATCH_SIZE 8 DATA.TRAIN_DIR /data/GoPro/train
    mhnet train deraining --config mine.yml
    """
    return _run(args)


def _test(args: argparse.Namespace) -> int:
    """restore test sets and score them

    Restores the test sets of TASK's room, which is found as by mhnet train, with the weights trained there or named,
    and scores what was written. Options: mhnet test TASK --help.

    mhnet test deraining
    mhnet test deblurring --weights model_deblurring.pth --input_dir /data/GoPro/test --tlc both
    """
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    task = TASKS[args.task]
    room = room_of(task, Path.cwd())
    # For a folder of settings alone, the scripts are those of the room beside the package.
    scripts = next((folder for folder in (room, ROOMS / task.folder) if (folder / "train.py").is_file()), None)
    if scripts is None:
        raise MHNetError(f"There is no folder {task.folder} with train.py here: clone the repository, and work there")
    sys.path.insert(0, str(scripts))
    script = importlib.import_module(args.command)  # train or test
    return script.main(args.rest, f"mhnet {args.command} {task.name}", room)
