"""What the page's server lets in and out.

Gradio's server has more doors than our page needs: it fetches addresses for others, keeps links and reports. Here
stands what may be asked for; everything else is not there. Uploads are ours, so that each lies in a folder of its own
that no other session shares. Answers carry a policy by which browsers load nothing from anywhere else.
"""

import json
import re
import secrets
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mhnet.app.sessions import Sessions
from mhnet.app.work import Limits

API = "/gradio_api/"
_HEARTBEAT = API + "heartbeat/"
_FILE = API + "file="
_OPEN = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static|svelte)/.*|"
    rf"{API}((info|app_id|startup-events|theme\.css|queue/join|queue/data|cancel|reset|upload_progress)/?|"
    r"heartbeat/[\w-]+|(call|run)/.*|file=.*)"
)
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
    """Stands before Gradio's server.

    Args:
        app: the server.
        sessions: whose files may be named in calls.
        limits: of uploads.
        hosts: the names under which the page may be asked for; None for any.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, limits: Limits, hosts: frozenset[str] | None):
        self.app = app
        self.sessions = sessions
        self.limits = limits
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            else:
                await send({"type": "websocket.close"})
            return
        request = Request(scope, receive)
        path = scope["path"]
        answer: ASGIApp | None = self._refusal(request)
        holding: AbstractContextManager[None] = nullcontext()
        if path == API + "upload_progress":  # which Gradio's own upload would tell of
            answer = answer or Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")
        if answer is None and path == API + "upload" and request.method == "POST":
            answer = await self._upload(request)
        elif answer is None and request.method == "POST":
            answer, receive = await self._checked_body(request)
        elif answer is None and path.startswith(_HEARTBEAT):
            holding = self.sessions.connected(path.removeprefix(_HEARTBEAT))
        with holding:
            await (answer or self.app)(scope, receive, _with_headers(send, path))

    def _refusal(self, request: Request) -> Response | None:
        """What is answered to a request that is not let in."""
        path, host = request.scope["path"], request.headers.get("host", "")
        if self.hosts is not None and re.sub(r":\d+$", "", host) not in self.hosts:
            return PlainTextResponse("This page has another address.", 421)
        origin = request.headers.get("origin")
        if request.method != "GET" and origin and urlsplit(origin).netloc not in (host, *(self.hosts or ())):
            return PlainTextResponse("Another page cannot ask for this.", 403)
        if path.startswith(_FILE) and not self._lies_within(path.removeprefix(_FILE)):
            return PlainTextResponse("There is no such file.", 404)
        if _OPEN.fullmatch(path) or (path == API + "upload" and request.method == "POST"):
            return None
        return PlainTextResponse("There is no such page.", 404)

    def _lies_within(self, name: str) -> bool:
        """Whether a path is that of a file of a session, as it is and with nothing in it that leads elsewhere."""
        for path in (Path(name), Path(unquote(name))):
            if ".." in path.parts or path.resolve() != path or self.sessions.root not in path.parents:
                return False
        return True

    async def _upload(self, request: Request) -> Response:
        """Takes files into the inbox; answers with their paths, as Gradio's own upload does."""
        most = self.limits.files * self.limits.bytes
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await request.receive()
            received += len(message.get("body", b""))
            if received > most:
                raise MultiPartException(f"Up to {most / 1e6:.3g} MB are taken at once.")
            return message

        paths = []
        try:
            async with Request(request.scope, counted).form(max_files=self.limits.files, max_fields=0) as form:
                for file in form.getlist("files"):
                    if isinstance(file, str):
                        continue
                    if (file.size or 0) > self.limits.bytes:
                        raise MultiPartException(f"Up to {self.limits.bytes / 1e6:.3g} MB are taken for a file.")
                    folder = self.sessions.inbox / secrets.token_urlsafe(12)
                    folder.mkdir()
                    paths.append(folder / safe_name(file.filename or ""))
                    with paths[-1].open("wb") as copy:
                        shutil.copyfileobj(file.file, copy)
        except (MultiPartException, ClientDisconnect, OSError) as error:
            for path in paths:
                shutil.rmtree(path.parent, ignore_errors=True)
            reason = getattr(error, "message", "") or getattr(error, "strerror", None) or "The upload was broken off."
            return PlainTextResponse(reason, 413 if isinstance(error, MultiPartException) else 400)
        return JSONResponse([str(path) for path in paths])

    async def _checked_body(self, request: Request) -> tuple[Response | None, Receive]:
        """A refusal for a call that is too long or names other files than ours, and the call to be read again."""
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > _BODY:
                    return PlainTextResponse("The call is too long.", 413), request.receive
            content = json.loads(body) if body else None
        except ClientDisconnect:
            return Response(status_code=400), request.receive
        except ValueError:
            return PlainTextResponse("The call is no JSON.", 400), request.receive
        if not all(self._lies_within(name) for name in _paths(content)):
            return PlainTextResponse("There is no such file.", 404), request.receive
        told = False

        async def again() -> Message:
            nonlocal told
            if told:
                return await request.receive()
            told = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        return None, again


def safe_name(name: str) -> str:
    """A file's name that is no path and that every system takes."""
    plain = re.sub(r'[\\/:*?"<>|\x00-\x1f\x7f]', "_", Path(name.replace("\\", "/")).name).strip(" .")
    stem, dot, ending = plain.rpartition(".")
    return f"{(stem or ending)[:80]}{dot and stem and '.'}{ending[:10] if stem else ''}" or "photo"


def _paths(content: Any) -> list[str]:
    """Whatever a call gives as the path of a file."""
    if isinstance(content, dict):
        here = [content["path"]] if isinstance(content.get("path"), str) else []
        return here + [path for part in content.values() for path in _paths(part)]
    if isinstance(content, list):
        return [path for part in content for path in _paths(part)]
    return []


def _with_headers(send: Send, path: str) -> Send:
    """Sends with the headers that every answer has; files are not kept by browsers."""
    headers = dict(_HEADERS)
    if path.startswith(_FILE):
        headers["cache-control"] = "private, no-store"

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message.get("headers", []) if name.decode() not in headers]
            message = {**message, "headers": kept + [(n.encode(), v.encode()) for n, v in headers.items()]}
        await send(message)

    return sending
