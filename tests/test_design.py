"""The house: who may import whom, how long a file may be, and how quickly it opens."""

import ast
import subprocess
import sys
import time

import pytest
from small import ROOT

GROUND = "errors allocator colours files devices images pictures codecs metrics perceptual sheets models"
DOORS = """rooms scores data_commands restore_command bulk_command room_commands evaluate_command weights_commands
export_command doctor_command completion_command app_command"""
FLOORS = [
    ("mhnet", *GROUND.split()),
    ("published", "weights", "hub", "spandrel", "shipped", "data", "tasks"),
    ("restore", "evaluate", "report", "train", "doctor", "export", "app"),
    ("usage", *DOORS.split(), "cli", "__main__"),
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FILES = sorted((ROOT / "mhnet").rglob("*.py"))


def part(module: str) -> str:
    """`mhnet.data.pairs` → `data`; `mhnet` itself is a part of the ground floor."""
    return module.split(".")[1] if "." in module else "mhnet"


def imports(path) -> set[str]:
    """The parts of mhnet that a file imports, at its top or inside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "mhnet":
            found |= {alias.name if alias.name in FLOOR_OF else "mhnet" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mhnet."):
            found.add(part(node.module or ""))
        elif isinstance(node, ast.Import):
            found |= {part(alias.name) for alias in node.names if alias.name.split(".")[0] == "mhnet"}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_imports_upward(path):
    own = path.relative_to(ROOT / "mhnet").parts[0].removesuffix(".py")
    if own == "__init__":
        return  # names what users ask for, and imports it when they do
    higher = {name for name in imports(path) if FLOOR_OF[name] > FLOOR_OF[own]}
    assert not higher


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_too_long_to_read(path):
    assert len(path.read_text().splitlines()) <= 300


def test_the_package_and_its_help_open_quickly():
    code = "import sys, mhnet; assert not {'torch', 'cv2', 'scipy'} & set(sys.modules); print(mhnet.__version__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "mhnet", "--help"], capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0
        assert "convert" in done.stdout
    assert min(seconds) < 1
