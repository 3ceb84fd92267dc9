"""The option --gpus: which GPUs CUDA shows to the program."""

import argparse
import os

from mhnet.core.errors import MHNetError


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """Adds the option."""
    parser.add_argument("--gpus", help="numbers of the GPUs to show to CUDA, e.g. 0")


def show_gpus(gpus: str | None) -> None:
    """Limits CUDA to these GPUs; must come before PyTorch looks for them."""
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus


def check_gpus(gpus: str | None) -> None:
    """Raises MHNetError where GPUs were asked for by number and are not there."""
    import torch

    if gpus and not torch.cuda.is_available():
        raise MHNetError(f"There is no GPU {gpus} here: leave out --gpus to compute on the CPU")
