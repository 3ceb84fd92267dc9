"""The command line of the rooms' train.py."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mhnet.cli.gpus import add_gpus, check_gpus, show_gpus
from mhnet.core import allocator
from mhnet.core.errors import exits_cleanly

if TYPE_CHECKING:
    from mhnet.train.job import Recipe


@exits_cleanly
def train_command(
    recipe: "Recipe", room: Path, words: Sequence[str] | None = None, prog: str = "python train.py"
) -> int:
    """Trains by the room's training.yml and `KEY VALUE` pairs over it.

    Args:
        recipe: the parts of the run.
        room: the folder with training.yml.
        words: the command line; None: the program's.
        prog: how it was called.
    """
    parser = argparse.ArgumentParser(
        prog,
        description=f"Train MHNet for {recipe.task.name}.",
        epilog=f"Example: {prog} OPTIM.BATCH_SIZE 8 DATA.TRAIN_DIR /data/pairs",
    )
    parser.add_argument("--config", type=Path, default=room / "training.yml", help="settings (default: %(default)s)")
    add_gpus(parser)
    parser.add_argument("--input", help="folder of degraded images, instead of the settings' TRAIN_DIR")
    parser.add_argument("--target", help="the folder of their clean ones")
    parser.add_argument(
        "--dry-run", action="store_true", help="two steps and a validation: memory and time, and nothing is left behind"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file")
    args = parser.parse_args(words)
    allocator.keep_pages()
    show_gpus(args.gpus)
    from mhnet.train.config import load_config
    from mhnet.train.processes import is_first, told_once
    from mhnet.train.trainer import Stopped, dry_run

    check_gpus(args.gpus)
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
