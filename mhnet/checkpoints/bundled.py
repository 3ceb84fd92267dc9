"""The weights that come with the package, and their names."""

from pathlib import Path

from mhnet.core.errors import MHNetError
from mhnet.core.tasks import DEBLURRING, DERAINING, Task

FOLDER = Path(__file__).parent / "pretrained"
NAMES = {"derain-small": DERAINING, "deblur-small": DEBLURRING}
"""What ships, or will, and for which task: `FOLDER/NAME.safetensors`."""


def shipping() -> dict[str, Task]:
    """What does ship with this version, and for which task."""
    return {name: task for name, task in NAMES.items() if (FOLDER / f"{name}.safetensors").is_file()}


def for_task(task: Task) -> Path:
    """The file that ships for a task; MHNetError if none does."""
    return named(next(name for name, meant in NAMES.items() if meant is task))


def named(name: str) -> Path:
    """The file that ships under a name of `NAMES`; MHNetError if none does in this version."""
    if name not in shipping():
        raise MHNetError(f"No weights for {NAMES[name].name} ship with this version ({name}): name a file of weights "
                         "instead.")  # fmt: skip
    return FOLDER / f"{name}.safetensors"


def weights_path(path: str | Path) -> Path:
    """A path as it is, or the file that ships under that name (`named`) where there is no file so called."""
    return named(str(path)) if str(path) in NAMES and not Path(path).exists() else Path(path)
