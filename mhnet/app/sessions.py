"""Whose file is whose: the folders of each session, which go when the session ends.

Every file lies in a folder of its own, ROOT/TOKEN/NAME, with a token drawn at random: who does not know a file's path
cannot ask for it. An upload belongs to the first session that names it.
"""

import os
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mhnet.core.errors import MHNetError

_LEAST = 1 << 20  # bytes that a file counts for, so that many small ones reach the limit too


@dataclass(eq=False)
class Session:
    """One tab of a browser, or one client. While it has connections, or something runs, it does not end."""

    folders: set[Path] = field(default_factory=set)  # what it has brought and been given
    results: list[dict[str, Any]] = field(default_factory=list)  # what the latest run has made, for the viewer
    cancelled: threading.Event = field(default_factory=threading.Event)  # whether what it computes should stop
    connections: int = 0
    running: int = 0
    ends: float = 0.0  # when it ends otherwise, in seconds of `time.monotonic`
    closed: bool = False  # whether it has ended

    def keep_only(self, files: list[Path]) -> None:
        """Removes everything but some files' folders, and forgets the results."""
        self.results = []
        for folder in self.folders - {file.parent for file in files}:
            self.folders.discard(folder)
            shutil.rmtree(folder, ignore_errors=True)


class Sessions:
    """All that are open, with an empty folder for everything."""

    def __init__(self, root: Path, grace: float = 20, idle: float = 900):
        self.root = root.resolve()
        self.grace = grace  # seconds for which a session waits for a tab whose connection broke: perhaps in a tunnel
        self.idle = idle  # seconds for which it waits for a client without a connection, and an upload for its session
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()

    def get(self, name: str) -> Session:
        """The session that a client calls by this name; it begins with the first call."""
        with self._lock:
            session = self._sessions.setdefault(name, Session())
            session.ends = time.monotonic() + (self.idle if session.folders else self.grace)
            return session

    def new_folder(self, session: Session | None = None) -> Path:
        """An empty folder: the session's, or for an upload that no session has named yet."""
        folder = self.root / secrets.token_urlsafe(12)
        folder.mkdir()
        if session:
            session.folders.add(folder)
        return folder

    def holds(self, name: str) -> bool:
        """Whether a path is that of some session's file, as it is and with nothing in it that leads elsewhere."""
        path = Path(name)
        try:
            return path.parent.parent == self.root and ".." not in path.parts and stat.S_ISREG(path.lstat().st_mode)
        except (OSError, ValueError):  # too long a name, or none
            return False

    def claim(self, session: Session, name: str) -> Path:
        """The path of a session's file; an upload becomes the session's. MHNetError for another's, or one gone."""
        path = Path(name)
        with self._lock:
            others = (other for other in self._sessions.values() if other is not session)
            if self.holds(name) and not any(path.parent in other.folders for other in others):
                session.folders.add(path.parent)
                return path
        raise MHNetError(f"{path.name} is not here any more: choose it again.")

    @contextmanager
    def connected(self, name: str) -> Iterator[None]:
        """While it lasts, the session does not end. Then what it computes stops, and it has `grace` to come back."""
        session = self.get(name)
        session.connections += 1
        try:
            yield
        finally:
            session.connections -= 1
            if not session.connections:
                session.cancelled.set()
                session.ends = time.monotonic() + self.grace

    @contextmanager
    def working(self, session: Session) -> Iterator[None]:
        """While it lasts, the session does not end, and its files stay."""
        with self._lock:
            session.running += 1
        session.cancelled.clear()
        try:
            yield
        finally:
            with self._lock:
                session.running -= 1
            if session.closed and not session.running:
                session.keep_only([])

    def close(self, name: str) -> None:
        """Ends a session: what it computes stops, its files go."""
        with self._lock:
            session = self._sessions.pop(name)
            session.closed = True
        session.cancelled.set()
        if not session.running:
            session.keep_only([])

    def sweep(self) -> None:
        """Ends the sessions whose time has come, and removes uploads that nobody has asked for."""
        for name, session in list(self._sessions.items()):
            if not session.connections and not session.running and time.monotonic() > session.ends:
                self.close(name)
        for folder in self.unclaimed():
            with suppress(FileNotFoundError):  # removed just now
                if time.time() - folder.stat().st_mtime > self.idle:
                    shutil.rmtree(folder, ignore_errors=True)

    def sweep_until(self, over: threading.Event) -> None:
        """Sweeps each second."""
        while not over.wait(1):
            self.sweep()

    def unclaimed(self) -> set[Path]:
        """The folders of uploads that no session has named yet."""
        with self._lock:
            owned = {folder for session in self._sessions.values() for folder in session.folders}
            return set(self.root.iterdir()) - owned

    def close_all(self) -> None:
        """Ends all sessions."""
        for name in list(self._sessions):
            self.close(name)

    def taken(self) -> int:
        """Bytes of all files; small ones count for a megabyte."""
        total = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                with suppress(FileNotFoundError):  # removed just now
                    total += max(Path(folder, name).stat().st_size, _LEAST)
        return total
