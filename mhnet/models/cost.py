"""What a network costs."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mhnet.models.mhnet import BilinearUp, CASNetStep


def gmacs(build: Callable[[], nn.Module], height: int = 256, width: int = 256) -> float:
    """Billions of multiplications with additions for one image of that size, as papers count them: those of
    convolutions and matrix products in the published order, by `torch.utils.flop_counter`, which counts each as two.
    Nothing is computed.

    Args:
        build: makes the network; the stage-1 head is counted in training mode alone, where it computes.
        height: of the image, pixels.
        width: likewise.
    """
    with torch.device("meta"):
        network, image = build(), torch.empty(1, 3, height, width)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    steps = (step for step in network.modules() if isinstance(step, CASNetStep))
    return (counter.get_total_flops() / 2 + sum(_saved(step, height, width) for step in steps)) / 1e9


def _saved(step: CASNetStep, height: int, width: int) -> int:
    """Multiplications that a step saves because it convolves its terms before it upsamples them; the published order
    convolves after each upsampling."""
    saved, doublings = 0, len(step.encoder_term) - 1
    pixels = height * width // 4**doublings
    for term in (step.encoder_term, step.decoder_term):
        for done, part in enumerate(term, start=1):
            conv = part[1] if isinstance(part, BilinearUp) else part
            saved += conv.get_parameter("weight").numel() * pixels * (4 ** min(done, doublings) - 1)
    return saved
