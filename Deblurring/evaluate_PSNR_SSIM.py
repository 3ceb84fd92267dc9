"""PSNR and SSIM of the images that test.py restored, by the protocols of deblurring."""

import sys
from pathlib import Path

from mhnet.cli.rooms import evaluate_command
from mhnet.core.tasks import DEBLURRING

if __name__ == "__main__":
    sys.exit(evaluate_command(DEBLURRING, Path(__file__).resolve().parent))
