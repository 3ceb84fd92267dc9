"""In how many bits to compute.

fp32 is what weights are trained and scored in; on a CUDA GPU, convolutions then do not round their inputs to
TensorFloat-32 (10 bits), which PyTorch lets them do by default. In bf16 and fp16, convolutions compute by autocast in
16 bits while norms and attention stay in fp32 (`mhnet.models.mhnet.full_precision`); results that are not finite are
computed again in fp32. On a CPU, a fused network computes in bf16 itself (`mhnet.inference.fuse.in_bfloat16`).
"""

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch

from mhnet.core.devices import faster_in_bf16, has_bf16_instructions
from mhnet.core.errors import MHNetError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "bf16", "fp16")
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(name: Precision, device: torch.device) -> Precision:
    """The precision to compute in: "auto" is fp16 on a CUDA GPU with tensor cores, bf16 on a CPU that is faster so
    (results of more than 8 bits are in fp32 all the same, see `Restorer`), and fp32 elsewhere.

    On a GPU fp16 and not bf16, because bf16 keeps 8 bits of a value and fp16 11; what leaves its range is computed
    again.

    Raises:
        MHNetError: the device does not compute in that precision.
    """
    if name not in PRECISIONS:
        raise MHNetError(f"There is no precision {name!r}: use one of {', '.join(PRECISIONS)}.")
    if name == "auto" and device.type == "cpu":
        return "bf16" if faster_in_bf16() else "fp32"
    if name == "auto":
        return "fp16" if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0) else "fp32"
    if name != "fp32" and device.type not in ("cpu", "cuda"):
        raise MHNetError(f"Half precision is for the CPU and CUDA GPUs: use --precision fp32 on {device}.")
    return name


def slower_than_fp32(precision: Precision, device: torch.device) -> str:
    """One sentence where bf16 takes longer than fp32, on an x86 processor without instructions for it; else ''."""
    x86 = device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64")
    if precision != "bf16" or not x86 or has_bf16_instructions() is not False:
        return ""
    return "this processor has neither AVX512_BF16 nor AMX, so that bf16 is slower than --precision fp32"


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Within it, a network computes in that precision."""
    if precision == "fp32":
        return _all_bits() if device.type == "cuda" else nullcontext()
    return torch.autocast(device.type, _HALVES[precision])


@contextmanager
def _all_bits() -> Iterator[None]:
    """Within it, CUDA computes fp32 in fp32."""
    kinds: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [kind.allow_tf32 for kind in kinds]
    try:
        for kind in kinds:
            kind.allow_tf32 = False
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.allow_tf32 = value
