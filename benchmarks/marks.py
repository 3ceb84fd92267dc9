"""Where benchmarks write what they measured: between a pair of marks, `<!-- MARK -->` and `<!-- end of MARK -->`."""

import re
from pathlib import Path

from mhnet.core.errors import MHNetError
from mhnet.core.files import write_text


def between(page: Path, mark: str) -> str:
    """What stands between a pair of marks in a page.

    Raises:
        MHNetError: the page has no such marks.
    """
    found = re.search(rf"<!-- {mark} -->\n(.*?)<!-- end of {mark} -->", page.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise MHNetError(f"{page} has no place for {mark}: put '<!-- {mark} -->' and '<!-- end of {mark} -->' there")
    return found[1]


def write_between(page: Path, mark: str, text: str) -> None:
    """Puts text between a pair of marks in a page."""
    old = between(page, mark)
    start, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    whole = page.read_text(encoding="utf-8")
    write_text(page, whole.replace(f"{start}{old}{end}", f"{start}{text}\n{end}"))
