"""MHNet: Mixed Hierarchy Network for image restoration (Gao & Dang, arXiv 2302.09554).

`mhnet.load(path)` gives the network of any checkpoint; the networks themselves are `mhnet.MHNet` and `mhnet.MHNetV4`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mhnet import hub
    from mhnet.models import MHNet, MHNetV4
    from mhnet.weights import load

__version__ = "0.1.0"
__all__ = ["MHNet", "MHNetV4", "__version__", "hub", "load"]


def __getattr__(name: str) -> Any:
    """Imports PyTorch only once something that needs it is asked for, so that `mhnet --help` stays quick."""
    if name == "load":
        from mhnet.weights import load

        return load
    if name == "hub":
        return importlib.import_module("mhnet.hub")
    if name in ("MHNet", "MHNetV4"):
        from mhnet import models

        return getattr(models, name)
    raise AttributeError(f"module 'mhnet' has no attribute {name!r}")
