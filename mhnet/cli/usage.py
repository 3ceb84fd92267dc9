"""How the commands' help reads: what a command does, then examples, as they are to be typed."""

import argparse
import inspect
import textwrap
from collections.abc import Callable
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs, and leaves those whose lines are indented as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(
            paragraph if "\n  " in paragraph else textwrap.fill(paragraph, width, initial_indent=indent)
            for paragraph in paragraphs
        )


def add_command(commands: Commands, name: str, run: Callable[..., int | None]) -> argparse.ArgumentParser:
    """Adds a command that `run` does and gives the exit status of.

    What it needs is imported there, so that its help is quick. The help is the docstring of `run`: a line for the list
    of commands, what it does, examples as they are to be typed, and what else there is to say, empty lines between.
    """
    summary, description, examples, *more = [*(inspect.getdoc(run) or name).split("\n\n"), "", ""]
    epilog = "\n\n".join(["examples:\n" + textwrap.indent(examples, "  "), *more])
    parser = commands.add_parser(
        name, help=summary, description=" ".join(description.split()), epilog=epilog, formatter_class=HelpFormatter
    )
    parser.set_defaults(run=run)
    return parser
