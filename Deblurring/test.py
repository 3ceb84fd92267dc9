"""Restore test images of deblurring and score them: `python test.py`."""

import sys
from pathlib import Path

from mhnet.cli.rooms import test_command
from mhnet.core.tasks import DEBLURRING

if __name__ == "__main__":
    sys.exit(test_command(DEBLURRING, Path(__file__).resolve().parent))
