"""The docs site: built with warnings as errors, every link leads somewhere, and nothing comes from elsewhere."""

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from small import ROOT
from tools import require

DOCS = ROOT / "docs"
SITE = ROOT / "build" / "site"
LOADING = {"script", "link", "img", "iframe", "source", "video", "audio", "object", "embed"}


def load_build():
    spec = importlib.util.spec_from_file_location("build", DOCS / "build.py")
    assert spec and spec.loader
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


build = load_build()


class Page(HTMLParser):
    """What a page names: the addresses in it, with the element, and the places to jump to."""

    def __init__(self, path: Path):
        super().__init__()
        self.addresses: list[tuple[str, str]] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if value and key in ("href", "src", "data", "poster"):
                self.addresses.append((tag, value))
            elif value and key == "srcset":
                self.addresses += [(tag, one.split()[0]) for one in value.split(",")]
            elif value and key == "id":
                self.places.add(value)


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    """The built site's pages."""
    if sys.version_info < (3, 11):
        pytest.skip("what builds the site needs Python 3.11")
    require("zensical", "docs")
    done = subprocess.run([sys.executable, DOCS / "build.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: Page(path) for path in SITE.rglob("*.html")}


def test_every_link_of_the_site_leads_somewhere(site):
    lost = []
    for path, page in site.items():
        if path.name == "404.html":  # is shown at any address, and starts at the site's top
            continue
        for _, address in page.addresses:
            if re.match(r"[a-z]+:|//", address):
                continue
            name, _, place = unquote(address).partition("#")
            target = (path.parent / name).resolve() if name else path
            if not target.is_file() or (place and target in site and place not in site[target].places):
                lost.append((path.relative_to(SITE).as_posix(), address))
    assert not lost


def test_the_site_loads_nothing_from_elsewhere(site):
    for path, page in site.items():
        loaded = [address for tag, address in page.addresses if tag in LOADING]
        assert loaded
        assert not [address for address in loaded if re.match(r"[a-z]+:|//", address)], path
    for path in SITE.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"@import[^;]*//|url\(\s*[\"']?(?!data:)(?:[a-z]+:)?//[^)]*", text), path


def test_every_page_of_docs_is_reached_from_the_navigation(site):
    reached = {(SITE / address).resolve() for _, address in site[SITE / "index.html"].addresses}
    pages = {SITE / build.place(path).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert not pages - reached, "name these pages in zensical.toml"


def test_the_api_pages_show_the_docstrings(site):
    text = (SITE / "api" / "models.html").read_text(encoding="utf-8")
    assert {"mhnet.models.MHNet", "mhnet.checkpoints.networks.load"} <= site[SITE / "api" / "models.html"].places
    assert "channels w of the context stage at full size" in text and ":::" not in text
    assert "usage: mhnet data pack" in (SITE / "api" / "commands.html").read_text(encoding="utf-8")


def test_the_tree_in_design_names_every_file():
    tree = re.search(r"<!-- tree -->\n```\n(.*?)```", (DOCS / "design.md").read_text(encoding="utf-8"), re.DOTALL)
    assert tree
    named, folders = set(), list[str]()
    for indent, name, what in re.findall(r"^( *)(\S+)(.*)$", tree[1], re.MULTILINE):
        folders[len(indent) // 2 :] = [name]
        assert what.strip() or name == "pytorch-gradual-warmup-lr/", f"say what {name} is"
        named.add("".join(folders))
    places = {name.split("/")[0] for name in named}
    files = [path.relative_to(ROOT) for place in places for path in (ROOT / place).rglob("*.py")]
    files = [path for path in files if "build" not in path.parts]  # what installing the scheduler leaves
    there = {path.as_posix() for path in files if path.name[0] != "_" and "tests" not in path.parts}
    there |= {f"{folder.as_posix()}/" for path in files for folder in path.parents[:-1] if "tests" not in path.parts}
    assert named == there, "write the tree in docs/design.md anew"


def test_links_are_moved_with_their_pages():
    page, text = (
        DOCS / "api" / "train.md",
        "[a](../training.md#x) [b](../../Deblurring/training.yml) [c](https://d.org)",
    )
    moved = "[a](../training.md#x) [b](../files/Deblurring/training.yml.md) [c](https://d.org)"
    assert build.relinked(page, text) == moved
    code = "```python\nnetworks[0](../training.md)\n```\n"
    assert build.relinked(page, code) == code and build.links(page, code) == []
    assert build.links(page, text) == [DOCS / "training.md", ROOT / "Deblurring" / "training.yml"]
    assert build.relinked(DOCS / "index.md", '<img src="../fig/demo.jpg">') == '<img src="fig/demo.jpg">'
    with pytest.raises(FileNotFoundError):
        build.links(page, "[gone](gone.md)")
