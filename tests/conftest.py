"""What several tests share; what the rings of tests hold to (rings.py)."""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rings import CHECK

from mhnet.core import allocator, devices

# Several processes run tests, and programs that compute: each takes one core, however the tests were started.
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
os.environ[devices.VARIABLE] = "0"  # results are the same on every processor
os.environ[allocator.VARIABLE] = "0"  # what a command would keep, the tests after it would hold

# Ignored signals are inherited: behind `nohup … &`, Ctrl-C would not reach the programs that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

FORBIDDEN = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "socket.connect"}
DATA = Path(__file__).parent / "data"
guarded: list[str] = []
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


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves unread what `-m check` would not run: reading all test files takes longer than these tests."""
    name = collection_path.name
    unread = config.getoption("markexpr") == "check" and name.startswith("test_") and name not in CHECK
    return True if unread else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in CHECK and not any(item.get_closest_marker(name) for name in ("ci", "slow")):
            item.add_marker("check")
    long = {item.path for item in items if item.get_closest_marker("ci")}
    items.sort(key=lambda item: item.path not in long)  # a long file that began last would keep one process alone


def forbid(event: str, args: tuple) -> None:
    if guarded and event in FORBIDDEN and threading.current_thread() is threading.main_thread():
        raise AssertionError(f"{guarded[0]} does {event} {args[:2]}: tests of `make check` start and connect nothing")


sys.addaudithook(forbid)


@pytest.fixture(autouse=True)
def nothing_is_started(request: pytest.FixtureRequest) -> Iterator[None]:
    """Holds the tests of `make check` to it that they start no program and open no connection."""
    if request.node.get_closest_marker("check"):
        guarded.append(request.node.name)
    yield
    guarded.clear()


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)
