"""Holding images out of training, for validation."""

import re
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

_NUMBER = re.compile(r"[-_ ]*\d+$")
_CROP = re.compile(r"(?:-|_s)\d+$")


def hold_out(names: Sequence[str], count: int) -> tuple[list[int], list[int]]:
    """Splits images into those to train on and `count` to validate with, never parts of one scene to both sides.

    Frames of a video look alike, so whole scenes are held out: images in one folder whose names differ only in the
    number at their end, behind the crop's number where the folder is one of `_crops`. Where all images are one scene
    the last ones are held out; where names are only numbers, in one folder, the images have nothing to do with each
    other. Frames of a held-out scene beyond `count` are left aside.

    Args:
        names: of the clean images, with their folders, in natural order.
        count: how many to hold out.

    Returns:
        Positions in `names` to train on, and to validate with.

    Raises:
        ValueError: nothing would be left to train on.
    """
    if count >= len(names):
        raise ValueError(f"{count} images cannot be held out of {len(names)}")
    scenes: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        scenes.setdefault(_NUMBER.sub("", _frame(name)), []).append(position)
    if len(scenes) == 1:
        only_numbers = _NUMBER.sub("", PurePath(_frame(names[0])).name) == ""
        if not only_numbers:
            return list(range(len(names) - count)), list(range(len(names) - count, len(names)))
        scenes = {name: [position] for position, name in enumerate(names)}
    groups = list(scenes.values())
    for wanted in range(1, len(groups)):
        chosen = {int(position) for position in _spread(len(groups), wanted)}
        held = [position for group in chosen for position in groups[group]]
        if len(held) >= count:
            break
    else:
        raise ValueError(f"{count} images cannot be held out of {len(names)} in {len(groups)} scenes")
    held = sorted(held)
    return sorted(set(range(len(names))) - set(held)), [held[i] for i in _spread(len(held), count)]


def _frame(name: str) -> str:
    """The name of the frame that a crop was cut from: `target_crops/12` of `target_crops/12-3` or `…/12_s003`."""
    in_crops = any(part.lower().endswith("_crops") for part in PurePath(name).parts[:-1])
    return _CROP.sub("", name) if in_crops else name


def _spread(size: int, count: int) -> list[int]:
    """`count` positions spread evenly over `size`."""
    return [int(position) for position in np.floor((np.arange(count) + 0.5) * size / count)]
