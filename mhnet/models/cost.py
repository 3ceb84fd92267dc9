"""What a network costs."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mhnet.models.mhnet import CASNetStep


def gmacs(build: Callable[[], nn.Module], height: int = 256, width: int = 256) -> float:
    """Billions of multiplications with additions for one image of that size, as papers count them: those of
    convolutions and matrix products in the published order, by `torch.utils.flop_counter`, which counts each as two.
    Nothing is computed.

    Args:
        build: makes the network.
    """
    with torch.device("meta"):
        network, image = build().eval(), torch.empty(1, 3, height, width)
    for step in network.modules():
        if isinstance(step, CASNetStep):  # ours convolves before it upsamples, which takes fewer
            step.terms = step.terms_as_published
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops() / 2e9
