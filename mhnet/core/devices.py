"""Where to compute."""

import torch

from mhnet.core.errors import MHNetError


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is a CUDA GPU where there is one, else the CPU.

    Raises:
        MHNetError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        gpus = torch.cuda.device_count()
        raise MHNetError(f"There is no device {name!r} here ({gpus} CUDA GPUs are seen): use auto or cpu") from error
    return device
