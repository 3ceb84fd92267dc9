"""A training step of the network as published, operation by operation, against ours: time, memory, gradients.

Each kind runs in a process of its own, because how memory is kept is a process's setting; the steps alternate between
them, only one computes at a time. Memory is a step's peak above the loaded program, in fresh processes.

    python benchmarks/training.py [--quick] [--runs 7] [--batch 2] [--size 128] [--device cpu] [--write PAGE]
    python benchmarks/training.py --bf16 [--write PAGE]   ours on a CPU, fp32 against bf16: steps, losses of 200 steps
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from machine import bf16_flags, cpu_name, resident
from marks import write_between
from photos import enlarged
from published import as_published
from torch import Tensor, nn

from mhnet.core.allocator import keep_pages
from mhnet.core.tasks import DEBLURRING
from mhnet.models import MHNet, MHNetArgs, use_checkpointing
from mhnet.restore.precision import computing_in
from mhnet.train.config import load_config, network_args
from mhnet.train.losses import psnr_loss
from mhnet.train.parts import speed_up

PRESET = Path(__file__).resolve().parent.parent / "Deblurring" / "training_small.yml"
IN_A_ROW = 5
"""Steps of a kind in each turn of --bf16, whose median counts, after one that finds the caches as others left them."""
STEPS, QUARTER, CROPS = 200, 50, (4, 128)


class Kind(NamedTuple):
    """What one process runs."""

    title: str
    ours: bool
    keeps_pages: bool
    checkpointing: bool = False
    bf16: bool = False
    small: bool = False


KINDS = {
    "published": Kind("as published, the system's allocator", False, False),
    "published_kept": Kind("as published, pages kept", False, True),
    "ours": Kind("ours, the system's allocator", True, False),
    "ours_kept": Kind("**ours, by default**: pages kept", True, True),
    "recomputed": Kind("ours, checkpointing, the system's allocator", True, False, True),
    "recomputed_kept": Kind("ours, checkpointing, pages kept", True, True, True),
    "ours_bf16": Kind("MHNet for deblurring", True, True, bf16=True),
    "small_kept": Kind("the small network", True, True, small=True),
    "small_bf16": Kind("the small network", True, True, bf16=True, small=True),
}
ALL = tuple(name for name, kind in KINDS.items() if not kind.bf16 and not kind.small)
QUICK = ("published", "published_kept", "ours", "ours_kept", "recomputed")


def small() -> MHNet:
    """The small network for deblurring, as its preset says."""
    args = network_args(load_config(DEBLURRING, PRESET))
    assert isinstance(args, MHNetArgs)
    return MHNet(args)


def make_network(kind: Kind, device: str) -> nn.Module:
    """MHNet deblurring with β and γ away from zero, so that no gradient vanishes."""
    torch.manual_seed(0)
    network = small() if kind.small else MHNet()
    for name, parameter in network.named_parameters():
        if name.endswith(("beta", "gamma")):
            nn.init.normal_(parameter, std=0.3)
    network = network.to(memory_format=torch.channels_last) if kind.ours else as_published(network)
    if kind.checkpointing:
        use_checkpointing(network)
    if kind.bf16:
        speed_up(network)
    return network.to(device).train()


def make_step(kind: Kind, batch: int, size: int, device: str) -> tuple[nn.Module, Callable[[], None]]:
    network = make_network(kind, device)
    images, target = (torch.rand(batch, 3, size, size).to(device) for _ in range(2))

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with computing_in("bf16", torch.device(device)) if kind.bf16 else nullcontext():
            restored = network(images).restored
        psnr_loss(restored.float(), target).backward()
        if device != "cpu":
            torch.cuda.synchronize()

    return network, step


def serve(kind: Kind, batch: int, size: int, device: str) -> None:
    """A worker: a line from the standard input, a step, its seconds."""
    if kind.keeps_pages:
        keep_pages()
    _, step = make_step(kind, batch, size, device)
    step()  # allocates
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)


def measure_memory(kind: Kind, batch: int, size: int, device: str) -> None:
    """A worker: prints the peak of two steps above the loaded program."""
    if kind.keeps_pages:
        keep_pages()
    _, warm_up = make_step(kind, 1, 16, device)
    warm_up()  # libraries load what they need
    _, step = make_step(kind, batch, size, device)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 1e6
    else:
        before = resident("VmRSS", reset=True) / 1e6
    step()
    step()
    peak = torch.cuda.max_memory_allocated() / 1e6 if device != "cpu" else resident("VmHWM") / 1e6
    print(peak - before)


def difference(batch: int, size: int, device: str) -> float:
    """The largest relative difference of any parameter's gradient, ours against published."""
    gradients: list[list[Tensor]] = []
    for name in ("published", "ours"):
        network, step = make_step(KINDS[name], batch, size, device)
        with computing_in("fp32", torch.device(device)):
            step()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    return max(((ours - own).norm() / own.norm()).item() for own, ours in zip(*gradients, strict=True))


def call(*arguments: object) -> list[str]:
    return [sys.executable, __file__, *map(str, arguments)]


def time_kinds(
    names: tuple[str, ...], runs: int, common: tuple[object, ...], in_a_row: int = 1
) -> dict[str, list[float]]:
    """Seconds of `runs` steps of each kind, taken in turn; or of the median of so many in a row."""
    workers = {}
    for name in names:
        command = call("--worker", name, *common)
        workers[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(name: str) -> str:
        line = workers[name].stdout.readline()
        if not line:
            raise SystemExit(f"the process for {name} ended: is there enough memory?")
        return line

    seconds: dict[str, list[float]] = {name: [] for name in names}
    try:
        for name in names:
            answer(name)
        for _ in range(runs):
            for name in names:
                times = []
                for _ in range(in_a_row + (in_a_row > 1)):
                    workers[name].stdin.write("\n")
                    workers[name].stdin.flush()
                    times.append(float(answer(name)))
                seconds[name].append(statistics.median(times[-in_a_row:]))
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return seconds


def memory_of(name: str, common: tuple[object, ...]) -> float:
    done = subprocess.run(call("--worker", name, "--memory", *common), capture_output=True, text=True, check=True)
    return float(done.stdout)


def table(seconds: dict[str, list[float]], memory: dict[str, float]) -> str:
    """A row for each kind; ratios to the published formulation with the system's allocator and with its own."""
    lines = ["| | a step: median (range) | speed | speed, same allocator | peak memory | memory |",
             "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        kind = KINDS[name]
        like = "published_kept" if kind.keeps_pages else "published"
        cells = [f"{medians[name]:.2f} s ({min(values):.2f} to {max(values):.2f})",
                 f"{medians['published'] / medians[name]:.2f}×", f"{medians[like] / medians[name]:.2f}×"]  # fmt: skip
        if name in memory:
            cells += [f"{memory[name]:,.0f} MB", f"{memory[name] / memory['published']:.2f}×"]
        lines.append(f"| {kind.title} | {' | '.join(cells + ['', ''][: 5 - len(cells)])} |")
    return "\n".join(lines)


def report(args: argparse.Namespace, common: tuple[Any, ...]) -> None:
    names = QUICK if args.quick else ALL
    if args.device != "cpu":  # a GPU's memory is kept by PyTorch itself
        names = tuple(name for name in names if not KINDS[name].keeps_pages)
    threads = f"{torch.get_num_threads()} threads" if args.device == "cpu" else torch.cuda.get_device_name()
    print(f"MHNet deblurring, batch {args.batch}, {args.size}×{args.size}, fp32, {args.device}, {threads}", flush=True)
    apart = difference(args.batch, args.size, args.device)
    print(f"largest difference of a parameter's gradient, relative: {apart:.0e}\n", flush=True)
    seconds = time_kinds(names, 3 if args.quick else args.runs, common)
    measurable = args.device != "cpu" or Path("/proc/self/status").exists()
    memory = {name: memory_of(name, common) for name in names} if measurable else {}
    text = table(seconds, memory)
    print(text)
    shipped = "ours_kept" if "ours_kept" in names else "ours"
    speed = statistics.median(seconds["published"]) / statistics.median(seconds[shipped])
    print(f"\nA step as shipped is {speed:.2f} times as fast as the published operations", end="")
    print(f" in {memory[shipped] / memory['published']:.2f} times their memory." if memory else ".")
    if args.write:
        write_between(args.write, "training step", text)


def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Crops of photographs, and the same under a shake: the mean of a few pixels in a row or a column."""
    random = torch.Generator().manual_seed(seed)
    photos = [torch.from_numpy(photo).permute(2, 0, 1) / 255 for photo in enlarged(8, 512, 512)]
    count, side = CROPS

    def draw(end: int) -> int:
        return int(torch.randint(end, (1,), generator=random))

    for _ in range(STEPS):
        sharp = []
        for _ in range(count):
            top, left = draw(512 - side), draw(512 - side)
            sharp.append(photos[draw(len(photos))][:, top : top + side, left : left + side])
        target, length = torch.stack(sharp), 3 + 2 * draw(4)
        window = (1, length) if draw(2) else (length, 1)
        padded = F.pad(target, [window[1] // 2] * 2 + [window[0] // 2] * 2, mode="replicate")
        yield F.avg_pool2d(padded, window, 1), target


def losses(seed: int, bf16: bool) -> list[float]:
    """The PSNR in dB of each step's crops, as the small network learns, as by its preset."""
    torch.manual_seed(seed)
    network = small().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, (0.9, 0.9), weight_decay=1e-4)
    if bf16:
        speed_up(network)
    found = []
    for images, target in batches(seed):
        with computing_in("bf16" if bf16 else "fp32", torch.device("cpu")):
            restored = network(images.contiguous(memory_format=torch.channels_last)).restored
        loss = psnr_loss(restored.float(), target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimizer.step()
        found.append(-loss.item())
    return found


def bfloat16(runs: int, page: Path | None) -> None:
    """Steps in fp32 and in bf16, and how well the small network learns in both."""
    lines = [f"{torch.get_num_threads()} threads of {cpu_name()} ({bf16_flags()}); PyTorch {torch.__version__}; "
             f"medians (range) of {runs} turns of {IN_A_ROW} steps.", "",
             "| network | crops | fp32, a step | bf16 | faster |", "|---|---|---:|---:|---:|"]  # fmt: skip
    for names, crops in ((("ours_kept", "ours_bf16"), (2, 128)), (("small_kept", "small_bf16"), CROPS)):
        seconds = time_kinds(names, runs, ("--batch", crops[0], "--size", crops[1]), IN_A_ROW)
        cells = [f"{statistics.median(values):.3f} s ({min(values):.3f} to {max(values):.3f})"
                 for values in seconds.values()]  # fmt: skip
        exact, rounded = map(statistics.median, seconds.values())
        lines.append(f"| {KINDS[names[1]].title} | {crops[0]} of {crops[1]}×{crops[1]} | {' | '.join(cells)} "
                     f"| {exact / rounded:.2f} × |")  # fmt: skip
    ends = range(QUARTER, STEPS + 1, QUARTER)
    heads = [f"{end - QUARTER + 1} to {end}" for end in ends]
    lines += ["", f"| PSNR of the crops, mean of steps | {' | '.join(heads)} |", f"|---|{'---:|' * len(ends)}"]
    print("\n".join(lines), flush=True)
    for seed in range(2):
        for bf16 in (False, True):
            found = losses(seed, bf16)
            means = [f"{statistics.mean(found[end - QUARTER : end]):.2f} dB" for end in ends]
            lines.append(f"| seed {seed}, {'bf16' if bf16 else 'fp32'} | {' | '.join(means)} |")
            print(lines[-1], flush=True)
    if page:
        write_between(page, "training in bf16", "\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="timed steps of each kind (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="three steps of each, fewer kinds: about a minute")
    parser.add_argument("--batch", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="side of the crops (default: %(default)s)")
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu", help="(default here: %(default)s)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="a Markdown page to put the table into")
    parser.add_argument("--bf16", action="store_true", help="fp32 against bf16 on a CPU instead")
    parser.add_argument("--worker", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work = measure_memory if args.memory else serve
        work(KINDS[args.worker], args.batch, args.size, args.device)
    elif args.bf16:
        bfloat16(args.runs, args.write)
    else:
        report(args, ("--batch", args.batch, "--size", args.size, "--device", args.device))


if __name__ == "__main__":
    main()
