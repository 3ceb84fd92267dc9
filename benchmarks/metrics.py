"""Scores of 20 pairs of 1280×720: straightforward scikit-image and SciPy code, one image after the other in one
process, against `evaluate_pairs` over processes. From files to means, starting the processes included.

Both run alternately; what counts is the fastest run of each, because whatever else the machine does only slows them,
and their ratio. The last column is the largest difference between the two of any image, in dB and in SSIM.

Exits with 1 where a difference is above 1e-6, and with --check also where a ratio is below its bar: for two processes
that takes two cores which nothing else uses.

    python benchmarks/metrics.py [--pairs FOLDER] [--processes 2] [--runs 3] [--check]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from photos import enlarged

from mhnet.core.errors import exits_cleanly
from mhnet.data.pairs import Pair, find_pairs
from mhnet.evaluation import protocols
from mhnet.evaluation.scoring import evaluate_pairs
from mhnet.images.read import image_size, read_rgb
from mhnet.images.write import write_rgb

COUNT = 20
EQUAL = 1e-6
Pictures = tuple[np.ndarray, np.ndarray]


def volume_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of H×W×3 as a volume: SciPy's Gaussian filter for each of the five means."""
    from scipy.ndimage import gaussian_filter

    def mean(volume: np.ndarray) -> np.ndarray:
        return gaussian_filter(volume, sigma=1.5, truncate=3.5, mode="nearest")

    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(np.mean(top / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))))


def plain_psnr(a: np.ndarray, b: np.ndarray) -> float:
    from skimage.metrics import peak_signal_noise_ratio

    return peak_signal_noise_ratio(b, a, data_range=255)


def plain_rain(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """rain_y_matlab with scikit-image; the millionth makes halves round up although its sums are not exact."""
    from skimage.color import rgb2ycbcr
    from skimage.metrics import structural_similarity

    a, b = (np.floor(rgb2ycbcr(image)[..., 0] + 0.5 + 1e-6).astype(np.uint8) for image in (a, b))
    ssim = structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
    return plain_psnr(a, b), float(np.asarray(ssim))


def plain_gopro(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """gopro_rgb_matlab with scikit-image and SciPy."""
    return plain_psnr(a, b), volume_ssim(a, b)


def plainly(score: Callable[[np.ndarray, np.ndarray], tuple[float, float]], pairs: Sequence[Pair]) -> np.ndarray:
    """N×2 scores of pairs of files, one after the other."""
    from skimage.io import imread

    return np.array([score(imread(pair.degraded), imread(pair.target)) for pair in pairs])


def make_pairs(folder: Path) -> list[Pair]:
    """The sample photographs at 1280×720, and each a little blurred, as a network leaves it."""
    pairs = []
    for i, photo in enumerate(enlarged(COUNT, 720, 1280)):
        pair = Pair(folder / "results" / f"{i}.png", folder / "target" / f"{i}.png", str(i))
        write_rgb(pair.degraded, cv2.GaussianBlur(photo, (0, 0), 1 + i / 10))
        write_rgb(pair.target, photo)
        pairs.append(pair)
    return pairs


def alternately(
    plain: Callable[[], np.ndarray], ours: Callable[[], np.ndarray], runs: int
) -> tuple[list[list[float]], float]:
    """Seconds of every run of both, and the largest difference of their results."""
    times: tuple[list[float], list[float]] = ([], [])
    results = [np.zeros(0), np.zeros(0)]
    for _ in range(runs):
        for side, run in enumerate((plain, ours)):
            start = time.perf_counter()
            results[side] = run()
            times[side].append(time.perf_counter() - start)
    return list(times), float(np.abs(results[0] - results[1]).max())


def compare(pairs: Sequence[Pair], processes: int, runs: int, check: bool) -> bool:
    """Prints a line for each comparison; whether the results are equal and, if that is to be checked, all bars hold."""
    held = True

    def line(title: str, plain: Callable[[], np.ndarray], ours: Callable[[], np.ndarray], bar: float) -> None:
        nonlocal held
        times, difference = alternately(plain, ours, runs)
        ratio = min(times[0]) / min(times[1])
        held &= difference <= EQUAL and (ratio >= bar or not check)
        cells = [f"{min(seconds):.2f} s ({max(seconds):.2f})" for seconds in times]
        print(f"| {title} | {' | '.join(cells)} | {ratio:.1f} | {bar:.0f} | {difference:.0e} |", flush=True)

    def over_processes(protocol: str) -> np.ndarray:
        return np.array([row[1:3] for row in evaluate_pairs(pairs, protocol, processes=processes).rows])

    print("| | straightforward: fastest (slowest) run | ours | ratio | at least | difference |")
    print("|---|---:|---:|---:|---:|---:|")
    line(f"rain_y_matlab, {processes} processes", lambda: plainly(plain_rain, pairs),
         lambda: over_processes("rain_y_matlab"), 3)  # fmt: skip
    line(f"gopro_rgb_matlab, {processes} processes", lambda: plainly(plain_gopro, pairs),
         lambda: over_processes("gopro_rgb_matlab"), 3)  # fmt: skip
    read: list[Pictures] = [(read_rgb(pair.degraded), read_rgb(pair.target)) for pair in pairs]
    line("its 3-D SSIM alone, images in memory, one process", lambda: np.array([volume_ssim(a, b) for a, b in read]),
         lambda: np.array([protocols.ssim_3d(a, b) for a, b in read]), 8)  # fmt: skip
    return held


@exits_cleanly
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, metavar="FOLDER", help="a set of pairs; its first 20 are scored "
                        "(default: made from the sample photographs)")  # fmt: skip
    parser.add_argument("--processes", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a ratio is below its bar")
    args = parser.parse_args()
    cv2.setNumThreads(1)  # one process is one core
    with tempfile.TemporaryDirectory() as folder:
        pairs = find_pairs(args.pairs)[:COUNT] if args.pairs else make_pairs(Path(folder))
        height, width = image_size(pairs[0].target)
        print(f"{len(pairs)} pairs of {width}×{height}\n")
        return 0 if compare(pairs, args.processes, args.runs, args.check) else 1


if __name__ == "__main__":
    sys.exit(main())
