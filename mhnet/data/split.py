"""Holding images out of training, for validation."""

import re
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

_NUMBER = re.compile(r"[-_ ]*\d+$")
_CROP = re.compile(r"(?:-|_s)\d+$")


def hold_out(names: Sequence[str], count: int) -> tuple[list[int], list[int]]:
    """The positions of images to train on, and of `count` to validate with; ValueError where nothing would be left to
    train on. `names` are of the clean images, with their folders, in natural order.

    Frames of a video look alike, so whole scenes are held out: images in one folder whose names differ only in the
    number at their end, behind the crop's number where the folder is one of `_crops`. Names that are nothing but
    numbers, of different lengths in one folder (1, 2, … 13711), are no video: each image is a scene of its own.
    Scenes are spread over the list, and frames of a held-out scene beyond `count` are left aside; where that would
    cost more than a quarter of the images, the last frames of the longest scene are held out instead.
    """
    if count >= len(names):
        raise ValueError(f"{count} images cannot be held out of {len(names)}")
    scenes = _scenes(names)
    small = [scene for scene in scenes if len(scene) <= max(count, len(names) // 4)]
    held: list[int] = []
    for wanted in range(1, min(len(small), len(scenes) - 1) + 1):
        held = sorted(position for scene in _spread(len(small), wanted) for position in small[scene])
        if len(held) >= count:
            return sorted(set(range(len(names))) - set(held)), [held[i] for i in _spread(len(held), count)]
    longest = [position for position in max(scenes, key=len) if position not in held]
    held = sorted([*held, *longest[len(longest) - (count - len(held)) :]])
    if len(held) < count:
        raise ValueError(f"{count} images cannot be held out of {len(names)} in {len(scenes)} scenes")
    return sorted(set(range(len(names))) - set(held)), held


def _scenes(names: Sequence[str]) -> list[list[int]]:
    """The positions of each scene's images."""
    lengths: dict[str, set[int]] = {}
    for name in names:
        frame = PurePath(_frame(name))
        if frame.name.isdigit():
            lengths.setdefault(str(frame.parent), set()).add(len(frame.name))
    scenes: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        frame = PurePath(_frame(name))
        unrelated = frame.name.isdigit() and len(lengths[str(frame.parent)]) > 1
        scenes.setdefault(str(frame) if unrelated else _NUMBER.sub("", str(frame)), []).append(position)
    return list(scenes.values())


def _frame(name: str) -> str:
    """The name of the frame that a crop was cut from: `target_crops/12` of `target_crops/12-3` or `…/12_s003`."""
    in_crops = any(part.lower().endswith("_crops") for part in PurePath(name).parts[:-1])
    return _CROP.sub("", name) if in_crops else name


def _spread(size: int, count: int) -> list[int]:
    """`count` positions spread evenly over `size`."""
    return [int(position) for position in np.floor((np.arange(count) + 0.5) * size / count)]
