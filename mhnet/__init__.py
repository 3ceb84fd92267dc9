"""MHNet: Mixed Hierarchy Network for image restoration (Gao & Dang, arXiv 2302.09554).

`mhnet.load(path)` gives the network of any checkpoint; the networks themselves are `mhnet.MHNet` and `mhnet.MHNetV4`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mhnet.core.version import __version__

if TYPE_CHECKING:
    from mhnet.checkpoints import hub, spandrel
    from mhnet.checkpoints.networks import MHNet, MHNetV4, load

__all__ = ["MHNet", "MHNetV4", "__version__", "hub", "load", "spandrel"]


def __getattr__(name: str) -> Any:
    """Imports PyTorch only once something that needs it is asked for, so that `mhnet --help` stays quick."""
    if name in ("hub", "spandrel"):
        return importlib.import_module(f"mhnet.checkpoints.{name}")
    if name in __all__:
        return getattr(importlib.import_module("mhnet.checkpoints.networks"), name)
    raise AttributeError(f"module 'mhnet' has no attribute {name!r}")
