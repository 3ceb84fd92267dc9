"""What the page offers to remove, and with which weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mhnet.checkpoints import bundled
from mhnet.checkpoints.files import read_checkpoint
from mhnet.core.errors import MHNetError
from mhnet.core.tasks import DEBLURRING, DERAINING, TASKS

_KEYS = {DERAINING.name: ("derain", "Rain"), DEBLURRING.name: ("deblur", "Blur")}


@dataclass(frozen=True)
class Choice:
    """One thing to remove.

    Args:
        key: what the command calls it, derain or deblur, or the file's name where the weights do not say.
        label: what the page calls it.
        weights: a file, or the name of bundled weights.
        protocol: by which papers score it.
    """

    key: str
    label: str
    weights: str
    protocol: str


def choices(given: Sequence[str] = ()) -> list[Choice]:
    """What there is to choose from: the bundled weights, and files of weights in their place or besides.

    Raises:
        MHNetError: a file cannot be read, or there is nothing at all.
    """
    weights = [(name, task.name) for name, task in bundled.shipping().items()]
    weights += [(str(path), read_checkpoint(path).task or "") for path in given]
    found: dict[str, Choice] = {}
    for name, task in weights:
        key, label = _KEYS.get(task, (Path(name).stem, Path(name).stem))
        protocol = TASKS[task].protocol if task in TASKS else "rgb_channel_mean"
        found[key] = Choice(key, label, name, protocol)
    if not found:
        raise MHNetError("No weights come with this version: name a file with --weights.")
    return list(found.values())
