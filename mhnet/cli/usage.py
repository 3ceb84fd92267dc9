"""How the commands' help reads: what a command does, then examples, as they are to be typed."""

import argparse
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


def add_command(
    commands: Commands,
    name: str,
    summary: str,
    description: str,
    examples: str,
    run: Callable[[argparse.Namespace], int] | None = None,
) -> argparse.ArgumentParser:
    """Adds a command.

    Args:
        summary: a line for the list of commands.
        examples: commands, one to a line; further paragraphs may follow.
        run: does it and gives the exit status. What it needs is imported there, so that help comes quickly.
    """
    lines, _, more = textwrap.dedent(examples).strip("\n").partition("\n\n")
    epilog = f"examples:\n{textwrap.indent(lines, '  ')}" + (f"\n\n{more}" if more else "")
    parser = commands.add_parser(
        name, help=summary, description=description, epilog=epilog, formatter_class=HelpFormatter
    )
    parser.set_defaults(run=run)
    return parser
