"""The form of a network that computes fastest on a device."""

import torch
from torch import nn

from mhnet.inference.fuse import fuse, in_bfloat16, local_patch
from mhnet.inference.graphs import GraphedNetwork
from mhnet.models import use_local_statistics


def prepared(network: nn.Module, device: torch.device, local: int | None, form: str) -> tuple[nn.Module, str]:
    """A network as it computes here: on the device, for inference, with local statistics as if trained on such patches,
    in a faster form; and where it has none that was asked for, why not.

    Args:
        network: is moved and changed.
        device: where it computes.
        local: the patches' side in pixels; None: means over the whole image.
        form: "fp32" or "bf16", fused; "graphed"; "" as it is.
    """
    network = network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    if local != local_patch(network):
        use_local_statistics(network, local)
    if not form:
        return network, ""
    if form == "graphed":
        return GraphedNetwork(network), ""
    try:
        return in_bfloat16(fuse(network)) if form == "bf16" else fuse(network), ""
    except ValueError as error:
        return network, str(error)
