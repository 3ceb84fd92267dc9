"""The site in build/site: `make docs`, or `python docs/build.py` where `pip install -e '.[docs]'` is done.

Its pages are those of this folder, which read on a forge as well and link to files all over the repository. The site
generator takes pages from one folder only: so they are first laid out in build/pages, with the pictures that they show
and with what they link to, Markdown as further pages, and other text as pages that show it. Nothing is loaded from
elsewhere. Opened from disk all of it works but the search, which needs a server.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from mhnet.cli.main import parser

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = ROOT / "build" / "pages"
MORE = ["Deblurring/README.md", "Deraining/README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md",
        "CODE_OF_CONDUCT.md"]  # fmt: skip
PICTURES = {".png", ".jpg", ".svg"}
LANGUAGES = {".py": "python", ".yml": "yaml", ".m": "matlab", ".css": "css", ".js": "javascript"}
FENCED = re.compile(r"(^ *```.*?^ *```\s*?$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r'(\]\(|src=")([^)"\s#]+)')


def place(source: Path) -> Path:
    """Where a file of the repository lies in the site's folder of pages; this folder's pages lie at its top."""
    inside = source.relative_to(DOCS if source.is_relative_to(DOCS) else ROOT)
    if source.suffix == ".md":
        return inside.with_name("index.md") if source.name == "README.md" else inside
    return inside if source.suffix in PICTURES else Path("files", f"{inside}.md")


def links(source: Path, text: str) -> list[Path]:
    """The repository's files that a page links to, outside its blocks of code.

    Raises:
        FileNotFoundError: a link leads nowhere.
    """
    targets = [match[2] for part in FENCED.split(text)[::2] for match in LINK.finditer(part)]
    return [(source.parent / target).resolve(strict=True) for target in targets if "://" not in target]


def relinked(source: Path, text: str) -> str:
    """The page with its links as they are among the site's pages."""

    def moved(match: re.Match[str]) -> str:
        if "://" in match[2]:
            return match[0]
        target = place((source.parent / match[2]).resolve())
        return match[1] + Path(os.path.relpath(target, place(source).parent)).as_posix()

    parts = FENCED.split(text)
    return "".join(LINK.sub(moved, part) if i % 2 == 0 else part for i, part in enumerate(parts))


def shown(source: Path) -> str:
    """A page that shows a file of text, or the names in a folder."""
    name = source.relative_to(ROOT).as_posix()
    if source.is_dir():
        return f"# {name}\n\n" + "".join(f"* `{path.name}`\n" for path in sorted(source.iterdir()) if path.suffix)
    return f"# {name}\n\n````{LANGUAGES.get(source.suffix, 'text')}\n{source.read_text(encoding='utf-8')}````\n"


def commands(of: argparse.ArgumentParser, depth: int = 1) -> str:
    """The help of a command and of those below it, as a page."""
    title = "Commands" if depth == 1 else of.prog
    page = f"{'#' * min(depth, 3)} {title}\n\n````text\n{of.format_help()}````\n\n"
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            page += "".join(commands(command, depth + 1) for command in action.choices.values())
    return page


def lay_out(folder: Path = PAGES) -> None:
    """Writes every page and picture of the site into the folder, which is made anew.

    Raises:
        FileNotFoundError: a link leads nowhere.
    """
    shutil.rmtree(folder, ignore_errors=True)
    waiting, seen = [*DOCS.rglob("*.md"), *(ROOT / page for page in MORE)], set()
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        target = folder / place(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix in PICTURES:
            shutil.copyfile(source, target)
        elif source.suffix == ".md":
            text = source.read_text(encoding="utf-8")
            target.write_text(relinked(source, text), encoding="utf-8")
            waiting += links(source, text)
        else:
            target.write_text(shown(source), encoding="utf-8")
    shutil.copyfile(DOCS / "site.css", folder / "site.css")
    (folder / "api" / "commands.md").write_text(commands(parser()), encoding="utf-8")


if __name__ == "__main__":
    if find_spec("zensical") is None:
        sys.exit("error: the site needs Python 3.11 or newer and pip install -e '.[docs]'")
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}  # for the commands' help
    lay_out()
    generator = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    sys.exit(subprocess.run(generator, cwd=ROOT).returncode)
