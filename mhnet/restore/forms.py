"""The form of a network that computes fastest on a device."""

from typing import NamedTuple

import torch
from torch import nn

from mhnet.inference.fuse import FusedNetwork, fuse, in_bfloat16, local_patch
from mhnet.inference.graphs import GraphedNetwork
from mhnet.models import use_local_statistics
from mhnet.restore.precision import Precision, choose_precision


class Forms(NamedTuple):
    """A network as it computes on a device.

    Attributes:
        network: for results of 8 bits.
        exact: for others, where "auto" takes bf16 for those on a CPU; None where they are computed alike.
        precision: of the first.
        autocast: to compute both within.
        as_written: why there is no faster form that was asked for; else ''.
    """

    network: nn.Module
    exact: nn.Module | None
    precision: Precision
    autocast: Precision
    as_written: str


def prepared(
    network: nn.Module, device: torch.device, local: int | None, precision: Precision, fused: bool, graphed: bool
) -> Forms:
    """A network as it computes here: on the device, for inference.

    Args:
        network: is moved and changed.
        device: where it computes.
        local: the side in pixels of the patches that local statistics follow; None: means over the whole image.
        precision: as for `choose_precision`, whose errors it raises.
        fused: look for a fused form, on a CPU.
        graphed: record and compile it, on a CUDA GPU.
    """
    chosen = choose_precision(precision, device)
    network = network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    if local != local_patch(network):
        use_local_statistics(network, local)
    why = ""
    if graphed and device.type == "cuda":
        network = GraphedNetwork(network)
    elif fused and device.type == "cpu" and chosen != "fp16":
        try:
            network = fuse(network)
        except ValueError as error:
            why = str(error)
    if isinstance(network, FusedNetwork):
        if chosen != "bf16":
            return Forms(network, None, chosen, "fp32", why)
        return Forms(in_bfloat16(network), network if precision == "auto" else None, chosen, "fp32", why)
    if precision == "auto" and device.type == "cpu":
        chosen = "fp32"
    return Forms(network, None, chosen, chosen, why)
