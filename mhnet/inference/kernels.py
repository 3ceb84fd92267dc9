"""Loops in C (`kernels.c`, `gradients.c`) for what lies between products and convolutions in bfloat16, where PyTorch's
own take longer than the products: on Linux, on processors with AVX512_BF16.

The machine's C compiler makes a library of them when they are first needed, in a fraction of a second, and it stays in
the user's cache folder. Without a compiler, or where they were not seen to compute what PyTorch computes, PyTorch
computes it all.
"""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

HEADER, *SOURCES = [Path(__file__).with_name(name) for name in ("kernels.h", "kernels.c", "gradients.c")]
FLAGS = ["-O3", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16", "-mfma", "-fPIC", "-fopenmp"]
SECONDS = 60  # that the compiler may take
TYPES = {"*": ctypes.c_void_p, "float": ctypes.c_float, "long": ctypes.c_long}


def fits(x: Tensor, *others: Tensor | None) -> bool:
    """Whether a kernel can go over H×W×C: in bfloat16, on a CPU, the pixels of each map evenly apart in memory, and
    those of the first without gaps."""
    if x.dtype is not torch.bfloat16 or not x.is_cpu or not x.is_contiguous() or library() is None:
        return False
    return all(y is None or evenly(y) for y in others)


def evenly(x: Tensor) -> bool:
    """Whether the pixels of H×W×C lie evenly apart in memory, their channels side by side."""
    row, pixel, channel = x.stride()
    return channel == 1 and row == x.shape[1] * pixel


def run(name: str, *args: Tensor | float | None) -> None:
    """Calls a kernel, with a tensor for each pointer. Only where something `fits`."""
    getattr(library(), name)(*[value.data_ptr() if isinstance(value, Tensor) else value for value in args])


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they cannot be had."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    compiler = shutil.which(os.environ.get("CC", "")) or shutil.which("cc")
    if sys.platform != "linux" or supported is None or not supported() or compiler is None:
        return None
    try:
        found = loaded(compiler)
        return found if right(found) else None
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: there is no home
        return None


def loaded(compiler: str) -> ctypes.CDLL:
    """The library of the loops in C, from the cache or compiled now.

    Its threads are PyTorch's: it is linked to no OpenMP runtime, and so takes the one that is loaded.

    Raises:
        OSError: it cannot be written or loaded.
        SubprocessError: the compiler does not take it.
    """
    source = "".join(path.read_text() for path in (HEADER, *SOURCES))
    name = hashlib.sha256(repr((source, FLAGS, compiler)).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mhnet"
    path = folder / f"kernels-{name}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            linked, compiled = Path(scratch, "kernels.so"), [Path(scratch, f"{path.stem}.o") for path in SOURCES]
            commands = [[*FLAGS, "-c", path, "-o", made] for path, made in zip(SOURCES, compiled, strict=True)]
            for command in (*commands, ["-shared", *compiled, "-o", linked]):
                subprocess.run([compiler, *command], check=True, capture_output=True, timeout=SECONDS)
            linked.replace(path)
    found = ctypes.CDLL(str(path))
    for function, arguments in re.findall(r"^void (\w+)\((.*?)\) \{", source, re.MULTILINE | re.DOTALL):
        kinds = re.findall(r"[*]|float(?= \w)|long", arguments)
        getattr(found, function).argtypes = [TYPES[kind] for kind in kinds]
    return found


def right(found: ctypes.CDLL) -> bool:
    """Whether two of the kernels compute what PyTorch computes, but for rounding."""
    x = torch.linspace(-3, 5, 70 * 46).sin().view(70, 46).to(torch.bfloat16)
    weight, bias, out = torch.linspace(0.5, 2, 46), torch.linspace(-1, 1, 46), torch.empty_like(x)
    pointers = [tensor.data_ptr() for tensor in (x, weight, bias, out)]
    found.norm(*pointers[:3], 1e-6, pointers[3], 46, 70, 46)
    apart = (out - F.layer_norm(x, (46,), weight, bias, 1e-6)).abs().max()
    found.gate(pointers[0], pointers[3], 46, 70, 23)
    return bool(apart < 0.05 and (out[:, :23] == x[:, :23] * x[:, 23:]).all())
