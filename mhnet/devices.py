"""Where to compute."""

import torch

from mhnet.errors import MHNetError


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is a CUDA GPU where there is one, else the CPU.

    Raises:
        MHNetError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise MHNetError(f"device {name!r} cannot be used ({reason}): try auto, cpu, cuda or cuda:1") from error
    return device
