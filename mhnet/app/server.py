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
from urllib.parse import urlsplit

from mhnet.app.restoring import Limits
from mhnet.core.errors import MHNetError

PORT = 7860
LOCAL = ("127.0.0.1", "localhost", "::1")  # hosts that only this machine reaches
_TRIED = 20  # ports, from that one up
_REMEMBERED = 100  # sessions of which Gradio keeps what the page looks like


@dataclass(frozen=True)
class Options:
    """How to serve."""

    weights: Sequence[str] = ()  # files that take the place of the bundled weights, or come along
    host: str = "127.0.0.1"  # the address to listen on
    port: int | None = None  # None for the first that is free from `PORT` up
    device: str = "auto"  # where to compute
    limits: Limits = field(default_factory=Limits)  # what is accepted
    address: str | None = None  # the one under which a proxy serves the page, where one does
    grace: float = 20  # seconds for which a session waits for a tab whose connection broke


def tame_gradio(folder: Path) -> None:
    """Tells Gradio, before it is imported, to keep its files in a folder and to speak to nobody."""
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
    """The page's address, while it is served from a thread of its own; MHNetError where Gradio is missing, weights
    cannot be read, or the port is taken."""
    with tempfile.TemporaryDirectory(prefix="mhnet-app-", ignore_cleanup_errors=True) as place:
        folder = Path(place).resolve()
        tame_gradio(folder)
        import uvicorn
        from fastapi import FastAPI
        from gradio import mount_gradio_app

        from mhnet.app import layout
        from mhnet.app.choices import choices
        from mhnet.app.events import Events
        from mhnet.app.gate import Gate
        from mhnet.app.restoring import PhotoRestorer
        from mhnet.app.sessions import Sessions

        sessions, limits = Sessions(folder, options.grace), options.limits
        blocks = layout.build(Events(sessions, PhotoRestorer(options.device, limits), choices(options.weights)))
        blocks.state_session_capacity = _REMEMBERED
        listening = _listen(options.host, options.port)
        app = mount_gradio_app(
            FastAPI(openapi_url=None, docs_url=None, redoc_url=None), blocks, path="/", root_path=options.address,
            footer_links=[], run_history=False, max_file_size=limits.bytes, ssr_mode=False, pwa=False,
            enable_monitoring=False, mcp_server=False, show_error=False, **layout.appearance(),
        )  # fmt: skip
        gate = Gate(app, blocks, sessions, limits, _hosts(options.address, options.host))
        config = uvicorn.Config(gate, log_level="error", access_log=False, server_header=False,
                                timeout_graceful_shutdown=1, proxy_headers=options.address is not None)  # fmt: skip
        server = uvicorn.Server(config)
        over = threading.Event()
        serve = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        sweep = threading.Thread(target=sessions.sweep_until, args=(over,), daemon=True)
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
    """The names that a server may be asked by, None for any: where only this machine reaches it, its own and its
    proxy's alone, so that no page from elsewhere can pretend to be it (DNS rebinding)."""
    if host not in LOCAL:
        return None
    try:
        public = urlsplit(address or "")
    except ValueError as error:
        raise MHNetError(f"{address} is no address; name one such as https://photos.example.org.") from error
    return frozenset(filter(None, (*LOCAL, "[::1]", public.hostname, public.netloc)))


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = range(PORT, PORT + _TRIED) if port is None else [port]
    reason = ""
    for number in ports:
        try:
            return socket.create_server((host, number), family=family, backlog=128)
        except (OSError, OverflowError) as error:  # noqa: PERF203
            reason = getattr(error, "strerror", None) or str(error)
    tried = f"{host}:{ports[0]}" if len(ports) == 1 else f"{host}:{ports[0]} to {ports[-1]}"
    raise MHNetError(f"The page cannot be served at {tried} ({reason}): choose another --port or --host.")


def _named(host: str) -> str:
    """What a browser on this machine calls it."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


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
