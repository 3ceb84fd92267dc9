"""A network as published, operation by operation, against ours: time and memory of restoring an image.

Both have the same weights. Each form and allocator setting has a process of its own, because the setting holds for a
whole process, and they take turns, so that whatever else the machine does falls on all alike; what counts are medians
and their ratio. Peak memory is that above the loaded program, measured in one more process for each.

    python benchmarks/inference.py                 the table
    python benchmarks/inference.py --quick         256×256, few runs
    python benchmarks/inference.py --write         … into docs/performance.md, and fig/performance.png
    python benchmarks/inference.py --scaling       time for each pixel from 0.1 to 25 megapixels
    python benchmarks/inference.py --bf16          fp32 against bf16, MHNet for deblurring and the bundled weights
    python benchmarks/inference.py --also compile  … beside the first, or bf16, openvino, onnxruntime
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from machine import bf16_flags, cpu_name, resident
from marks import write_between
from published import as_published
from torch import Tensor, nn

from mhnet.core import allocator
from mhnet.models import MHNet
from mhnet.models.cost import gmacs
from mhnet.restore.precision import computing_in
from mhnet.restore.restorer import Restorer

ROOT = Path(__file__).resolve().parent.parent
PAGE, PLOT = ROOT / "docs" / "performance.md", ROOT / "fig" / "performance.png"
SIZES = [(256, 256), (320, 480), (720, 1280)]
SCALING = [(256, 400), (512, 800), (720, 1280), (2048, 2048), (5000, 5000)]
OTHERS = ("bf16", "compile", "openvino", "onnxruntime")
LARGE, LARGE_RUNS = 500_000, 3
"""From so many pixels on, so many timed runs at most: the published form takes a minute for one at 1280×720."""
Run = Callable[[Tensor], object]
Column = tuple[str, str]  # form, allocator
Measured = dict[tuple[int, int], dict[Column, tuple[list[float], int]]]  # seconds and bytes
PUBLISHED, SHIPPED = ("published", "system"), ("ours", "kept")
COLUMNS: list[Column] = [PUBLISHED, SHIPPED, ("published", "kept"), ("ours", "system")]


def network() -> MHNet:
    """MHNet for deblurring with weights that are the same in every process, none of them without effect."""
    torch.manual_seed(0)
    net = MHNet().eval()
    for name, parameter in net.named_parameters():
        if name.endswith(("beta", "gamma")):
            nn.init.normal_(parameter, std=0.3)
    return net.requires_grad_(False)


def build(form: str, size: tuple[int, int], device: str) -> Run:
    """A way to run the network on an image of that size; "ours derain-small" is that form of bundled weights."""
    form, _, weights = form.partition(" ")
    if weights:
        return Restorer.from_weights(weights, device, precision="fp32" if form == "ours" else "bf16", tile="off")
    net = network().to(device)
    if form == "published":
        return as_published(net)
    if form in ("ours", "bf16"):
        return Restorer(net, device, precision="fp32" if form == "ours" else "bf16", tile="off")
    image = torch.zeros(1, 3, *size)
    if form == "compile":
        return torch.compile(net.to(memory_format=torch.channels_last))
    if form == "openvino":
        import openvino

        model = openvino.compile_model(openvino.convert_model(net, example_input=image), "CPU")
        return lambda x: model(x.numpy())
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        torch.onnx.export(net, (image,), f"{folder}/net.onnx", dynamo=False, input_names=["image"])
        session = onnxruntime.InferenceSession(f"{folder}/net.onnx", providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"image": x.numpy()})


def serve(form: str, kept: str, height: int, width: int, device: str) -> None:
    """A worker: one run and its seconds for every line of input; at the end its peak memory."""
    if kept == "kept":
        allocator.keep_pages()
    run, image = build(form, (height, width), device), torch.rand(1, 3, height, width, device=device)
    if form.split()[0] in ("published", "ours", "bf16"):
        run(torch.zeros(1, 3, 16, 16, device=device))  # libraries load what they need
    loaded = resident("VmRSS", reset=True) if device == "cpu" else torch.cuda.memory_allocated()
    print("ready", flush=True)
    with torch.inference_mode(), computing_in("fp32", torch.device(device)):
        for _ in sys.stdin:
            start = time.perf_counter()
            run(image)
            if device == "cuda":
                torch.cuda.synchronize()
            peak = resident("VmHWM") if device == "cpu" else torch.cuda.max_memory_allocated()
            print(time.perf_counter() - start, peak - loaded, flush=True)


class Worker:
    """A process that runs one form on one size whenever it is asked."""

    def __init__(self, column: Column, size: tuple[int, int], device: str):
        command = [sys.executable, __file__, "--serve", *column, *map(str, size), device]
        environment = os.environ | {allocator.VARIABLE: "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.column = column
        self.ready = self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def run(self) -> tuple[float, int]:
        """Seconds of one run, and the peak of memory so far above the loaded program, bytes."""
        assert self.process.stdin
        print("run", file=self.process.stdin, flush=True)
        seconds, peak = self._line().split()
        return float(seconds), int(peak)

    def close(self) -> None:
        self.process.communicate()


def turns(size: tuple[int, int], runs: int) -> int:
    """How often an image of that size is timed."""
    return min(runs, LARGE_RUNS) if size[0] * size[1] >= LARGE else runs


def alternately(
    columns: Sequence[Column], size: tuple[int, int], runs: int, device: str, repeat: int = 1
) -> dict[Column, tuple[list[float], int]]:
    """Seconds of every run after the first, and the peak of memory, of each column that can be had here. A run is the
    median of `repeat` images after one that is not counted, or a single one."""
    workers = [worker for column in columns if (worker := Worker(column, size, device)).ready]
    measured: dict[Column, tuple[list[float], int]] = {}
    for turn in range(runs + 1):
        for worker in workers:
            if repeat > 1:
                worker.run()
            found = [worker.run() for _ in range(repeat)]
            seconds, peak = statistics.median(seconds for seconds, _ in found), found[-1][1]
            times = measured.get(worker.column, ([], 0))[0]
            measured[worker.column] = ([*times, seconds] if turn else [], peak)
    for worker in workers:
        worker.close()
    return measured


def product_rate(device: str) -> float:
    """Multiplications and additions a second in large matrix products, the best of twenty."""
    size = 2048 if device == "cpu" else 8192
    a = torch.rand(size, size, device=device)
    product, times = torch.empty_like(a), []
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(a, a, out=product)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def table(sizes: Sequence[tuple[int, int]], runs: int, also: Sequence[str], device: str) -> tuple[str, Measured]:
    """The Markdown table, and what was measured."""
    columns = [*COLUMNS, *((form, "kept") for form in also)]
    if device != "cpu":
        columns = [PUBLISHED, ("ours", "system")]
    rate, digits = product_rate(device), 2 if device == "cpu" else 4
    where = f"{torch.get_num_threads()} threads of {cpu_name()}" if device == "cpu" else torch.cuda.get_device_name()
    lines = [f"MHNet deblurring, fp32, {where}; PyTorch {torch.__version__}; medians (range) of "
             f"{runs} runs, at most {LARGE_RUNS} from {LARGE / 1e6} megapixels on; a large "
             f"matrix product reaches {rate / 1e9:.0f} GFLOP/s.", ""]  # fmt: skip
    lines += ["| image | form | freed memory | seconds | speed-up | at the same setting | "
              "share of peak rate | peak memory |", "|---|---|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    everything: Measured = {}
    for size in sizes:
        measured = everything[size] = alternately(columns, size, turns(size, runs), device)
        work = gmacs(MHNet, *size) * 2e9
        for (form, kept), (times, peak) in measured.items():
            median = statistics.median(times)
            same = measured.get(("published", kept), measured[PUBLISHED])[0]
            ratios = [statistics.median(measured[PUBLISHED][0]) / median, statistics.median(same) / median]
            faster = " | ".join(f"{ratio:.2f} ×" for ratio in ratios)
            spread = f"{median:.{digits}f} ({min(times):.{digits}f} to {max(times):.{digits}f})"
            lines.append(f"| {size[1]}×{size[0]} | {form} | {kept} | {spread} | {faster} | {work / median / rate:.0%} "
                         f"| {peak / 1e9:.2f} GB |")  # fmt: skip
            print(lines[-1], flush=True)
    return "\n".join(lines), everything


def bfloat16(runs: int) -> str:
    """The fused forms in fp32 and bf16. They compute several small images in each turn, because the others' turns leave
    the caches empty."""
    lines = [f"{torch.get_num_threads()} threads of {cpu_name()} ({bf16_flags()}); PyTorch {torch.__version__}; "
             f"medians (range) of {runs} runs, at most {LARGE_RUNS} from {LARGE / 1e6} megapixels on.", "",
             "| network | image | fp32, seconds | bf16, seconds | faster | faster than published | memory |",
             "|---|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    print("\n".join(lines))
    for weights in ("", "derain-small", "deblur-small"):
        for size in (SIZES[0], SIZES[2]):
            exact, rounded = ((f"{form} {weights}".strip(), "kept") for form in ("ours", "bf16"))
            columns = [exact, rounded] if weights else [exact, rounded, PUBLISHED]
            repeat = 5 if size == SIZES[0] else 1
            measured = alternately(columns, size, turns(size, runs), "cpu", repeat)
            seconds = {column: statistics.median(times) for column, (times, _) in measured.items()}
            spread = [f"{seconds[column]:.3f} ({min(measured[column][0]):.3f} to {max(measured[column][0]):.3f})"
                      for column in (exact, rounded)]  # fmt: skip
            published = "" if weights else f"{seconds[PUBLISHED] / seconds[rounded]:.1f} ×"
            lines.append(f"| {weights or 'MHNet deblurring'} | {size[1]}×{size[0]} | {' | '.join(spread)} "
                         f"| {seconds[exact] / seconds[rounded]:.2f} × | {published} "
                         f"| {measured[rounded][1] / measured[exact][1]:.2f} |")  # fmt: skip
            print(lines[-1], flush=True)
    return "\n".join(lines)


def scaling(runs: int) -> str:
    """Time for each pixel through the `Restorer`, which computes large images in tiles."""
    allocator.keep_pages()
    restore = Restorer(network(), "cpu", precision="fp32")
    lines = ["| megapixels | size | tiles | seconds | microseconds for each pixel |", "|---:|---|---:|---:|---:|"]
    for height, width in SCALING:
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels, times = height * width, []
        for _ in range(runs if pixels < 1 << 20 else 1):
            start = time.perf_counter()
            restore(image)
            times.append(time.perf_counter() - start)
        lines.append(f"| {pixels / 1e6:.2f} | {width}×{height} | {restore.last.count} | {min(times):.2f} "
                     f"| {min(times) / pixels * 1e6:.2f} |")  # fmt: skip
        print(lines[-1], flush=True)
    return "\n".join(lines)


def plot(measured: Measured) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    names = {f"{size[1]}×{size[0]}": by_column for size, by_column in measured.items()}
    columns = list(next(iter(measured.values())))
    for i, (form, kept) in enumerate(columns):
        at = np.arange(len(names)) + (i - (len(columns) - 1) / 2) * 0.8 / len(columns)
        values = [by_column[form, kept] for by_column in names.values()]
        label = f"{form}, memory {'kept' if kept == 'kept' else 'given back'}"
        axes[0].bar(at, [statistics.median(times) for times, _ in values], 0.8 / len(columns), label=label)
        axes[1].bar(at, [peak / 1e9 for _, peak in values], 0.8 / len(columns))
    axes[0].set(yscale="log", ylabel="seconds", title="time")
    axes[1].set(ylabel="GB", title="peak memory above the loaded program")
    for axis in axes:
        axis.set_xticks(range(len(names)), list(names))
    axes[0].legend(fontsize=7)
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=int, default=5, help="timed runs of each (default: %(default)s; large images: 3)"
    )
    parser.add_argument("--sizes", nargs="+", metavar="HxW", help="(default: 256x256 320x480 720x1280)")
    parser.add_argument("--quick", action="store_true", help="256×256 only, three runs of each")
    parser.add_argument("--also", nargs="+", choices=OTHERS, default=[], help="other ways to run it; compiling is slow")
    parser.add_argument("--scaling", action="store_true", help="time for each pixel instead")
    parser.add_argument("--bf16", action="store_true", help="fp32 against bf16 instead")
    parser.add_argument("--write", action="store_true", help="write the page's table and plot")
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        form, kept, height, width, device = args.serve
        return serve(form, kept, int(height), int(width), device)
    if args.scaling:
        text = scaling(args.runs)
        return write_between(PAGE, "scaling", text) if args.write else None
    if args.bf16:
        text = bfloat16(args.runs)
        return write_between(PAGE, "bf16", text) if args.write else None
    sizes = SIZES[: 1 if args.quick else 3]
    if args.sizes:
        sizes = [(int(height), int(width)) for height, _, width in (size.partition("x") for size in args.sizes)]
    runs = 3 if args.quick else args.runs
    text, measured = table(sizes, runs, args.also, "cpu")
    if torch.cuda.is_available():
        text += "\n\n" + table(sizes, runs, (), "cuda")[0]
    print(text.splitlines()[0])
    if args.write:
        write_between(PAGE, "table", text)
        plot(measured)
    return None


if __name__ == "__main__":
    main()
