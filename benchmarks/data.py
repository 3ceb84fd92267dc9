"""Training crops a second: a loader that decodes both files for each crop, as published ones do, against ours.

All give the same 256×256 crops as uint8 tensors and keep no decoded images; what counts are medians. The files are in
the system's cache after the first round, as far as memory reaches.

    python benchmarks/data.py [--pairs FOLDER] [--runs 3]
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from photos import PHOTOS, enlarged
from PIL import Image
from torch.utils.data import DataLoader

from mhnet.data.degrade import rain
from mhnet.data.pack import write_pack
from mhnet.data.pairs import Pair, find_pairs
from mhnet.data.sampling import EpochBatches, Key, start_worker
from mhnet.data.sources import PairSource, SharpSource
from mhnet.images.listing import find_images
from mhnet.images.read import image_size
from mhnet.images.write import write_rgb

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Deraining"))
from dataset import DEGRADATIONS, TrainingCrops  # noqa: E402  # pyright: ignore[reportMissingImports]  (the room's own)

PATCH, SEED = 256, 1
CROPS = 28  # of each loader in a run
SLICES, SECONDS = 3, 2.0  # of a run through workers


class WholeImages:
    """Decodes whole images with Pillow and cuts the crop out, each time."""

    def size(self, path: Path) -> tuple[int, int]:
        return image_size(path)

    def crop(self, path: Path, box: tuple[int, int, int, int]) -> np.ndarray:
        top, left, height, width = box
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))[top : top + height, left : left + width]


def make_pairs(folder: Path, count: int = 12) -> Path:
    """Photographs of the demo at 1280×720, and in the rain."""
    for i, photo in enumerate(enlarged(count, 720, 1280)):
        write_rgb(folder / "input" / f"{i}.png", rain(photo, np.random.default_rng(i)))
        write_rgb(folder / "target" / f"{i}.png", photo)
    return folder


def shuffled(size: int, seed: int) -> list[Key]:
    """All places of the first epoch."""
    return [key for keys in EpochBatches(size, seed, lambda _: 1) for key in keys]


def in_turn(loaders: dict[str, TrainingCrops], run: int) -> dict[str, float]:
    """Crops a second in this process: each crop by every loader in turn, so that other work on the machine hits all."""
    seconds = dict.fromkeys(loaders, 0.0)
    keys = shuffled(len(next(iter(loaders.values()))), run)[:CROPS]
    for key in keys:
        for name, data in loaders.items():
            start = time.perf_counter()
            _ = data[key]
            seconds[name] += time.perf_counter() - start
    return {name: len(keys) / elapsed for name, elapsed in seconds.items()}


def through_workers(loaders: dict[str, TrainingCrops], run: int) -> dict[str, float]:
    """Crops a second in batches of 4 from two processes, each loader for several slices of time in turn.

    A loader's processes start for its slice and end with it; what they made before the clock starts is not counted.
    """
    crops, seconds = dict.fromkeys(loaders, 0), dict.fromkeys(loaders, 0.0)
    for part in range(SLICES):
        for name, data in loaders.items():
            keys = [key for epoch in range(600) for key in shuffled(len(data), epoch + run * SLICES + part)][:9000]
            loader = DataLoader(data, 4, sampler=keys, num_workers=2, prefetch_factor=2, worker_init_fn=start_worker)
            ready = iter(loader)
            for _ in range(2 * 2):
                next(ready)
            start = time.perf_counter()
            while (elapsed := time.perf_counter() - start) < SECONDS:
                crops[name] += len(next(ready))
            seconds[name] += elapsed
            del ready
    return {name: crops[name] / seconds[name] for name in loaders}


def compare(title: str, measured: Sequence[dict[str, float]]) -> None:
    """Prints a row to a loader: the median of its runs, their range, and the ratio to the first's."""
    medians = {name: statistics.median(run[name] for run in measured) for name in measured[0]}
    for name, median in medians.items():
        low, high = (end(run[name] for run in measured) for end in (min, max))
        ratio = median / next(iter(medians.values()))
        print(f"| {title}: {name} | {median:.1f} ({low:.1f} to {high:.1f}) | {ratio:.1f} |", flush=True)


def measure(pairs: list[Pair], pack_folder: Path, runs: int) -> None:
    pack = write_pack(pairs, pack_folder)
    crops = partial(TrainingCrops, patch=PATCH, seed=SEED)
    loaders = {
        "whole files, Pillow": crops(PairSource(pairs, WholeImages())),
        "ours, files": crops(PairSource(pairs)),
        "ours, packed": crops(PairSource(pack.pairs, pack)),
    }
    first, *others = (data[0, 0] for data in loaders.values())
    assert all(torch.equal(first, other) for other in others)
    height, width = image_size(pairs[0].degraded)
    print(f"{len(pairs)} pairs, the first {width}×{height}; {PATCH}×{PATCH} crops; both sides\n")
    print("| | crops a second: median (range) | ratio |\n|---|---|---|")
    compare("one process", [in_turn(loaders, run) for run in range(runs)])
    compare("DataLoader, 2 workers", [through_workers(loaders, run) for run in range(runs)])
    photos = find_images(PHOTOS, recursive=True)
    for name, degrade in DEGRADATIONS.items():
        made = {f"{name} on the fly": crops(SharpSource(photos, degrade))}
        compare("one process", [in_turn(made, run) for run in range(runs)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="a folder of pairs (default: made from demo/photos)")
    parser.add_argument("--runs", type=int, default=3, help="timed rounds of each (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        pairs = find_pairs(args.pairs or make_pairs(Path(folder) / "pairs"))
        measure(pairs, Path(folder) / "pack", args.runs)


if __name__ == "__main__":
    main()
