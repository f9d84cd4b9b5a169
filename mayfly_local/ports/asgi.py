"""Serves an ASGI application with an `HttpServer`.

That server has limits, timeouts and access rules, which ASGI servers lack. An application reads
bodies as they arrive, so that it can refuse one before it is read. Responses are sent whole,
because the emulator writes them so.
https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from aiohttp import ClientError, web

from mayfly_local.ports.http_server import Connection, Handler

__all__ = ["App", "handler_of", "lifespan"]

_Message = dict[str, Any]
App = Callable[
    [Mapping[str, Any], Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]],
    Awaitable[None],
]


def handler_of(app: App) -> Handler:
    """Returns a handler that gives each request to an application."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        is_read = False
        unreadable: web.RequestPayloadError | None = None
        connection = request.protocol
        assert isinstance(connection, Connection)
        parts: list[bytes] = []
        answer = web.Response()

        async def receive() -> _Message:
            nonlocal is_read, unreadable
            try:
                if not is_read:
                    body = await request.content.readany()
                    is_read = request.content.at_eof()
                    return {"type": "http.request", "body": body, "more_body": not is_read}
                await asyncio.shield(connection.lost)
            except web.RequestPayloadError as problem:
                is_read, unreadable = True, problem
            except (OSError, ClientError):  # The client disconnected.
                is_read = True
            return {"type": "http.disconnect"}

        async def send(message: _Message) -> None:
            if message["type"] == "http.response.start":
                answer.set_status(message["status"])
                answer.headers.extend(
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in message.get("headers", ())
                )
            else:
                parts.append(message.get("body", b""))

        await app(_scope(request), receive, send)
        if unreadable is not None:
            raise unreadable
        if request.method != "HEAD":  # A response to HEAD has the Content-Length of a GET.
            answer.body = b"".join(parts)
        return answer

    return handle


def _scope(request: web.BaseRequest) -> dict[str, Any]:
    target = request.raw_path
    if not target.startswith(("/", "*")):  # Absolute form: RFC 9112, 3.2.2.
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": _peer(request),
        "server": ("127.0.0.1", 0),
    }


def _peer(request: web.BaseRequest) -> tuple[str, int]:
    """Returns the client's end of the connection; its port is 0 if the client is gone."""
    name = request.transport and request.transport.get_extra_info("peername")
    return ("127.0.0.1", name[1] if name else 0)


@contextlib.asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """Starts an application before serving, and shuts it down afterwards.

    Raises RuntimeError if the application fails to start or to shut down.
    https://asgi.readthedocs.io/en/latest/specs/lifespan.html
    """
    requests: asyncio.Queue[_Message] = asyncio.Queue()
    replies: asyncio.Queue[_Message] = asyncio.Queue()
    running: asyncio.Future[Any] = asyncio.ensure_future(
        app(
            {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}},
            requests.get,
            replies.put,
        )
    )
    await _phase("startup", running, requests, replies)
    try:
        yield
    finally:
        await _phase("shutdown", running, requests, replies)
        await running


async def _phase(
    name: str,
    running: "asyncio.Future[Any]",
    requests: "asyncio.Queue[_Message]",
    replies: "asyncio.Queue[_Message]",
) -> None:
    await requests.put({"type": f"lifespan.{name}"})
    answer = asyncio.ensure_future(replies.get())
    either: list[asyncio.Future[Any]] = [answer, running]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not answer.done():
        answer.cancel()
        await running  # Raises the error that ended the application.
        raise RuntimeError(f"the application ended at its {name}")
    if answer.result()["type"] != f"lifespan.{name}.complete":
        raise RuntimeError(
            f"the application failed at its {name}: {answer.result().get('message', '')}"
        )
