"""The server of the page: one process, one folder, gone when it ends."""

import importlib.util
import os
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mhnet.app.work import Limits
from mhnet.core.errors import MHNetError

PORT = 7860
LOCAL = ("127.0.0.1", "localhost", "::1")  # hosts that only this machine reaches
_TRIED = 20  # ports, from that one up
_SWEEP = 1  # seconds


@dataclass(frozen=True)
class Options:
    """How to serve.

    Args:
        weights: files that take the place of what ships, or come along.
        host: the address to listen on.
        port: None for the first that is free from `PORT` up.
        device: where to compute.
        limits: what is accepted.
        address: the one under which a proxy serves the page, where one does.
        grace: seconds for which a session waits for a tab whose connection broke.
    """

    weights: Sequence[str] = ()
    host: str = "127.0.0.1"
    port: int | None = None
    device: str = "auto"
    limits: Limits = field(default_factory=Limits)
    address: str | None = None
    grace: float = 20


def tame_gradio(folder: Path) -> None:
    """Tells Gradio, before it is imported, to keep its files in a folder and to speak to nobody.

    Raises:
        MHNetError: it is not installed.
    """
    os.environ.update(
        GRADIO_TEMP_DIR=str(folder),
        GRADIO_EXAMPLES_CACHE=str(folder / "examples"),
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_HEARTBEAT_INTERVAL="2",  # seconds after which a client that has left is missed
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_OFFLINE="1",
    )
    if importlib.util.find_spec("gradio") is None:
        raise MHNetError("The page needs Gradio: pip install 'mhnet[app]'.")


@contextmanager
def serving(options: Options) -> Iterator[str]:
    """The page's address, while it is served from a thread of its own.

    Raises:
        MHNetError: Gradio is missing, weights cannot be read, or the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="mhnet-app-", ignore_cleanup_errors=True) as place:
        folder = Path(place).resolve()
        tame_gradio(folder)
        import uvicorn
        from fastapi import FastAPI
        from gradio import mount_gradio_app

        from mhnet.app import gate, page
        from mhnet.app.choices import choices
        from mhnet.app.desk import Desk
        from mhnet.app.sessions import Sessions
        from mhnet.app.work import Workshop

        offered = choices(options.weights)
        sessions = Sessions(folder, options.grace)
        blocks = page.build(Desk(sessions, Workshop(options.device, options.limits), offered), offered)
        listening = _listen(options.host, options.port)
        app = mount_gradio_app(
            FastAPI(openapi_url=None, docs_url=None, redoc_url=None), blocks, path="/", root_path=options.address,
            footer_links=[], run_history=False, max_file_size=options.limits.bytes, ssr_mode=False, pwa=False,
            enable_monitoring=False, mcp_server=False, show_error=False, **page.look(),
        )  # fmt: skip
        guarded = gate.Gate(app, sessions, options.limits, _hosts(options.address, options.host))
        config = uvicorn.Config(guarded, log_level="error", access_log=False, server_header=False,
                                timeout_graceful_shutdown=1, proxy_headers=options.address is not None)  # fmt: skip
        server = uvicorn.Server(config)
        over = threading.Event()
        serve = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        sweep = threading.Thread(target=_sweep, args=(sessions, over), daemon=True)
        serve.start()
        sweep.start()
        try:
            yield f"http://{_named(options.host)}:{listening.getsockname()[1]}/"
        finally:
            over.set()
            server.should_exit = True
            sessions.close_all()
            serve.join(10)


def serve(options: Options, browser: bool) -> None:
    """Serves the page until Ctrl-C or SIGTERM, and says where it is."""
    over = threading.Event()
    with _told_to_end(over), serving(options) as address:
        print(f"The page is at {options.address or address} (Ctrl-C ends it).", flush=True)
        if options.host not in LOCAL:
            print("warning: it has no password; everybody who can reach this machine can use it.", file=sys.stderr)
        if browser:
            with suppress(webbrowser.Error):
                webbrowser.open(address)
        while not over.wait(1):  # for ever, Windows would not look at Ctrl-C
            pass
    print("The page is closed; nothing of it is left.")


def _hosts(address: str | None, host: str) -> frozenset[str] | None:
    """The names that a server may be asked by: where only this machine reaches it, no others than its own, so that no
    page from elsewhere can pretend to be it (DNS rebinding).

    Args:
        address: the one under which a proxy serves the page, where one does.
        host: what the server listens on.
    """
    if host not in LOCAL:
        return None
    public = urlsplit(address or "")
    return frozenset(filter(None, (*LOCAL, "[::1]", public.hostname, public.netloc)))


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    wanted = [port] if port is not None else range(PORT, PORT + _TRIED)
    reason = ""
    for number in wanted:
        listening = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, number))
            listening.listen(128)
        except (OSError, OverflowError) as error:
            listening.close()
            reason = getattr(error, "strerror", None) or str(error)
            continue
        return listening
    tried = f"{host}:{wanted[0]}" if len(wanted) == 1 else f"{host}:{wanted[0]} to {wanted[-1]}"
    raise MHNetError(f"The page cannot be served at {tried} ({reason}): choose another --port or --host.")


def _named(host: str) -> str:
    """What a browser on this machine calls it."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _sweep(sessions: Any, over: threading.Event) -> None:
    while not over.wait(_SWEEP):
        sessions.sweep()


@contextmanager
def _told_to_end(over: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM set the event, however often they come, so that tidying up is not broken off."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, lambda *_: over.set()) for one in signals]
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)
