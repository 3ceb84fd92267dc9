"""What several tests share."""

import os
from pathlib import Path

import pytest
import torch

from mhnet import allocator

os.environ[allocator.VARIABLE] = "0"  # what a command would keep, the tests after it would hold

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)
