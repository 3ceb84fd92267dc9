"""The rooms' own modules, as their scripts import them."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from small import ROOT

NAMES = ("MHNet", "dataset", "train", "test")


def import_room(folder: Path, name: str = "train") -> ModuleType:
    """A module of a room; each room's are modules of their own, although they are called the same."""
    before = {key: sys.modules.pop(key) for key in NAMES if key in sys.modules}
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        for key in NAMES:
            sys.modules.pop(key, None)
        sys.modules.update(before)


_deblurring, _deraining = import_room(ROOT / "Deblurring"), import_room(ROOT / "Deraining")
BLUR, RAIN = _deblurring.RECIPE, _deraining.RECIPE
NETWORKS = _deraining.NETWORKS
sys.path.append(str(ROOT / "Deraining"))  # where loader processes that are started afresh find `dataset`
data = sys.modules["dataset"] = import_room(ROOT / "Deraining", "dataset")
RAIN = replace(RAIN, data=data.build_data)
TrainingCrops, ValidationImages = data.TrainingCrops, data.ValidationImages
