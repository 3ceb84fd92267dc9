"""Stopping when asked to: after the step at hand, with everything saved."""

import signal
import threading
from types import FrameType
from typing import Any

from mhnet.core.errors import MHNetError


class Stopped(MHNetError):
    """A run that a signal has stopped, after it was saved.

    Args:
        step: the last one that was taken.
        number: the signal's.
    """

    def __init__(self, step: int, number: int):
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} and saved after step {step}: the same command goes on from there")
        self.exit_status = 128 + number


class StopRequest:
    """Takes note of SIGTERM and Ctrl-C while it is entered; a second Ctrl-C interrupts at once.

    In a thread other than the main one, where Python allows no handlers, it takes note of nothing.
    """

    def __init__(self) -> None:
        self.number = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
