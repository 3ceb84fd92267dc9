"""Restore test images of deraining and score them: `python test.py`."""

import sys
from pathlib import Path

from mhnet.rooms import test_command
from mhnet.tasks import DERAINING

if __name__ == "__main__":
    sys.exit(test_command(DERAINING, Path(__file__).resolve().parent))
