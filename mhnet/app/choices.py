"""What the page offers to remove, and with which weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mhnet.checkpoints import bundled
from mhnet.checkpoints.files import read_checkpoint
from mhnet.core.errors import MHNetError
from mhnet.core.tasks import DEBLURRING, DERAINING

LABELS = {DERAINING.name: "Rain", DEBLURRING.name: "Blur"}
KEYS = {DERAINING.name: "derain", DEBLURRING.name: "deblur"}
DEGRADATIONS = {"derain": "rain", "deblur": "blur"}


@dataclass(frozen=True)
class Choice:
    """One thing to remove.

    Args:
        key: what the command calls it, derain or deblur, or the file's name where the weights do not say.
        label: what the page calls it.
        weights: a file, or the name of one that ships.
    """

    key: str
    label: str
    weights: str


def choices(given: Sequence[str] = ()) -> list[Choice]:
    """What there is to choose from: what ships, and files of weights in their place or besides.

    Raises:
        MHNetError: a file cannot be read, or there is nothing at all.
    """
    found: dict[str, Choice] = {}
    for name, task in bundled.shipping().items():
        found[KEYS[task.name]] = Choice(KEYS[task.name], LABELS[task.name], name)
    for path in given:
        task = read_checkpoint(path).task
        stem = Path(path).stem
        key = KEYS.get(task or "", stem)
        found[key] = Choice(key, LABELS.get(task or "", stem), str(path))
    if not found:
        raise MHNetError("No weights ship with this version: name a file with --weights.")
    return list(found.values())
