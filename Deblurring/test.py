"""Restore test images of deblurring with this room's network and score them: `python test.py`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from dataset import TASK
from train import NETWORKS

from mhnet.cli.rooms import test_command

ROOM = Path(__file__).resolve().parent


def main(words: Sequence[str] | None = None, prog: str = "python test.py", room: Path = ROOM) -> int:
    return test_command(TASK, room, NETWORKS, words, prog)


if __name__ == "__main__":
    sys.exit(main())
