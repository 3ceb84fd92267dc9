"""How the commands' help reads: what a command does, then examples, as they are to be typed."""

import argparse
import textwrap


class HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs, and leaves those whose lines are indented as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(
            paragraph if "\n  " in paragraph else textwrap.fill(paragraph, width, initial_indent=indent)
            for paragraph in paragraphs
        )


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    """Adds a command.

    Args:
        commands: to which.
        name: of the command.
        summary: a line for the list of commands.
        description: what it does.
        examples: commands, one to a line.
    """
    lines = textwrap.indent(textwrap.dedent(examples).strip("\n"), "  ")
    return commands.add_parser(
        name, help=summary, description=description, epilog=f"examples:\n{lines}", formatter_class=HelpFormatter
    )
