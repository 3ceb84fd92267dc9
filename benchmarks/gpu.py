"""A CUDA GPU: restoring images and a folder, and a training step, as published against ours. At most eight minutes.

All forms have the same weights, run in one process, and take turns; what counts are medians and their ratios. Published
is the eager formulation in exact fp32, without TensorFloat-32. Errors are those of the result against it.

    python benchmarks/gpu.py --write              the tables, into docs/performance.md
    python benchmarks/gpu.py --device cpu --tiny  all of it in a minute, on small networks: shows that it runs
"""

import argparse
import contextlib
import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from machine import cpu_name
from marks import write_between
from published import as_published
from restoring import folder_time
from torch import Tensor, nn

from mhnet.inference import graphs
from mhnet.models import MHNet
from mhnet.restore import memory
from mhnet.restore.precision import Precision, computing_in
from mhnet.restore.restorer import Restorer
from mhnet.train.losses import psnr_loss

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
RUNS, SLOW = 7, 2.0
"""Timed runs of each form, and the seconds from which on three are enough."""
MINUTES = 8
PUBLISHED = "published, fp32"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")


class Scale(NamedTuple):
    """What is computed."""

    network: dict[str, Any]  # MHNet's arguments
    images: list[tuple[int, int, int]]  # N, H, W
    compiled: list[tuple[int, int, int]]  # for which the network is compiled too, which takes a minute each
    folder: tuple[int, int, int]  # photographs, height, width
    crops: tuple[int, int]  # batch, side


FULL = Scale({}, [(1, 256, 256), (16, 256, 256), (1, 720, 1280), (1, 2160, 3840)], [(1, 256, 256), (1, 720, 1280)],
             (40, 3000, 4000), (16, 256))  # fmt: skip
TINY = Scale({"width": 8, "n_feat": 8, "encoder_blocks": (1, 1, 1, 1), "group_blocks": 1}, [(1, 32, 32), (2, 48, 64)],
             [], (2, 48, 64), (2, 32))  # fmt: skip


def network(scale: Scale, device: torch.device) -> MHNet:
    """MHNet with weights of which none is without effect, and which change an image as much as restoring does."""
    torch.manual_seed(0)
    net = MHNet(**scale.network)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("beta", "gamma")):
                nn.init.normal_(parameter, std=0.3)
        net.tail.weight *= 0.05
    return net.to(device)


def timed(forms: dict[str, Callable[[], object]], device: torch.device) -> dict[str, tuple[list[float], float]]:
    """Seconds of every run, in turns, and the peak of GPU memory in GB (0 on a CPU) of each form. One for which memory
    does not suffice is left out."""
    measured: dict[str, tuple[list[float], float]] = {}
    for turn in range(RUNS + 2):  # the first computes as it is, and the second records
        for name, run in list(forms.items()):
            times, peak = measured.get(name, ([], 0.0))
            if len(times) >= 3 and min(times) > SLOW:
                continue
            if device.type == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            try:
                run()
            except RuntimeError as error:
                if not memory.ran_out(error):
                    raise
                del forms[name]
                memory.let_go(device)
                continue
            if device.type == "cuda":
                torch.cuda.synchronize()
                peak = torch.cuda.max_memory_allocated() / 1e9
            seconds = time.perf_counter() - start
            measured[name] = ([*times, seconds] if turn > 1 else [], peak)
    return {name: found for name, found in measured.items() if name in forms}


def rows(measured: dict[str, tuple[list[float], float]], label: str, notes: dict[str, str]) -> list[str]:
    """Table rows: median (range), speed against the first form, peak memory, and a note."""
    first = statistics.median(next(iter(measured.values()))[0])
    lines = []
    for name, (times, peak) in measured.items():
        median = statistics.median(times)
        cells = [label, name, f"{median:.4f} ({min(times):.4f} to {max(times):.4f})", f"{first / median:.2f} ×",
                 f"{peak:.2f} GB", notes.get(name, "")]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def keeping(results: dict[str, Any], name: str, run: Callable[[], object]) -> Callable[[], object]:
    """The same, whose last result is kept under its name."""

    def kept() -> None:
        results[name] = run()

    return kept


@contextlib.contextmanager
def compiling_after(pixels: int) -> Iterator[None]:
    """Within it, networks are compiled after so many pixels."""
    graphs.COMPILED, before = pixels, graphs.COMPILED
    try:
        yield
    finally:
        graphs.COMPILED = before


def restoring(scale: Scale, device: torch.device, until: float) -> list[str]:
    """The table of restoring; of what is compiled, only what begins before that time."""
    lines = ["| images | form | seconds: median (range) | speed | peak memory | largest error, mean error |",
             "|---|---|---:|---:|---:|---:|"]  # fmt: skip
    net = network(scale, device).eval()
    published = as_published(net).eval()

    def as_published_in_fp32(images: Tensor) -> Tensor:
        with torch.inference_mode(), computing_in("fp32", device):
            return published(images).clamp(0, 1)

    def ours(precision: Precision) -> Restorer:
        return Restorer(copy.deepcopy(net), device, precision=precision, tile="off")

    for shape in scale.images:
        images = torch.rand(shape[0], 3, *shape[1:], device=device)
        results: dict[str, Tensor] = {}
        ways: dict[str, Callable[[Tensor], Tensor]] = {PUBLISHED: as_published_in_fp32}
        ways |= {f"ours, {precision}": ours(precision) for precision in PRECISIONS[: 3 if device.type == "cuda" else 2]}
        forms = {name: keeping(results, name, partial(way, images)) for name, way in ways.items()}
        with compiling_after(1 << 62):
            measured = timed(forms, device)
        for precision in PRECISIONS[:2] if shape in scale.compiled else ():
            if time.monotonic() > until:
                print(f"not compiled in {precision} for {shape}: {MINUTES} minutes would not suffice", flush=True)
                continue
            name, way = f"ours, {precision}, compiled", ours(precision)
            with compiling_after(0):
                way(images)
            measured |= timed({name: keeping(results, name, partial(way, images))}, device)
        apart = {name: (results[name] - results[next(iter(measured))]).abs() for name in measured}
        notes = {name: f"{one.max():.1e}, {one.mean():.1e}" for name, one in apart.items()}
        lines += rows(measured, f"{shape[0]} × " * (shape[0] > 1) + f"{shape[2]}×{shape[1]}", notes)
    return lines


def training(scale: Scale, device: torch.device) -> list[str]:
    """The table of a training step: forward, loss, backward. The batch is halved until the published form fits."""
    batch, side = scale.crops
    lines = ["| crops | form | seconds: median (range) | speed | peak memory | loss, dB |",
             "|---|---|---:|---:|---:|---:|"]  # fmt: skip

    def step(net: nn.Module, precision: Precision, images: Tensor, targets: Tensor) -> float:
        net.zero_grad(set_to_none=True)
        with computing_in(precision, device):
            loss = psnr_loss(net(images).restored.float(), targets)
        with computing_in("fp32", device):
            loss.backward()  # in the types of the forward pass
        return loss.item()

    measured: dict[str, tuple[list[float], float]] = {}
    losses: dict[str, float] = {}
    batch *= 2
    while PUBLISHED not in measured and batch > 1:
        batch //= 2
        images, targets = (torch.rand(batch, 3, side, side, device=device) for _ in range(2))
        theirs = as_published(network(scale, device)).train()
        ours = network(scale, device).to(memory_format=torch.channels_last).train()
        ways: dict[str, tuple[nn.Module, Precision]] = {
            PUBLISHED: (theirs, "fp32"), "ours, fp32": (ours, "fp32"), "ours, bf16": (ours, "bf16")}  # fmt: skip
        if device.type == "cuda":
            ways["ours, bf16, compiled"] = torch.compile(copy.deepcopy(ours)), "bf16"  # type: ignore[assignment]
        steps = {name: keeping(losses, name, partial(step, *way, images, targets)) for name, way in ways.items()}
        measured = timed(steps, device)
    label = f"{batch} of {side}×{side}"
    return lines + rows(measured, label, {name: f"{-loss:.4f}" for name, loss in losses.items()})


def folder(scale: Scale, device: torch.device) -> str:
    """One sentence on a folder of photographs."""
    count, height, width = scale.folder
    each, bare = folder_time(Restorer.from_weights("derain-small", device), count, height, width)
    return (f"A folder of {count} JPEGs of {width}×{height} by `derain-small`: {each:.3f} s each, of which the bare "
            f"network takes {bare:.3f} s: {bare / each:.0%}.")  # fmt: skip


def report(scale: Scale, device: torch.device) -> str:
    """All of it, as Markdown."""
    until = time.monotonic() + 60 * (MINUTES - 3)  # the folder and the training step take the rest
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cpu_name()}, as a trial"
    size = sum(parameter.numel() for parameter in network(scale, torch.device("cpu")).parameters())
    parts: Sequence[Sequence[str]] = (
        [f"MHNet of {size:,} parameters on {where}; PyTorch {torch.__version__}."],
        restoring(scale, device, until),
        training(scale, device),
        [folder(scale, device)],
    )
    return "\n\n".join("\n".join(part) for part in parts)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="(default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="small networks and images")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/performance.md")
    args = parser.parse_args(words)
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here; --device cpu --tiny shows that the benchmark runs")
    start, text = time.monotonic(), report(TINY if args.tiny else FULL, torch.device(args.device))
    print(f"\n{text}\n\n{time.monotonic() - start:.0f} s in all")
    if args.write:
        write_between(PAGE, "gpu", text)


if __name__ == "__main__":
    main()
