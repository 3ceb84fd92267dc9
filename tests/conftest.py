"""What several tests share."""

import faulthandler
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from mhnet.core import allocator

os.environ[allocator.VARIABLE] = "0"  # what a command would keep, the tests after it would hold

# Ignored signals are inherited: behind `nohup … &`, Ctrl-C would not reach the programs that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

DATA = Path(__file__).parent / "data"
ended: dict[str, int] = {}


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Sees to it that the tests end: what holds the interpreter a minute after the last one is shown, and left."""
    if hasattr(config, "workerinput"):
        return  # one of several processes, which the main one ends

    def leave() -> None:
        time.sleep(60)
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
        os._exit(ended.get("status", 1))

    threading.Thread(target=leave, daemon=True).start()


def pytest_sessionfinish(exitstatus: int) -> None:
    ended["status"] = int(exitstatus)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)
