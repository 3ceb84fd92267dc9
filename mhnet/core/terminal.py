"""Colours for words on a terminal, where they are wanted."""

import os
from typing import TextIO

CODES = {"red": "31", "green": "32", "yellow": "33", "faint": "2", "bold": "1"}


def paint(text: str, colour: str, stream: TextIO) -> str:
    """The text in a colour of CODES where the stream shows it; else the text.

    NO_COLOR (no-color.org) and a "dumb" terminal switch colours off.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    if os.name == "nt":
        import colorama  # comes with tqdm there

        colorama.just_fix_windows_console()
    return f"\033[{CODES[colour]}m{text}\033[0m"
