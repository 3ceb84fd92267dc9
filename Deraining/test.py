"""Restore test images of deraining and score them: `python test.py`."""

import sys
from pathlib import Path

from mhnet.cli.rooms import test_command
from mhnet.core.tasks import DERAINING

if __name__ == "__main__":
    sys.exit(test_command(DERAINING, Path(__file__).resolve().parent))
