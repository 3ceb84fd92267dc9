"""How far a network is with a photo, and whether it should go on."""

import threading
from collections.abc import Callable
from typing import Any

from torch import nn

Progress = Callable[[float, str], None]
"""Is called with the share that is done, and with words for it."""


class Cancelled(Exception):
    """Nobody waits for the result any more."""


class NetworkProgress:
    """Counts the tiles that are done, and the modules that have been called within a tile.

    Args:
        network: is watched; each of its modules first asks whether to go on.
    """

    def __init__(self, network: nn.Module):
        self._calls = 0
        self._calls_of_a_tile = 0  # 0 until one is done
        self._done = 0
        self._count = 1
        self._tell: Progress = lambda share, words: None
        self._cancelled = threading.Event()
        for module in network.modules():
            module.register_forward_pre_hook(self._module_called)

    def begin(self, tell: Progress, cancelled: threading.Event) -> None:
        """For a photo: whom to tell, and what to look at before each module, which raises Cancelled where it is set."""
        self._calls, self._tell, self._cancelled = 0, tell, cancelled

    def tiles_done(self, done: int, count: int) -> None:
        """For the restorer to call."""
        if done > self._done:
            self._calls_of_a_tile = self._calls
        self._done, self._count, self._calls = done, count, 0
        self._report()

    def _module_called(self, module: nn.Module, arguments: Any) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        self._calls += 1
        self._report()

    def _report(self) -> None:
        within = 0.0
        if self._calls_of_a_tile and self._done < self._count:
            within = min(self._calls / self._calls_of_a_tile, 1)
        words = f"tile {min(self._done + 1, self._count)} of {self._count}" if self._count > 1 else ""
        self._tell((self._done + within) / self._count, words)
