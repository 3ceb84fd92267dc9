"""Images a second by `mhnet restore --engine ray`, with 1 and 2 workers, beside the command without it.

Each run is a command of its own; the runs take turns. Its speed is that between its first and its last result, by the
files' times, so that its start does not count, which has a column of its own. Memory is that of all its processes,
shared pages counted once (PSS), looked at every second.

    python benchmarks/bulk.py                  160 images of 256×256, the shipped weights, two rounds
    python benchmarks/bulk.py --write          … and the table into docs/bulk.md
    python benchmarks/bulk.py --size 4000 3000 --images 6 --rounds 1     photos of 12 megapixels
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from machine import cpu_name
from marks import write_between
from photos import enlarged

from mhnet.images.write import write_rgb

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "bulk.md"
KINDS = {"without --engine": [], "1 worker": ["--engine", "ray", "--workers", "1"],
         "2 workers": ["--engine", "ray", "--workers", "2"]}  # fmt: skip


class Run(NamedTuple):
    """What was measured of a run: images a second, seconds to the first result and in all, bytes at the peak."""

    rate: float
    start: float
    whole: float
    peak: int


def measure(source: Path, target: Path, weights: str, words: list[str]) -> Run:
    """Restores a folder by a command."""
    start = time.time()
    command = ["restore", str(source), "-o", str(target), *weights.split(), *words, "--device", "cpu", "--quiet"]
    run = subprocess.Popen([sys.executable, "-m", "mhnet", *command])
    peak = 0
    while run.poll() is None:
        peak = max(peak, held(psutil.Process(run.pid)))
        time.sleep(1)
    whole = time.time() - start
    if run.returncode:
        sys.exit("the command failed")
    times = sorted(path.stat().st_mtime for path in target.glob("*.jpg"))
    return Run((len(times) - 1) / (times[-1] - times[0]), times[0] - start, whole, peak)


def held(process: psutil.Process) -> int:
    """Bytes of memory of a process and of what it has started."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            about = one.memory_full_info()
            total += getattr(about, "pss", about.uss)
        except psutil.Error:  # noqa: PERF203  (it has ended)
            continue
    return total


def table(measured: dict[str, list[Run]], args: argparse.Namespace) -> str:
    size, rounds = f"{args.size[0]}×{args.size[1]}", f"{args.rounds} round" + "s" * (args.rounds > 1)
    machine = f"{psutil.cpu_count()} CPUs of {cpu_name()}"
    lines = [
        f"{args.images} JPEGs of {size}, `{args.weights}`, fp32, {machine}; medians (range) of {rounds}.",
        "",
        "| | images a second | against 1 worker | to the first result | in all | peak memory |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    one = statistics.median(run.rate for run in measured["1 worker"])
    for kind, runs in measured.items():
        rates = [run.rate for run in runs]
        rate = statistics.median(rates)
        lines.append(f"| {kind} | {rate:.2f} ({min(rates):.2f} to {max(rates):.2f}) | {rate / one:.2f} × "
                     f"| {statistics.median(run.start for run in runs):.0f} s "
                     f"| {statistics.median(run.whole for run in runs):.0f} s "
                     f"| {max(run.peak for run in runs) / 1e9:.1f} GB |")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--weights", default="--task derain", metavar="OPTIONS", help="of the command (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/bulk.md")
    args = parser.parse_args()
    measured: dict[str, list[Run]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, photo in enumerate(enlarged(args.images, args.size[1], args.size[0])):
            write_rgb(folder / "in" / f"{i}.jpg", photo)
        for i in range(args.rounds):
            for j, (kind, words) in enumerate(KINDS.items()):
                measured[kind].append(measure(folder / "in", folder / f"{i}-{j}", args.weights, words))
                print(f"{kind}: {measured[kind][-1]}", file=sys.stderr, flush=True)
    text = table(measured, args)
    print(text)
    if args.write:
        write_between(PAGE, "table", text)


if __name__ == "__main__":
    main()
