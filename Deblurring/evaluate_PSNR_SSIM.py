"""PSNR and SSIM of the images that test.py restored, by the protocols of deblurring."""

import sys
from pathlib import Path

from dataset import TASK

from mhnet.cli.rooms import evaluate_command

if __name__ == "__main__":
    sys.exit(evaluate_command(TASK, Path(__file__).resolve().parent))
