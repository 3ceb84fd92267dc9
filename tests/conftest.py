"""What several tests share."""

from pathlib import Path

import pytest
import torch

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)
