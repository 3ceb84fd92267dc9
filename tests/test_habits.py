"""What stands around the code: workflows, forms, versions and dates, the rings of tests."""

import inspect
import pkgutil
import re
import subprocess
import sys

import pytest
import yaml
from packaging.requirements import Requirement
from rings import CHECK
from small import ROOT
from tools import require

import mhnet

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


API = re.findall(r"^::: ([\w.]+)", "".join(path.read_text("utf-8") for path in ROOT.glob("docs/api/*.md")), re.M)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def listed(name: str) -> list[str]:
    """The requirements of a list in pyproject.toml."""
    found = re.search(rf"^{name} = \[(.*?)\]$", text("pyproject.toml"), re.MULTILINE | re.DOTALL)
    assert found
    return re.findall(r'"([^"]+)"', re.sub(r"#.*", "", found[1]))


def test_the_version_is_cited_and_dated():
    cited = yaml.safe_load(text("CITATION.cff"))["version"]
    assert ".dev" in mhnet.__version__ or mhnet.__version__ == cited
    assert re.search(rf"^## {re.escape(cited)} \(\d{{4}}-\d\d-\d\d\)$", text("CHANGELOG.md"), re.MULTILINE)


def test_every_part_of_the_changelog_is_one_of_three():
    parts = re.findall(r"^### (.+)$", text("CHANGELOG.md"), re.MULTILINE)
    assert set(parts) <= {"Added", "Changed", "Fixed"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_little_and_run_what_is_there(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert "uses" not in step or re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"]), step
            for word in re.findall(r"(?<=make )[\w./ -]+", step.get("run", "")):
                assert all(
                    re.search(rf"^[^\n#=]*{re.escape(one)}\b[^\n]*:", text("Makefile"), re.M) for one in word.split()
                )
            for script in re.findall(r"^\.ci/\w+", step.get("run", ""), re.MULTILINE):
                assert (ROOT / script).stat().st_mode & 0o111 or sys.platform == "win32"


@pytest.mark.parametrize("path", [path for path in FORMS if path.name != "config.yml"], ids=lambda path: path.name)
def test_forms_ask_for_what_doctor_says(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"] and form["description"]
    fields = [one for one in form["body"] if one["type"] != "markdown"]
    assert len({one["id"] for one in fields}) == len(fields) and all(one["attributes"]["label"] for one in fields)
    assert "mhnet doctor --json" in [one["attributes"]["label"] for one in fields]


def test_the_files_of_make_check_are_there():
    folders = (ROOT / "tests", ROOT / "pytorch-gradual-warmup-lr" / "tests")
    assert {path.name for folder in folders for path in folder.glob("test_*.py")} >= CHECK


def test_the_extra_for_tests_stays_small():
    assert {Requirement(one).name for one in listed("test")} == {"pytest", "pytest-xdist", "pytest-timeout"}


@pytest.mark.slow
def test_the_oldest_of_every_dependency_is_tried():
    done = subprocess.run([sys.executable, ROOT / ".ci" / "oldest.py"], capture_output=True, text=True, check=True)
    pins = {Requirement(line).name: Requirement(line).specifier for line in done.stdout.splitlines()}
    wanted = {Requirement(one).name: Requirement(one).specifier for one in listed("dependencies")}
    assert pins.keys() == wanted.keys()
    for name, specifier in pins.items():
        (pin,) = specifier
        assert wanted[name].contains(pin.version.removesuffix(".*")), name


@pytest.mark.parametrize("name", API)
def test_what_the_api_pages_show_says_what_it_is(name):
    if name.startswith("mhnet.restore.video"):
        require("av", "video")
    shown = pkgutil.resolve_name(name)
    assert inspect.getdoc(shown)
    for member in vars(shown) if inspect.isclass(shown) else ():
        assert member.startswith("_") or not callable(getattr(shown, member)) or inspect.getdoc(getattr(shown, member))


def test_the_api_pages_are_found():
    assert len(API) > 70
