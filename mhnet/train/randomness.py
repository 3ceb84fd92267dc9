"""The random generators of Python, NumPy and PyTorch: seeded, and carried across an interruption."""

import random

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int, torch_seed: int) -> None:
    """Seeds Python's and NumPy's generators with one number and PyTorch's with another, as in the recipe."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(torch_seed)


def random_state() -> dict[str, Tensor]:
    """Where this process's generators stand, as tensors."""
    _, python, python_gauss = random.getstate()
    _, numpy, position, has_gauss, numpy_gauss = np.random.get_state(legacy=True)
    gauss = [python_gauss is not None, python_gauss or 0.0, numpy_gauss]
    state = {
        "python": torch.tensor(python),
        "numpy": torch.tensor([*map(int, numpy), position, has_gauss]),
        "gauss": torch.tensor(gauss, dtype=torch.double),
        "torch": torch.get_rng_state(),
    }
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_random_state(state: dict[str, Tensor]) -> None:
    """Puts this process's generators where `random_state` found them."""
    has_python_gauss, python_gauss, numpy_gauss = state["gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), python_gauss if has_python_gauss else None))
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_gauss, numpy_gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
