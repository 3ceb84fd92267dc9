"""Restoring large photos: time, peak memory, what tiles change, how much of the time the network takes; bf16; kinds.

    python benchmarks/restoring.py                    a photo of 6000×4000 pixels by the deraining network, on the CPU
    python benchmarks/restoring.py --seams PHOTO...   tiles beside the same photos computed whole
    python benchmarks/restoring.py --folder 20        a folder of 20 such JPEGs beside the bare network
    python benchmarks/restoring.py --bf16             what bf16 costs the bundled weights, on pieces of those of `demo/`
    python benchmarks/restoring.py --kinds            memory to read a photo of each kind and write it again, on Linux

Without weights, the first has random ones: neither time nor memory depends on their values. Without photos, those of
`demo/` are taken: one enlarged, or four in synthetic rain.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from photos import enlarged
from PIL import Image

from mhnet.checkpoints.checkpoint import Checkpoint
from mhnet.checkpoints.files import write_checkpoint
from mhnet.core.tasks import TASKS
from mhnet.data.degrade import blur, rain
from mhnet.evaluation.protocols import score
from mhnet.images.kinds import KINDS
from mhnet.images.listing import find_images
from mhnet.images.read import ImageData, read_rgb
from mhnet.images.write import write_image, write_rgb
from mhnet.models import MHNet
from mhnet.restore import tiles
from mhnet.restore.folders import restore_all
from mhnet.restore.plan import plan
from mhnet.restore.restorer import Restorer

PHOTOS = Path(__file__).resolve().parent.parent / "demo" / "photos"
CHILD = """
import resource, sys
from mhnet.cli.main import main
status = main(sys.argv[1:])
unit = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, file=sys.stderr)
sys.exit(status)
"""
COPY = r"""
import re, sys
from pathlib import Path
from mhnet.images.kinds import result_extension
from mhnet.images.read import read_image
from mhnet.images.write import write_image
peaks = []
for path in map(Path, sys.argv[1:]):
    write_image(path.with_name(f"{path.stem}-again{result_extension(path)}"), read_image(path))
    peaks.append(int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]))
print((peaks[1] - peaks[0]) * 1024)
"""

# Kinds that are read only, and what they are made of here: bits, transparency.
_SOURCES = {"GIF": (8, False), "JPEG2000": (16, False), "PPM": (16, False), "TGA": (8, True)}


def random_weights(folder: Path) -> Path:
    """The deraining network with weights by which a photo changes a little."""
    torch.manual_seed(0)
    network = MHNet(n_feat=40)
    with torch.no_grad():
        network.tail.weight *= 0.02
    write_checkpoint(folder / "random.safetensors", Checkpoint(network.args, network.state_dict(), "deraining"))
    return folder / "random.safetensors"


def large(args: argparse.Namespace) -> None:
    """Restores a large photo as the command does, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        width, height = args.size
        photo = read_rgb(args.photos[0] if args.photos else PHOTOS / "train" / "sea-of-lanterns.jpg")
        write_rgb(folder / "large.png", cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC))
        weights = args.weights or random_weights(folder)
        words = ["restore", folder / "large.png", "-o", folder / "out.png", "--weights", weights, "--device", "cpu"]
        words += ["--tile", args.tile, "--json"]
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", CHILD, *map(str, words)], capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(done.stderr)
        tile = json.loads(done.stdout)["tile"]
        peak = int(done.stderr.splitlines()[-1]) / 2**30
        shown = "whole" if tile is None else f"{tile[0]}×{tile[1]}"
        print(f"{width}×{height}, {torch.get_num_threads()} threads: tiles {shown}, {seconds:.0f} s, "
              f"peak {peak:.2f} GiB of memory in use, all included")  # fmt: skip


def folder_time(restorer: Restorer, count: int, height: int, width: int) -> tuple[float, float]:
    """Seconds for each of that many JPEGs in a folder, and for an image by the bare network: the median of as many, up
    to five, after one."""
    with tempfile.TemporaryDirectory() as name:
        for i, photo in enumerate(enlarged(count, height, width)):
            write_rgb(Path(name) / "photos" / f"{i:03}.jpg", photo)
        bare = []
        for path in [*find_images(Path(name) / "photos")[:1], *find_images(Path(name) / "photos")[:5]]:
            photo, start = read_rgb(path), time.perf_counter()
            restorer(photo)
            bare.append(time.perf_counter() - start)
        jobs, start = plan([f"{name}/photos"], Path(name) / "out").jobs, time.perf_counter()
        outcomes = restore_all(jobs, restorer, progress=False)
        seconds = time.perf_counter() - start
        assert all(outcome.status == "restored" for outcome in outcomes), outcomes
        return seconds / count, statistics.median(bare[1:])


def folder(args: argparse.Namespace) -> None:
    """Restores a folder of JPEGs: reading and writing them is done beside the network."""
    width, height = args.size
    each, bare = folder_time(Restorer.from_weights(args.weights or "derain-small"), args.folder, height, width)
    print(f"{args.folder} JPEGs of {width}×{height}, {torch.get_num_threads()} threads: {each:.2f} s each, of which "
          f"the bare network takes {bare:.2f} s: {bare / each:.0%}")  # fmt: skip


def seams(args: argparse.Namespace) -> None:
    """Computes photos whole and in tiles."""
    titles = ["photo", "tiles", "of pixels", "difference to whole", "largest step at edges: tiles, whole",
              "mean step at edges: tiles, whole", "mean step of the difference: at edges, everywhere"]  # fmt: skip
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    restorer = Restorer.from_weights(args.weights, local_statistics=args.tlc, precision="fp32")
    for path in args.photos or find_images(PHOTOS / "test"):
        photo = read_rgb(path)
        if not args.photos:
            photo = rain(photo, np.random.default_rng(0), severity=(0.5, 0.5))
        restorer.tile = "off"
        whole = restorer(photo).astype(int)
        for side in args.sides:
            restorer.tile = side
            tiled = restorer(photo).astype(int)
            grid = tiles.by_side(photo.shape[0], photo.shape[1], side)
            error = np.square(tiled - whole).mean()
            difference = tiled - whole
            found = [steps(image, grid) for image in (tiled, whole, difference)]
            everywhere = np.mean([np.abs(np.diff(difference, axis=axis)).mean() for axis in (0, 1)])
            decibel = 10 * np.log10(255**2 / error) if error else np.inf
            print(f"| {path.name} | {grid.tiles} | {grid.rows.side}×{grid.columns.side} | {decibel:.1f} dB "
                  f"| {found[0].max()}, {found[1].max()} | {found[0].mean():.3f}, {found[1].mean():.3f} "
                  f"| {found[2].mean():.3f}, {everywhere:.3f} |", flush=True)  # fmt: skip


def bfloat16(args: argparse.Namespace) -> None:
    """Restores 256×256 pixels of each photograph, degraded, in both precisions on the CPU."""
    titles = ["weights", "PSNR lost in dB: mean, most", "8-bit values that differ by more than one: mean, most"]
    print(f"| {' | '.join(titles)} |\n|---|---:|---:|")
    for name, degrade in (("derain-small", rain), ("deblur-small", blur)):
        fp32, bf16 = (Restorer.from_weights(name, precision=precision) for precision in ("fp32", "bf16"))
        protocol, lost, apart = TASKS[str(fp32.task)].protocol, [], []
        for number, path in enumerate(args.photos or find_images(PHOTOS, recursive=True)):
            clean = read_rgb(path)[:256, :256].copy()
            degraded = degrade(clean, np.random.default_rng(number))
            exact, rounded = fp32(degraded), bf16(degraded)
            lost.append(score(exact, clean, protocol).psnr - score(rounded, clean, protocol).psnr)
            apart.append((np.abs(exact.astype(int) - rounded) > 1).mean())
        print(f"| {name} | {np.mean(lost):.4f}, {max(lost):.4f} | {np.mean(apart):.3%}, {max(apart):.3%} |", flush=True)


def kinds(args: argparse.Namespace) -> None:
    """Reads a photo of each kind and writes it again, in a process for each. What reading and writing a small one takes
    is not counted, nor is the network."""
    width, height = args.size
    titles = ["bytes for a pixel", "8 bits", "with transparency", "more bits", "with transparency"]
    print(f"| {' | '.join(titles)} |\n|---{'|---:' * 4}|")
    photo = next(enlarged(1, height, width))
    between = np.arange(width, dtype=np.uint16)[:, None] % 256  # values of more than 8 bits
    deep = photo.astype(np.uint16) * 256 + between
    for name, kind in KINDS.items():
        found = []
        for pixels, clear in ((photo, False), (photo, True), (deep, False), (deep, True)):
            bits, alpha = _SOURCES.get(name, (kind.bits, kind.alpha))
            if bits <= 8 * (pixels.itemsize - 1) or clear > alpha:
                found.append("")
                continue
            with tempfile.TemporaryDirectory() as folder:
                files = [Path(folder) / f"{size}{kind.extensions[0]}" for size in ("small", "large")]
                for path, part in zip(files, (pixels[:64, :64], pixels), strict=True):
                    image = np.dstack((part, part[..., 1])) if clear else np.ascontiguousarray(part)
                    if kind.bits:
                        write_image(path, ImageData(np.ascontiguousarray(part), image[..., 3] if clear else None))
                    elif name in ("GIF", "TGA"):
                        Image.fromarray(image).save(path)
                    else:
                        cv2.imwrite(str(path), image)
                done = subprocess.run([sys.executable, "-c", COPY, *map(str, files)], capture_output=True, text=True)
                if done.returncode:
                    sys.exit(done.stderr)
                found.append(f"{int(done.stdout) / (width * height):.0f}")
        if any(found):
            print(f"| {name} | {' | '.join(found)} |", flush=True)


def steps(image: np.ndarray, grid: tiles.Grid) -> np.ndarray:
    """Absolute differences, in levels of 255, between the pixels on either side of the tiles' edges."""
    found = [np.zeros(0, int)]
    for axis, along in ((0, grid.rows), (1, grid.columns)):
        places = {place for span in along.spans() for place in span} - {0, image.shape[axis]}
        found += [np.abs(image.take(place, axis) - image.take(place - 1, axis)).ravel() for place in places]
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="*", metavar="PHOTO")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=(6000, 4000), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--tile", default="auto")
    parser.add_argument("--seams", action="store_true", help="compare tiles with whole photos; needs --weights")
    parser.add_argument("--folder", type=int, metavar="N", help="so many photos in a folder, by derain-small")
    parser.add_argument("--bf16", action="store_true", help="what bf16 costs, on photos or those of demo/")
    parser.add_argument("--kinds", action="store_true", help="the memory that each kind of file takes")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 384], help="of the tiles (default: %(default)s)")
    parser.add_argument("--tlc", action=argparse.BooleanOptionalAction, help="with local statistics or without")
    args = parser.parse_args()
    if args.seams and not args.weights:
        parser.error("--seams needs --weights: random ones show nothing of what tiles change")
    (kinds if args.kinds else bfloat16 if args.bf16 else folder if args.folder else seams if args.seams else large)(
        args
    )


if __name__ == "__main__":
    main()
