"""What the page's server lets in and out.

Gradio's server has more doors than our page needs: it fetches addresses for others, keeps links and reports, and puts
uploads of equal bytes into one folder for everybody. Here stands what may be asked for; everything else is not there.
Uploads are ours, so that no other session shares their folders. Calls are read strictly, before Gradio sees them.
Answers carry a policy by which browsers load nothing from anywhere else. The routes are those of the Gradio versions
that `pyproject.toml` allows.
"""

import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from gradio import Blocks
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mhnet.app.restoring import Limits
from mhnet.app.sessions import Sessions

API = "/gradio_api/"
_UPLOAD = API + "upload"
_HEARTBEAT = API + "heartbeat/"
_FILE = API + "file="
_RESTORE = API + "call/restore"
_GET = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static|svelte)/.*|"
    rf"{API}((info|app_id|startup-events|theme\.css|queue/data|upload_progress)/?|"
    r"heartbeat/[\w-]+|call/restore/\w+|file=.*)"
)
_POST = re.compile(rf"{API}(queue/join|run/predict|cancel|reset|call/restore|upload)/?")
_NAMES = {"session_hash": str, "event_id": str, "fn_index": int, "trigger_id": int}  # in a call, besides its arguments
_WAITING = 10  # times the files that are taken at once: uploads that no session has asked for
_LONGEST = 1000  # characters of a path
_BODY = 1 << 20  # bytes of a call, without its files
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Gate:
    """Stands before Gradio's server; calls must fit the functions of `blocks`, and name the sessions' files."""

    def __init__(self, app: ASGIApp, blocks: Blocks, sessions: Sessions, limits: Limits, hosts: frozenset[str] | None):
        self.app, self.blocks, self.sessions, self.limits = app, blocks, sessions, limits
        self.hosts = hosts  # the names under which the page may be asked for; None for any
        self._coming = 0  # bytes of uploads that are on their way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(Request(scope, receive), _with_headers(send, scope["path"]))
        else:
            await send({"type": "websocket.close"})

    async def _answer(self, request: Request, send: Send) -> None:
        path, receive, answer, holding = request.scope["path"], request.receive, self.app, nullcontext()
        try:
            self._check(request)
            if path == API + "upload_progress":  # which Gradio's own upload would tell of
                answer = Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")
            elif path.rstrip("/") == API + "reset":  # which does nothing in Gradio either
                answer = JSONResponse({"success": True})
            elif path == _UPLOAD:
                answer = await self._upload(request)
            elif request.method == "POST":
                receive = _receiving(await self._checked_call(request), receive)
            elif path.startswith(_HEARTBEAT):
                holding = self.sessions.connected(path.removeprefix(_HEARTBEAT))
        except HTTPException as error:
            answer = JSONResponse({"detail": error.detail}, error.status_code)
        except ClientDisconnect:
            return
        with holding:
            await answer(request.scope, receive, send)

    def _check(self, request: Request) -> None:
        """Raises HTTPException for a request that is not let in."""
        path, host = request.scope["path"], request.headers.get("host", "")
        if self.hosts is not None and re.sub(r":\d+$", "", host) not in self.hosts:
            raise HTTPException(421, "This page has another address.")
        origin = request.headers.get("origin")
        if request.method != "GET" and origin and _host_of(origin) not in (host, *(self.hosts or ())):
            raise HTTPException(403, "Another page cannot ask for this.")
        if "," in request.headers.get("range", ""):
            raise HTTPException(416, "One range at a time is given.")
        if path.startswith(_FILE):
            name = path.removeprefix(_FILE)
            if not self.sessions.holds(name) or not self.sessions.holds(unquote(name)):
                raise HTTPException(404, "There is no such file.")
        queue = self.blocks._queue
        told = request.query_params.get("session_hash", "")
        event = path.startswith(_RESTORE + "/") and path.rsplit("/", 1)[1]
        if path.rstrip("/") == API + "queue/data" and told not in queue.pending_messages_per_session:
            raise HTTPException(404, "Nothing is computed for this session.")
        if event and not any(event in events for events in queue.pending_event_ids_session.values()):
            raise HTTPException(404, "There is no such event, or its result has been fetched.")
        wanted = {"GET": _GET, "HEAD": _GET, "POST": _POST}.get(request.method)
        longest = max(len(part) for part in path.encode(errors="replace").split(b"/"))  # file systems allow 255 bytes
        if wanted is None or len(path) > _LONGEST or longest > 255 or not wanted.fullmatch(path):
            raise HTTPException(404, "There is no such page.")

    async def _upload(self, request: Request) -> Response:
        """Takes files into folders of their own; answers with their paths, as Gradio's own upload does."""
        limits, received = self.limits, 0
        most = limits.files * limits.bytes
        room = limits.total - self.sessions.taken() - self._coming
        if len(self.sessions.unclaimed()) >= _WAITING * limits.files:
            raise HTTPException(503, "Too many uploads wait for their pages: come again later.")

        async def counted() -> AsyncGenerator[bytes, None]:
            nonlocal received
            async for part in request.stream():
                received += len(part)
                self._coming += len(part)
                if received > most:
                    raise HTTPException(413, f"Up to {most / 1e6:.3g} MB are taken at once.")
                if received > room:
                    raise HTTPException(507, "There is no room for more photos now: remove some, or come again later.")
                yield part

        paths: list[Path] = []
        try:
            form = await MultiPartParser(request.headers, counted(), max_files=limits.files, max_fields=0).parse()
            files = [file for file in form.getlist("files") if not isinstance(file, str)]
            if too_large := [file.filename for file in files if (file.size or 0) > limits.bytes]:
                raise HTTPException(413, f"{too_large[0]} is larger than {limits.bytes / 1e6:.3g} MB.")
            for file in files:
                paths.append(self.sessions.new_folder() / safe_name(file.filename or ""))
                with paths[-1].open("wb") as copy:
                    shutil.copyfileobj(file.file, copy)
        except (MultiPartException, ValueError, KeyError) as error:
            raise HTTPException(400, "The upload is no form with files.") from error
        except OSError as error:
            for path in paths:
                shutil.rmtree(path.parent, ignore_errors=True)
            raise HTTPException(507, f"The upload cannot be kept: {error.strerror}.") from error
        finally:
            self._coming -= received
        return JSONResponse([str(path) for path in paths])

    async def _checked_call(self, request: Request) -> bytes:
        """A call that Gradio understands, with no more in it than our page and its clients say."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > _BODY:
                raise HTTPException(413, "The call is too long.")
        try:
            call = orjson.loads(body)  # which takes no NaN, no lone surrogates, and nothing too deep
        except ValueError as error:
            raise HTTPException(400, "The call is no JSON.") from error
        if not isinstance(call, dict) or b"\\u0000" in body:
            raise HTTPException(400, "The call is no object of plain values.")
        kept: dict[str, Any] = {name: call[name] for name, kind in _NAMES.items() if type(call.get(name)) is kind}
        if not re.fullmatch(r"[\w-]{0,64}", kept.get("session_hash", "")):
            raise HTTPException(400, "The session's name is of letters and digits.")
        path = request.scope["path"].rstrip("/")
        if path == API + "cancel":
            if not {"session_hash", "event_id", "fn_index"} <= kept.keys():
                raise HTTPException(400, "The call does not say what to cancel.")
            return orjson.dumps(kept)
        kept["event_data"] = call["event_data"] if isinstance(call.get("event_data"), dict) else {}
        kept["data"] = self._checked_data(call.get("data"), kept.get("fn_index"), path)
        try:
            return orjson.dumps(kept)
        except TypeError as error:  # what an event tells is too deep
            raise HTTPException(400, "The call is no object of plain values.") from error

    def _checked_data(self, data: Any, number: Any, path: str) -> list[Any]:
        """The arguments of a call: values, and our files. A call by name may leave out those that have defaults."""
        by_name = path == _RESTORE
        functions = self.blocks.fns.values()
        called = next((fn for fn in functions if (fn.api_name == "restore" if by_name else fn._id == number)), None)
        if called is None or called.fn is None:
            raise HTTPException(400, "The page has no such function.")
        inputs = called.inputs
        if not isinstance(data, list) or len(data) > len(inputs) or len(data) < (by_name or len(inputs)):
            raise HTTPException(400, "The call has other arguments than the page's.")
        missing = [getattr(block, "value", None) for block in inputs[len(data) :]]
        return [self._checked_argument(value) for value in data] + missing

    def _checked_argument(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._checked_file(part) for part in value]
        return self._checked_file(value) if isinstance(value, dict) else value

    def _checked_file(self, value: Any) -> dict[str, Any]:
        """A file without what Gradio would fetch for it."""
        path = value.get("path") if isinstance(value, dict) else None
        if not isinstance(path, str):
            raise HTTPException(400, "The call has other arguments than the page's.")
        if not self.sessions.holds(path):
            raise HTTPException(404, "There is no such file.")
        return {"path": path, "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}}


def safe_name(name: str) -> str:
    """A file's name that is no path and that every system takes."""
    plain = re.sub(r'[\\/:*?"<>|\x00-\x1f\x7f\ud800-\udfff]', "_", Path(name.replace("\\", "/")).name).strip(" .")
    stem, dot, ending = plain.rpartition(".")
    return f"{(stem or ending)[:80]}{dot and stem and '.'}{ending[:10] if stem else ''}" or "photo"


def _host_of(address: str) -> str:
    """The host and port of an address; '' for text that is none."""
    with suppress(ValueError):
        return urlsplit(address).netloc
    return ""


def _receiving(body: bytes, then: Receive) -> Receive:
    """What gives a body that has been read already."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await then()

    return receive


def _with_headers(send: Send, path: str) -> Send:
    """Sends with the headers that every answer has; files are not kept by browsers."""
    headers = _HEADERS | ({"cache-control": "private, no-store"} if path.startswith(_FILE) else {})

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sending
