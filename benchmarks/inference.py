"""The network as published, operation by operation, against ours: time at inference and in a training step.

Both have the same weights and run alternately in this process; what counts are medians and their ratio.

    python benchmarks/inference.py [--size 256] [--runs 5]
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mhnet.models import MHNet
from mhnet.models.layers import LayerNorm2d
from mhnet.train.losses import psnr_loss


class PublishedLayerNorm(nn.Module):
    """LayerNorm over channels as mean, variance and square root, one operation after the other."""

    def __init__(self, norm: LayerNorm2d):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        normal = (x - mean) / (variance + self.eps).sqrt()
        return self.weight.view(1, -1, 1, 1) * normal + self.bias.view(1, -1, 1, 1)


def as_published(network: nn.Module) -> nn.Module:
    """A copy with every norm written by hand, in contiguous layout."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, LayerNorm2d):
                setattr(module, name, PublishedLayerNorm(child))
    return network.to(memory_format=torch.contiguous_format)


def compare(title: str, published: Callable[[], object], ours: Callable[[], object], runs: int) -> None:
    """Prints the medians of alternating runs, their spread and their ratio."""
    for run in (published, ours):  # the first run of each allocates
        run()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for seconds, run in zip(times, (published, ours), strict=True):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    medians = [statistics.median(seconds) for seconds in times]
    spreads = [f"{min(seconds):.2f} to {max(seconds):.2f}" for seconds in times]
    print(f"| {title} | {medians[0]:.2f} s ({spreads[0]}) | {medians[1]:.2f} s ({spreads[1]}) "
          f"| {medians[0] / medians[1]:.2f} |", flush=True)  # fmt: skip


def training_step(network: nn.Module, images: Tensor, target: Tensor) -> None:
    network.zero_grad(set_to_none=True)
    psnr_loss(network(images).restored, target).backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="height and width at inference (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each (default: %(default)s)")
    args = parser.parse_args()
    torch.manual_seed(0)
    ours = MHNet().eval().to(memory_format=torch.channels_last)
    published = as_published(ours)
    image = torch.rand(1, 3, args.size, args.size)
    with torch.inference_mode():
        difference = (published(image) - ours(image)).abs().max().item()
        print(f"MHNet deblurring, fp32, CPU, {torch.get_num_threads()} threads; largest difference {difference:.1e}\n")
        print("| | as published: median (range) | ours: median (range) | ratio |\n|---|---|---|---|")
        title = f"inference, {args.size}×{args.size}"
        compare(title, lambda: published(image), lambda: ours(image), args.runs)
    batch, target = torch.rand(2, 3, 128, 128), torch.rand(2, 3, 128, 128)
    for network in (published, ours):
        network.train()
    title = "training step, batch 2, 128×128"
    compare(
        title, lambda: training_step(published, batch, target), lambda: training_step(ours, batch, target), args.runs
    )


if __name__ == "__main__":
    main()
