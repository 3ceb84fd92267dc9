"""The house: who may import whom, how long a file may be, how large all may be, and how quickly it opens."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small import ROOT

PACKAGE = ROOT / "mhnet"
FLOORS = [
    {"core", "models"},
    {"images", "checkpoints"},
    {"data", "inference"},
    {"evaluation", "train"},
    {"restore"},
    {"app"},
    {"cli"},
    {"__main__"},
]
"""A file imports from floors below its own, and from its own folder. `mhnet/__init__.py` is imported by nobody."""
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST, NETWORK = 300, 450
ALL = 16_008


def module_of(path: Path) -> str:
    """`mhnet/data/pairs.py` → `mhnet.data.pairs`; a folder's `__init__.py` is the folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(text: str, modules: set[str]) -> set[str]:
    """The modules that source imports, at its top, inside functions, or for types alone."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "mhnet"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mhnet":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in modules else str(node.module))
    return found


def faults(texts: dict[str, str]) -> list[str]:
    """What is wrong with who imports whom, of modules by name."""
    found, arrows = [], {name: imports_of(text, set(texts)) for name, text in texts.items()}
    for name, targets in arrows.items():
        for target in targets:
            if "." not in name:
                continue  # the face names what users ask for, and imports it when they do
            own, other = name.split(".")[1], target.split(".")[1] if "." in target else "the face"
            if other == "the face" or (own != other and FLOOR_OF[other] >= FLOOR_OF[own]):
                found.append(f"{name} imports {target}, which is not below it")
    return found + [f"{' → '.join(circle)} is a circle" for circle in circles(arrows)]


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The ways along arrows that come back to where they began, each once."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name not in done:
            for target in sorted(arrows.get(name, ())):
                visit(target, [*way, name])
            done.add(name)

    for name in arrows:
        if "." in name:  # the face is nobody's way
            visit(name, [])
    return found


def sources() -> dict[str, str]:
    return {module_of(path): path.read_text(encoding="utf-8") for path in FILES}


def test_nothing_imports_upward_or_in_a_circle():
    assert faults(sources()) == []


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        ("mhnet.core.errors", "import mhnet", "which is not below it"),
        ("mhnet.core.errors", "from mhnet import __version__", "which is not below it"),
        ("mhnet.models.mhnet", "from mhnet.core.errors import MHNetError", "which is not below it"),
        ("mhnet.models.mhnet", "def load():\n    from mhnet.checkpoints import hub", "which is not below it"),
        ("mhnet.checkpoints.checkpoint", "from mhnet.checkpoints import files", "is a circle"),
        ("mhnet.evaluation.protocols", "from mhnet.evaluation.tables import x", "is a circle"),
        ("mhnet.evaluation.protocols", "from mhnet.train import trainer", "which is not below it"),
    ],
)
def test_each_fault_is_found(module, line, said):
    texts = sources()
    texts[module] += f"\n{line}\n"
    assert any(said in fault for fault in faults(texts))


@pytest.mark.parametrize("path", [*FILES, *PACKAGE.rglob("*.[ch]")], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_too_long_to_read(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= (NETWORK if path == PACKAGE / "models" / "mhnet.py" else LONGEST)


def test_the_package_stays_small():
    assert sum(len(text.splitlines()) for text in sources().values()) <= ALL


def test_the_package_and_its_help_open_quickly():
    code = "import sys, mhnet; assert not {'torch', 'cv2', 'scipy'} & set(sys.modules); print(mhnet.__version__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    # where the system tells it, the processor's time of programs that have ended: not what others take
    clock = time.perf_counter if os.name == "nt" else lambda: sum(os.times()[2:4])
    seconds = []
    for _ in range(3):
        start = clock()
        done = subprocess.run([sys.executable, "-m", "mhnet", "--help"], capture_output=True, text=True)
        seconds.append(clock() - start)
        assert done.returncode == 0
        assert "convert" in done.stdout
    assert min(seconds) < 1
