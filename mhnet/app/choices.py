"""What the page offers to remove, and with which weights."""

import re
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
    """One thing to remove."""

    key: str  # what the command calls it, derain or deblur, or the file's name where the weights do not say
    label: str  # what the page calls it
    weights: str  # a file, or the name of bundled weights
    protocol: str  # by which papers score it
    facts: str  # which weights, how large, what they were trained on
    limits: list[str]  # what they cannot do


def choices(given: Sequence[str] = ()) -> list[Choice]:
    """What there is to choose from: the bundled weights, and files of weights in their place or besides."""
    weights = [(name, task.name) for name, task in bundled.shipping().items()]
    weights += [(str(path), read_checkpoint(path).task or "") for path in given]
    found: dict[str, Choice] = {}
    for name, task in weights:
        key, label = _KEYS.get(task, (Path(name).stem, Path(name).stem))
        protocol = TASKS[task].protocol if task in TASKS else "rgb_channel_mean"
        found[key] = Choice(key, label, name, protocol, *_described(name))
    if not found:
        raise MHNetError("No weights come with this version: name a file with --weights.")
    return list(found.values())


def _described(weights: str) -> tuple[str, list[str]]:
    """What the card of bundled weights says of them, shortly: facts, and limits."""
    card = bundled.FOLDER / f"{weights}.md"
    if not card.is_file():
        path = Path(weights)
        return f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, weights of your own.", []
    text = card.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (size|data) \| (.+) \|$", text, re.MULTILINE))
    size, data = rows["size"].partition(";")[0], re.sub(r" \([^)]*\)", "", rows["data"])
    limits = re.findall(r"^\* (.+(?:\n  .+)*)", text.partition("## Limits")[2], re.MULTILINE)
    return f"{weights}: {size}. Trained on {data}.", [_plain(limit) for limit in limits]


def _plain(markdown: str) -> str:
    """The words of a paragraph, without links in brackets."""
    words = re.sub(r" ?\(\[[^\]]*\]\([^)]*\)\)|[*`]", "", " ".join(markdown.split()))
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", words)
