"""A request to an API, as it arrived and as events show it."""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from mayfly_local.application.apis import Api, ApiKind, Route, Stage
from mayfly_local.ports.http_server import Connection

__all__ = ["Call", "HttpRequest", "forwarded", "read_request"]

#: Headers of one connection, which the API uses itself. RFC 9110, 7.6.1
_OF_CONNECTION: Final = {
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip
#: Headers that the API sets, whatever the caller sent.
_OF_GATEWAY: Final = {
    "x-amzn-trace-id", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto", "content-length",
}  # fmt: skip


@dataclass(frozen=True)
class HttpRequest:
    """A request as it arrived. Header names may occur more than once, in any case.

    `path` and `query` are as sent, with percent-encoding.
    """

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    source_ip: str
    protocol: str
    #: Done when the connection has ended, so that the response has no reader.
    gone: "asyncio.Future[bool] | None" = None

    def header(self, name: str) -> str | None:
        """Returns the last value of a header, or None."""
        return next(
            (value for key, value in reversed(self.headers) if key.lower() == name.lower()), None
        )


@dataclass(frozen=True)
class Call:
    """A request for one route of an API.

    `path` is the path without the stage, as sent. `parameters` are those of the path.
    """

    api: Api
    stage: Stage
    route: Route
    path: str
    parameters: Mapping[str, str]
    request: HttpRequest
    request_id: str

    @property
    def staged_path(self) -> str:
        """The path with the stage, as the caller of a deployed API sends it."""
        return self.path if self.stage.name == "$default" else f"/{self.stage.name}{self.path}"

    @property
    def shown_path(self) -> str:
        """The path with the stage, as format 2.0 has it: decoded, but not for a function URL.

        No page of AWS says it. An HTTP API does so in AWS's own tests, and a function URL in
        events captured from it.
        https://github.com/aws/aws-lambda-dotnet (HttpContextExtensions of the test tool)
        https://github.com/middleapi/standard-server/pull/93
        """
        is_encoded = self.api.kind is ApiKind.URL
        return self.staged_path if is_encoded else unquote(self.staged_path)


def read_request(raw: web.BaseRequest, body: bytes) -> HttpRequest:
    """Returns a request of the HTTP server."""
    path, _, query = _readable(raw.raw_path).partition("?")
    headers = [(name, _readable(value)) for name, value in raw.headers.items()]
    protocol = f"HTTP/{raw.version.major}.{raw.version.minor}"
    gone = raw.protocol.lost if isinstance(raw.protocol, Connection) else None
    return HttpRequest(raw.method, path, query, headers, body, raw.remote or "", protocol, gone)


def forwarded(request: HttpRequest, *, port: int, with_length: bool) -> list[tuple[str, str]]:
    """Returns the headers of an event: without those of the connection, and with AWS's own.

    An HTTP API tells the length of the body, a REST API does not.
    """
    sent = [
        (name, value)
        for name, value in request.headers
        if name.lower() not in _OF_CONNECTION | _OF_GATEWAY
    ]
    before = request.header("x-forwarded-for")
    trace = request.header("x-amzn-trace-id") or ""
    new_root = f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"
    added = [
        ("X-Amzn-Trace-Id", trace if "Root=" in trace else new_root),
        ("X-Forwarded-For", f"{before}, {request.source_ip}" if before else request.source_ip),
        ("X-Forwarded-Port", str(port)),
        ("X-Forwarded-Proto", "http"),
    ]
    length = [("Content-Length", str(len(request.body)))] if with_length else []
    return [*sent, *length, *added]


def _readable(text: str) -> str:
    """Returns the text of a header or a path, which may hold bytes that are not UTF-8.

    aiohttp gives such bytes as surrogates, which cannot be in an event. They are read as Latin-1
    (RFC 9110, 5.5).
    """
    raw = text.encode(errors="surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
