"""Train MHNet for deblurring: `python train.py`, settings in training.yml."""

import sys
from pathlib import Path

from mhnet.cli.rooms import train_command
from mhnet.core.tasks import DEBLURRING

if __name__ == "__main__":
    sys.exit(train_command(DEBLURRING, Path(__file__).resolve().parent))
