"""The command `mhnet`, and `mhnet completion`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mhnet.cli.app import add_app_command
from mhnet.cli.data import add_data_commands
from mhnet.cli.doctor import add_doctor_command
from mhnet.cli.evaluate import add_evaluate_command
from mhnet.cli.reproduce import add_reproduce_command
from mhnet.cli.restore import add_restore_command
from mhnet.cli.train_test import add_room_commands
from mhnet.cli.usage import HelpFormatter, add_command
from mhnet.cli.weights import add_weights_commands
from mhnet.core import allocator
from mhnet.core.chatter import part_errors
from mhnet.core.errors import MHNetError, exits_cleanly
from mhnet.core.version import __version__

SHELLS = ("bash", "zsh", "fish")
PATHS = ("inputs", "weights", "rest")  # that are kept as text, because they may also be patterns, names or options
EPILOG = """\
examples:
  mhnet restore photo.jpg -o restored.jpg --task derain
  mhnet train deraining
  mhnet evaluate results/ clean/ --protocol rain_y_matlab
  mhnet doctor

exit status:
  0    all is done
  1    something was refused or failed; a sentence on standard error says what, and the way out
  2    wrong usage
  130  interrupted by Ctrl-C
  141  whoever read the output has left, as in mhnet ... | head

environment:
  NO_COLOR=1 switches colours off; they are on terminals only
  CUDA_VISIBLE_DEVICES=1 shows one GPU only
  MHNET_KEEP_PAGES=0 leaves freed memory to glibc; else it is kept, which is faster
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="mhnet",
        description="MHNet: image deblurring and deraining. Each command has its own --help, with examples.",
        epilog=EPILOG,
        formatter_class=HelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mhnet {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_restore_command(commands)
    add_app_command(commands)
    add_room_commands(commands)
    add_evaluate_command(commands)
    add_data_commands(commands)
    add_weights_commands(commands)
    add_reproduce_command(commands)
    add_doctor_command(commands)
    completion = add_command(commands, "completion", _complete)
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    return top


def _complete(args: argparse.Namespace) -> int:
    """print what makes a shell complete our commands

    Prints a script for the shell, by the library shtab: pip install 'mhnet[completion]'.

    mhnet completion bash > ~/.local/share/bash-completion/completions/mhnet
    mhnet completion zsh > ~/.zfunc/_mhnet         where fpath holds ~/.zfunc
    mhnet completion fish > ~/.config/fish/completions/mhnet.fish
    """
    try:
        import shtab
    except ImportError as error:
        raise MHNetError("Completion needs shtab: pip install 'mhnet[completion]'.") from error
    if args.shell not in shtab.SUPPORTED_SHELLS:
        raise MHNetError(f"This shtab ({shtab.__version__}) does not know {args.shell}: pip install --upgrade shtab.")
    whole = parser()
    _complete_files(whole, shtab.FILE)
    print(shtab.complete(whole, args.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser, how: Any) -> None:
    """Makes shtab complete paths with the names of files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, how)
        elif action.type is Path or action.dest in PATHS:
            action.complete = how  # type: ignore[attr-defined]


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status, which EPILOG lists."""
    part_errors()
    allocator.keep_pages()
    args = parser().parse_args(argv)
    return args.run(args)
