"""Where to compute, and how images get there and back.

On a CUDA GPU both ways go through pinned memory, which the GPU reads and writes while other things compute.
"""

import os

import torch
from torch import Tensor

from mhnet.core.errors import MHNetError

VARIABLE = "MHNET_BF16"
INSTRUCTIONS = ("avx512_bf16", "amx_tile")  # that a processor computes bf16 by, in PyTorch's words
PINNED = 256 << 20  # bytes at most of what is pinned: such memory is not given back


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


def faster_in_bf16() -> bool:
    """Whether the CPU has AVX512_BF16 or AMX, and `MHNET_BF16=0` in the environment does not forbid "auto" its use."""
    return os.environ.get(VARIABLE, "1") != "0" and has_bf16_instructions() is True


def has_bf16_instructions() -> bool | None:
    """Whether the CPU has one of INSTRUCTIONS; None where PyTorch cannot tell, as before 2.6."""
    asked = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in INSTRUCTIONS]
    return any(ask() for ask in asked if ask) or (None if None in asked else False)


def sent(image: Tensor, device: torch.device) -> Tensor:
    """An image N×C×H×W on the device, in its own type, pixel by pixel in memory where it has to be copied."""
    if pinned(image, device):
        image = image.contiguous(memory_format=torch.channels_last).pin_memory()
    return image.to(device, non_blocking=device.type == "cuda")


def room_like(image: Tensor, device: torch.device) -> Tensor:
    """A tensor of the image's kind, where it is, for what comes from the device."""
    return torch.empty_like(image, pin_memory=pinned(image, device))


def pinned(image: Tensor, device: torch.device) -> bool:
    """Whether an image on the CPU goes to the device, or comes from there, through pinned memory."""
    return device.type == "cuda" and image.device.type == "cpu" and image.nbytes <= PINNED


def arrived(device: torch.device) -> None:
    """Waits for what a CUDA GPU computes and sends."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
