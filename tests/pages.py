"""The project's pages of Markdown, and the commands that they tell people to type."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from small import ROOT

OTHERS = {"out", "data", "build"}  # folders of pages that are not ours to check, like those with a dot


def is_ours(folders: tuple[str, ...]) -> bool:
    return not any(name in OTHERS or name.startswith(".") for name in folders)


PAGES = sorted(path for path in ROOT.rglob("*.md") if is_ours(path.relative_to(ROOT).parts))
FENCE = re.compile(
    r"(?:^ *<!-- (?P<how>not run|dry run): (?P<why>[^>]+?) -->\n)?"
    r"^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```",
    re.MULTILINE | re.DOTALL,
)
PROGRAMS = "mhnet|python|make|pip|pytest|torchrun|accelerate|ray|tensorboard|octave-cli"
INLINE = re.compile(rf"`((?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?:{PROGRAMS}) [^`]+)`")


class Block(NamedTuple):
    """Lines to type.

    Attributes:
        language: sh or python.
        text: the lines, without the indentation of a list.
        how: "run"; "dry run" (trainings take two steps and leave nothing behind) or "not run", where a comment before
            the block, `<!-- not run: REASON -->`, says so.
    """

    language: str
    text: str
    how: str


def blocks(page: Path) -> list[Block]:
    """A page's blocks of shell and of Python."""
    found = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        if match["language"] in ("sh", "python"):
            lines = match["text"].splitlines(keepends=True)
            indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
            text = "".join(line[indent:] if line.strip() else line for line in lines)
            found.append(Block(match["language"], text, match["how"] or "run"))
    return found


def inline_commands(page: Path) -> list[list[str]]:
    """Commands between the words of a page, each as its words."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [words for command in INLINE.findall(text) for words in commands(command.replace("\n", " "))]


def commands(text: str) -> list[list[str]]:
    """The commands of a block of shell, each as its words, without comments.

    Raises:
        ValueError: a quotation does not end.
    """
    found, command = [], ""
    for line in text.replace("\\\n", " ").splitlines(keepends=True):
        command += line
        try:
            words = shlex.split(command, comments=True)
        except ValueError:  # it goes on in the next line
            continue
        found += [words] if words else []
        command = ""
    if command.strip():
        raise ValueError(f"a quotation in {command!r} does not end")
    return found
