"""What the page's users have brought and been given: a folder for each session, which goes when the session ends.

All of it lies in one temporary folder, which goes with the server:

    ROOT/inbox/TOKEN/NAME       an upload that no session has asked for yet
    ROOT/SESSION/TOKEN/NAME     a session's photos and results

Tokens and the sessions' folders are drawn at random: who does not know a file's path cannot ask for it.
"""

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mhnet.core.errors import MHNetError


class Session:
    """One tab of a browser, or one client.

    Args:
        folder: its own.

    Attributes:
        clean: photos to score with.
        cancelled: whether what it computes should stop.
        connections, running: how many there are of either; while there are, it does not end.
        ends: when it ends otherwise, in seconds of `time.monotonic`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.clean: list[Path] = []
        self.cancelled = threading.Event()
        self.connections = 0
        self.running = 0
        self.ends = 0.0
        folder.mkdir()

    def new_folder(self) -> Path:
        """An empty folder in the session's."""
        folder = self.folder / secrets.token_urlsafe(12)
        folder.mkdir()
        return folder

    def keep_only(self, files: list[Path]) -> None:
        """Removes everything but some files' folders."""
        kept = {file.parent for file in files}
        for folder in self.folder.iterdir():
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)


class Sessions:
    """All that are open.

    Args:
        root: an empty folder for everything.
        grace: seconds for which a session waits for a tab whose connection broke: it may be a phone in a tunnel.
        idle: seconds for which it waits for a client that keeps no connection, and an upload for its session.
    """

    def __init__(self, root: Path, grace: float = 20, idle: float = 900):
        self.root = root.resolve()
        self.grace = grace
        self.idle = idle
        self.inbox = self.root / "inbox"
        self.inbox.mkdir()
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Session:
        """The session that a client calls by this name; it begins with the first call."""
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                session = self._sessions[name] = Session(self.root / secrets.token_urlsafe(12))
            session.ends = time.monotonic() + self.idle
            return session

    def claim(self, session: Session, name: str) -> Path:
        """Where a file that a client names by its path lies in its session, once it is moved there from the inbox.

        Raises:
            MHNetError: it is none of this session, or gone.
        """
        path = Path(name)
        if len(path.parts) >= 2:
            claimed = session.folder / path.parts[-2] / path.parts[-1]
            ours = path in (claimed, self.inbox / path.parts[-2] / path.parts[-1]) and ".." not in path.parts
            if ours and not claimed.exists() and path.is_file():
                path.parent.replace(claimed.parent)
            if ours and claimed.is_file():
                return claimed
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
                over = session not in self._sessions.values() and not session.running
            if over:
                shutil.rmtree(session.folder, ignore_errors=True)

    def close(self, name: str) -> None:
        """Ends a session: what it computes stops, its files go."""
        with self._lock:
            session = self._sessions.pop(name, None)
            busy = session and session.running
        if session:
            session.cancelled.set()
        if session and not busy:
            shutil.rmtree(session.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Ends the sessions whose time has come, and removes uploads that nobody has asked for."""
        for name, session in list(self._sessions.items()):
            if not session.connections and not session.running and time.monotonic() > session.ends:
                self.close(name)
        for folder in self.inbox.iterdir():
            with suppress(FileNotFoundError):  # claimed just now
                if time.time() - folder.stat().st_mtime > self.idle:
                    shutil.rmtree(folder, ignore_errors=True)

    def close_all(self) -> None:
        """Ends all sessions."""
        for name in list(self._sessions):
            self.close(name)
