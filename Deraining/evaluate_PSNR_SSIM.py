"""PSNR and SSIM of the images that test.py restored, by the protocols of deraining."""

import sys
from pathlib import Path

from mhnet.cli.rooms import evaluate_command
from mhnet.core.tasks import DERAINING

if __name__ == "__main__":
    sys.exit(evaluate_command(DERAINING, Path(__file__).resolve().parent))
