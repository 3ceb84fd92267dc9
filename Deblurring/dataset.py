"""Training and validation data for deblurring, as a PyTorch dataset of this task's settings."""

from pathlib import Path

from mhnet.core.tasks import DEBLURRING
from mhnet.data.datasets import TrainingCrops, ValidationImages
from mhnet.train.config import load_config
from mhnet.train.setup import build_data


def datasets(*overrides: str) -> tuple[TrainingCrops, ValidationImages]:
    """What training.yml, and `KEY VALUE` pairs over it, name: crops to train on and images to validate with.

    Items are uint8 tensors 2×3×H×W: degraded, target. Raises MHNetError where there are no such images.
    """
    return build_data(load_config(DEBLURRING, Path(__file__).with_name("training.yml"), overrides))
