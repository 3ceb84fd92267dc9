"""Making sets of pairs on disk: degraded photographs, and crops of large images.

Both write `OUT/input` and `OUT/target` (crops: with `_crops` behind), file by file, each whole or not at all: a second
call goes on where the first stopped.
"""

import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm
from tqdm.contrib.concurrent import thread_map

from mhnet.core.errors import MHNetError
from mhnet.core.files import write_text
from mhnet.data.blur import BlurParameters
from mhnet.data.degrade import Parameters, Range
from mhnet.data.names import Pair
from mhnet.data.pairs import check_pairs
from mhnet.data.rain import RainParameters
from mhnet.images.listing import find_images
from mhnet.images.read import image_size, read_rgb
from mhnet.images.write import write_rgb

RECORD = "parameters.json"
PARAMETERS: dict[str, Parameters] = {"rain": RainParameters, "blur": BlurParameters}
_T = TypeVar("_T")


def degrade_folder(
    photos: Path, out: Path, kind: str, *, severity: Range = (0.0, 1.0), seed: int = 0, versions: int = 1
) -> int:
    """Degrades sharp photographs: `OUT/input/NAME_1.png` … and `OUT/target/NAME.png`, and how in `OUT/parameters.json`.

    What is done to a photograph depends on the seed, its name and the version alone, not on the others in the folder.

    Args:
        photos: a folder of photographs, with its subfolders.
        out: the folder to write.
        kind: rain or blur.
        severity: range in [0, 1] that severities are drawn from.
        seed: another one gives other rain or blur.
        versions: degraded images to one photograph; with one, both sides have the same names.

    Returns:
        The number of pairs.

    Raises:
        MHNetError: there are no photographs, or two of one name; OUT holds a set made otherwise; the disk refuses.
    """
    if not 0 <= severity[0] <= severity[1] <= 1 or versions < 1:
        raise MHNetError(f"The severity {severity[0]:g} to {severity[1]:g} must be a range in [0, 1], and versions at "
                         "least 1.")  # fmt: skip
    paths = find_images(photos, recursive=True)
    found = {path.relative_to(photos).with_suffix("").as_posix(): path for path in paths}
    if not found:
        raise MHNetError(f"{photos} holds no photographs; name a folder of sharp images.")
    if len(found) < len(paths):
        raise MHNetError(f"{photos} holds photographs that differ in extension alone; rename one of each.")
    drawn: dict[str, dict[str, Any]] = {}  # by photograph and degraded image
    for name in found:
        drawn[name] = {}
        for version in range(1, versions + 1):
            random = np.random.default_rng((seed, zlib.crc32(name.encode()), version))
            output = f"{name}_{version}" if versions > 1 else name
            drawn[name][output] = PARAMETERS[kind].draw(random, random.uniform(*severity))
    images = {name: asdict(parameters) for by_output in drawn.values() for name, parameters in by_output.items()}
    if versions > 1 and (clash := sorted(images.keys() & found.keys())):
        raise MHNetError(f"{found[clash[0]]} has the name of another photograph's version; rename it.")
    record = {"kind": kind, "seed": seed, "severity": list(severity), "versions": versions, "images": images}
    _keep_record(out / RECORD, record)

    def make(name: str) -> None:
        target = out / "target" / f"{name}.png"
        degraded = {out / "input" / f"{output}.png": parameters for output, parameters in drawn[name].items()}
        if missing := [path for path in (target, *degraded) if not path.exists()]:
            image = read_rgb(found[name])
            for path in missing:
                write_rgb(path, image if path == target else degraded[path].render(image))

    in_parallel(make, list(found), kind)
    return len(images)


def cut_pairs(pairs: Sequence[Pair], out: Path, size: int = 512, step: int = 256) -> int:
    """Cuts pairs into overlapping crops, `OUT/input_crops/NAME_s001.png` and `OUT/target_crops/NAME_s001.png`.

    Crops of `size`×`size` begin every `step` pixels; the last of a row or column ends at the image's edge. An image
    that is smaller gives one crop of its own size. 1280×720 gives 8 crops of 512×512.

    Returns:
        The number of pairs of crops.

    Raises:
        MHNetError: a step of 0 or beyond the size, images that are no pair or cannot be read, the disk refuses.
    """
    if not 0 < step <= size:
        raise MHNetError(
            f"The step {step} must be at least 1 and at most the size {size}: between crops nothing is lost."
        )
    check_pairs(pairs)

    def cut(pair: Pair) -> int:
        height, width = image_size(pair.degraded)
        corners = [(top, left) for top in starts(height, size, step) for left in starts(width, size, step)]
        for source, side in ((pair.degraded, "input_crops"), (pair.target, "target_crops")):
            paths = [out / side / f"{pair.name}_s{number:03}.png" for number in range(1, len(corners) + 1)]
            if all(path.exists() for path in paths):
                continue
            image = read_rgb(source)
            for path, (top, left) in zip(paths, corners, strict=True):
                write_rgb(path, np.ascontiguousarray(image[top : top + size, left : left + size]))
        return len(corners)

    return sum(in_parallel(cut, pairs, "cutting"))


def starts(side: int, size: int, step: int) -> list[int]:
    """Where crops of a size begin along a side."""
    last = max(side - size, 0)
    return [*range(0, last, step), last]


def _keep_record(path: Path, record: dict[str, Any]) -> None:
    """Writes how the images are made; refuses a folder whose images were made otherwise."""
    text = json.dumps(record, indent=1)
    try:
        if path.read_text(encoding="utf-8") != text:
            raise MHNetError(f"{path} tells of other photographs or settings; name another folder, or remove this.")
    except (FileNotFoundError, NotADirectoryError):
        write_text(path, text)
    except OSError as error:
        raise MHNetError(f"{path} cannot be read ({error.strerror}); choose another place.") from error


def in_parallel(do: Callable[[Any], _T], jobs: Sequence[Any], what: str, unit: str = "image") -> list[_T]:
    """Results in order, with a bar; the first error ends it, and what has not begun is left undone."""
    bar: dict[str, Any] = {"desc": what, "unit": unit, "delay": 2, "leave": False, "disable": None, "tqdm_class": tqdm}
    return thread_map(do, jobs, max_workers=os.cpu_count(), **bar)  # OpenCV, NumPy and zlib release Python's lock
