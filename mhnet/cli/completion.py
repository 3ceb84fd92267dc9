"""The command `mhnet completion`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mhnet.cli.usage import add_command
from mhnet.core.errors import MHNetError

SHELLS = ("bash", "zsh", "fish")
PATHS = ("inputs", "weights", "rest")  # that are kept as text, because they may also be patterns, names or options


def add_completion_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", whole: Callable[[], argparse.ArgumentParser]
) -> None:
    """Adds it.

    Args:
        whole: makes the parser that is to be completed.
    """
    completion = add_command(
        commands,
        "completion",
        "print what makes a shell complete our commands",
        "Prints a script for the shell, by the library shtab: pip install 'mhnet[completion]'.",
        """
        mhnet completion bash > ~/.local/share/bash-completion/completions/mhnet
        mhnet completion zsh > ~/.zfunc/_mhnet         where fpath holds ~/.zfunc
        mhnet completion fish > ~/.config/fish/completions/mhnet.fish
        """,
    )
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    completion.set_defaults(run=lambda args: _print(args.shell, whole()))


def _print(shell: str, parser: argparse.ArgumentParser) -> int:
    try:
        import shtab
    except ImportError as error:
        raise MHNetError("Completion needs shtab: pip install 'mhnet[completion]'.") from error
    if shell not in shtab.SUPPORTED_SHELLS:
        raise MHNetError(f"This shtab ({shtab.__version__}) does not know {shell}: pip install --upgrade shtab.")
    _complete_files(parser, shtab.FILE)
    print(shtab.complete(parser, shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser, how: Any) -> None:
    """Makes shtab complete paths with the names of files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, how)
        elif action.type is Path or action.dest in PATHS:
            action.complete = how  # type: ignore[attr-defined]
