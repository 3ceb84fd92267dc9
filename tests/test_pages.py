"""The pages: their links lead somewhere, and their commands are ours and run."""

import ast
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from pages import PAGES, Block, blocks, commands, inline_commands
from sandbox import Outcome, lay_out, python, run
from small import ROOT

from mhnet.cli.main import parser
from mhnet.core.tasks import TASKS
from mhnet.train.config import load_config

ROOMS = {task.folder: task for task in TASKS.values()}
SCRIPTS = {"train.py", "test.py", "evaluate_PSNR_SSIM.py"}
OTHERS = {"octave-cli", "tensorboard", "ray"}  # programs whose arguments are not ours to know


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def parses(words: list[str]) -> bool:
    """Whether `mhnet` takes the words."""
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        try:
            return callable(parser().parse_args(words).run)
        except SystemExit as left:
            return left.code == 0  # --help and the like


def is_mention(words: list[str]) -> bool:
    """Whether the words name a command, with options at most: `mhnet data pack`, `mhnet restore --no-fuse`."""
    options = {word for word in words if word.startswith("--")}
    return parses([*words, "--help"]) and options <= options_in_the_code()


@cache
def options_of(script: str) -> set[str]:
    """The options that a room's script knows, by its help."""
    shown = subprocess.run([sys.executable, ROOT / "Deraining" / script, "--help"], capture_output=True, text=True)
    return set(re.findall(r"--[\w-]+", shown.stdout))


def check_room(script: str, words: list[str], room: Path) -> None:
    """A room's script, called with options and settings that it has."""
    task = ROOMS[room.name]
    assert {word for word in words if word.startswith("--")} <= options_of(script)
    settings = [word for pair in pairwise(words) if re.fullmatch(r"[A-Z]+\.[A-Z0-9_]+", pair[0])
                for word in pair]  # fmt: skip
    if script == "train.py":
        file = words[words.index("--config") + 1] if "--config" in words else "training.yml"
        load_config(task, room / file, settings)


def check_script(words: list[str], here: Path) -> None:
    """`python …`: a room's script, another of ours with options that it has, tests that are there, or code."""
    if words[0] in SCRIPTS:
        check_room(words[0], words[1:], here if here.name in ROOMS else ROOT / "Deraining")
    elif words[:2] == ["-m", "pytest"]:
        check_tests(words[2:])
    elif words[0] == "-m":
        assert words[1] == "mhnet" and (not words[2:] or parses(words[2:]))
    elif words[0] == "-c":
        ast.parse(words[1])
    else:
        text = (ROOT / words[0]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in text for word in words if word.startswith("--"))


def check_tests(words: list[str]) -> None:
    places = [ROOT / word for word in words if "/" in word]
    assert places and all(place.exists() for place in places)
    if "-k" in words:
        text = "".join(place.read_text(encoding="utf-8") for place in places)
        assert re.search(rf"def test_\w*{words[words.index('-k') + 1]}", text)


def check_install(words: list[str]) -> None:
    """`pip install`: a folder that is there, and extras that it has; other packages are others'."""
    assert words[0] in ("install", "uninstall")
    for word in words[1:]:
        found = re.fullmatch(r"(mhnet|\.[./\w-]*)(?:\[([\w,]+)\])?", word)
        if found and not word.startswith("-"):
            folder = ROOT if found[1] in ("mhnet", "..") else ROOT / found[1]
            text = (folder / "pyproject.toml").read_text(encoding="utf-8")
            assert all(
                re.search(rf"^{extra} = \[", text, re.MULTILINE) for extra in (found[2] or "").split(",") if extra
            )


def check(words: list[str], here: Path, whole: bool = True) -> None:
    """That a command is one of ours, with arguments that it has; nothing is run. It may be without those that it needs
    where it need not be whole."""
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    program, rest = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "mhnet":
        assert parses(rest) or (not whole and is_mention(rest))
        if rest[0] in ("train", "test") and rest[1:] and rest[1] in TASKS:
            check_room(f"{rest[0]}.py", rest[2:], ROOT / TASKS[rest[1]].folder)
    elif program in ("torchrun", "accelerate"):
        at = next(i for i, word in enumerate(rest) if word in SCRIPTS)
        check_script(rest[at:], here)
    elif program == "python":
        check_script(rest, here)
    elif program == "pytest":
        check_tests(rest)
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif program == "pip":
        check_install(rest)
    else:
        assert program in OTHERS


@contextmanager
def told(what: str) -> Iterator[None]:
    """Says what was being checked when something went wrong."""
    try:
        yield
    except Exception as error:
        raise AssertionError(what) from error


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_are_ours(page):
    start = page.parent if page.parent.name in ROOMS else ROOT
    lines = [(words, start, False) for words in inline_commands(page)]
    for block in blocks(page):
        here, variables = start, dict[str, list[str]]()
        for words in commands(block.text) if block.language == "sh" else []:
            if words[0] == "cd":
                here = here / words[1]
                assert here.is_dir(), words
            elif len(words) == 1 and re.match(r"\w+=", words[0]):
                name, _, value = words[0].partition("=")
                variables[f"${name}"] = value.split()
            else:
                lines.append(([one for word in words for one in variables.get(word, [word])], here, True))
    for words, here, whole in lines:
        with told(f"{named(page)}: {' '.join(words)}"):
            check(words, here, whole)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_options_that_are_mentioned_exist(page):
    mentioned = set(re.findall(r"`(--[a-z_-]+)", page.read_text(encoding="utf-8")))
    assert mentioned <= options_in_the_code(), mentioned - options_in_the_code()


@cache
def options_in_the_code() -> set[str]:
    files = [path for folder in ("mhnet", "benchmarks", "fig") for path in (ROOT / folder).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    both = {
        f"--no-{name}" for text in texts for name in re.findall(r'"--([a-z_-]+)", action=argparse.BooleanOpt', text)
    }
    return both.union(*(re.findall(r'"(--[a-z_-]+)"', text) for text in texts))


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory) -> Iterator[dict[Path, Future[list[Outcome]]]]:
    """What became of each page's blocks, two pages at a time; every page has a sandbox of its own."""
    folder = tmp_path_factory.mktemp("pages")
    sandbox = lay_out(folder / "laid_out")

    def run_page(page: Path, found: list[Block]) -> list[Outcome]:
        own = folder / named(page).replace("/", "_")
        shutil.copytree(sandbox, own)
        return run(found, own, page, environment)

    with python() as environment, ThreadPoolExecutor(2) as pool:
        asked = [
            item.callspec.params["page"] for item in request.session.items if item.originalname == "test_blocks_run"
        ]
        yield {page: pool.submit(run_page, page, blocks(page)) for page in asked}


@pytest.mark.ci
@pytest.mark.timeout(1800)  # the first waits for all blocks of its page
@pytest.mark.skipif(os.name == "nt" or not shutil.which("bash"), reason="there is no bash here")
@pytest.mark.parametrize("page", [page for page in PAGES if any(b.how != "not run" for b in blocks(page))], ids=named)
def test_blocks_run(page, outcomes):
    for outcome in outcomes[page].result():
        assert outcome.status == 0, f"{outcome.text}\n{outcome.output}"


def test_a_wrong_command_is_told():
    for line in ("mhnet restore photo.jpg --taks derain", "mhnet sing", "python train.py OPTIM.EPOCS 3", "make tea",
                 "python test.py --datasets GoPro", "python absent.py", "pip install '.[tea]'", "curl x"):  # fmt: skip
        with pytest.raises(Exception):  # noqa: B017  (what is raised depends on what is wrong)
            check(commands(line)[0], ROOT / "Deraining")
