"""The demo's server: one page, an API under /api.

`studio` draws, `connection` knows the clients.  The server answers only to hosts that DNS rebinding
cannot forge and accepts requests only from its own pages and from programs; its page loads nothing
from anywhere else.
"""

import ipaddress
import json
import logging
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from drawnet import weights
from drawnet.demo import answers, requests
from drawnet.demo.requests import Exhibit, Refused
from drawnet.demo.studio import Studio
from drawnet.errors import UserError
from drawnet.training.device import CPU, Device

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from drawnet.demo import connection
except ModuleNotFoundError as why:
    missing = (why.name or "").partition(".")[0]
    raise UserError(f"the demo needs {missing}: pip install 'drawnet[demo]'") from None

BODY = 262_144
"""Maximum size of a request in bytes."""
GRACE = 5.0
"""Seconds for the step that is under way when the server is stopped."""
AGAIN = {"Retry-After": "1"}

WEB = Path(__file__).parent / "web"
PAGE = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Types of the files in web/; all files of these types are served."""
KINDS = {"": "application/x-ndjson", ".png": "image/png", ".gif": "image/gif"}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}

log = logging.getLogger("drawnet")


class Stream(StreamingResponse):
    """A streaming response that ends with its client."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            await self.body_iterator.aclose()  # type: ignore[attr-defined]


# ---- answers ------------------------------------------------------------------------------------


def problem(why: str, status: int) -> JSONResponse:
    """Return an error as one line of JSON."""
    headers = AGAIN if status in (429, 503) else None
    return JSONResponse({"error": why}, status, headers)


async def body(request: Request) -> Any:
    """Return the JSON of a request; Refused if it is invalid or too long."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused("send JSON: Content-Type: application/json", 415)
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > BODY:
            raise Refused(f"a request may hold {BODY:,} bytes", 413)
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise Refused("the request is not JSON") from None


def encoded(view: str, e: Exhibit, values: requests.Request, suffix: str) -> Iterator[bytes]:
    """Yield the response in bytes, a line at a time or a whole picture."""
    if suffix:
        yield answers.drawn(view, e, values, suffix)
    else:
        for line in answers.lines(view, e, values):
            yield json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def effort(view: str, suffix: str, values: requests.Request) -> float:
    """Roughly the seconds that a response takes: the smaller one comes first."""
    return 1.0 if suffix or view == "complete" else values.get("n", 1) / 256


async def following(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the first part and the others; a later error becomes the last line."""
    try:
        yield first
        async for part in rest:
            yield part
    except Exception as why:
        answer = error_response(why)
        yield bytes(answer.body) + b"\n"
    finally:
        await rest.aclose()  # type: ignore[attr-defined]


def error_response(why: Exception) -> JSONResponse:
    """Return the response to an error; unexpected errors go to the log."""
    if isinstance(why, Refused):
        return problem(str(why), why.status)
    if isinstance(why, UserError):
        return problem(str(why), 400)
    log.error("a request failed", exc_info=why)
    return problem("the server failed: see its log", 500)


def application(
    exhibits: Mapping[str, Exhibit], studio: Studio, host: str = "127.0.0.1"
) -> ASGIApp:
    """Return the app that serves these models to clients that use an IP address or `host`."""

    async def answer(request: Request) -> Response:
        view, suffix = request.path_params["view"], request.path_params.get("suffix", "")
        suffix = suffix and f".{suffix}"
        if view not in requests.FIELDS or suffix not in KINDS:
            raise HTTPException(404)
        try:
            e, values = requests.checked(view, await body(request), exhibits)
            size = effort(view, suffix, values)
            parts = studio.parts(lambda: encoded(view, e, values, suffix), size)
            first = await anext(parts)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as why:
            return error_response(why)
        return Stream(following(first, parts), media_type=KINDS[suffix])

    async def models(request: Request) -> Response:
        return JSONResponse(
            {"models": [e.about for e in exhibits.values()], "views": list(requests.FIELDS)}
        )

    async def page(request: Request) -> Response:
        path = WEB / (request.url.path.strip("/") or "index.html")
        return Response(path.read_bytes(), media_type=PAGE[path.suffix])

    async def wrong(request: Request, why: Exception) -> Response:
        assert isinstance(why, HTTPException)
        return JSONResponse({"error": why.detail.lower()}, why.status_code, why.headers)

    files = [f"/{path.name}" for path in WEB.iterdir() if path.suffix in PAGE]
    routes = [Route(path, page) for path in ("/", *files)]
    routes += [Route("/api/models", models)]
    routes += [Route("/api/{view}.{suffix}", answer, methods=["POST"])]
    routes += [Route("/api/{view}", answer, methods=["POST"])]
    return Guard(Starlette(routes=routes, exception_handlers={HTTPException: wrong}), host)


class Guard:
    """Refuses hosts and origins that are not this server's own; adds the headers of `HEADERS`.

    A foreign page can make its host name resolve to this address (DNS rebinding), but not an address.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app, self.names = app, {"localhost", host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        why = self.refusal({k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]})
        app = problem(why, 403) if why else self.app
        return await app(scope, receive, sending)

    def refusal(self, headers: Mapping[str, str]) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.own(host):
            return "this server answers to its address and to localhost only"
        if origin is not None and origin.partition("://")[2] != host:
            return "this server takes requests from its own page only"
        return ""

    def own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False


# ---- the command --------------------------------------------------------------------------------


FIRST = "mnist"
"""The weights shown first by default: the paper's attentive model."""


def exhibited(paths: Sequence[Path], device: Device = CPU) -> dict[str, Exhibit]:
    """Load the models at these paths, or all bundled ones that draw; UserError if there are none."""
    bundled = sorted(weights.bundled(), key=lambda name: (name != FIRST, name))
    chosen = list(paths) or [Path(name) for name in bundled if requests.draws(Path(name))]
    if not chosen:
        raise UserError(
            "this drawnet has no bundled weights: `drawnet train digits_quick` trains some in three "
            "minutes, then `drawnet demo runs/digits_quick`"
        )
    if len(chosen) > requests.LOADED:
        raise UserError(f"the demo shows at most {requests.LOADED} models, not {len(chosen)}")
    exhibits: dict[str, Exhibit] = {}
    for path in chosen:
        e = requests.exhibit(path, list(exhibits), device)
        exhibits[e.name] = e
    return exhibits


def serve(paths: Sequence[Path], host: str, port: int, *, show: bool, device: Device = CPU) -> None:
    """Serve the page until a signal ends it, and open it in the user's browser if requested."""
    exhibits = exhibited(paths, device)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.create_server(found[0][4][:2], family=found[0][0], backlog=512)
    except (OSError, OverflowError, UnicodeError) as why:
        raise UserError(
            f"cannot listen on {host}, port {port} ({why}): choose another --port"
        ) from why
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{listening.getsockname()[1]}/"
    print(f"{url}  shows {', '.join(exhibits)}; Ctrl-C stops it", flush=True)
    if not local(found[0][4][0]):
        print("drawnet: anyone who can reach this machine can use the demo", file=sys.stderr)
    if show:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    studio = Studio()
    config = uvicorn.Config(
        application(exhibits, studio, host), http=connection.Connection, ws="none", lifespan="off",
        log_level="error", access_log=False, server_header=False,
        h11_max_incomplete_event_size=connection.HEADER,
    )  # fmt: skip
    try:
        connection.Server(config, studio.close).run(sockets=[listening])
    finally:
        studio.close()
        studio.thread.join(GRACE)
    if studio.thread.is_alive():  # ending the interpreter under it would be a crash
        os._exit(0)


def local(address: str | int) -> bool:
    return ipaddress.ip_address(str(address).partition("%")[0]).is_loopback
