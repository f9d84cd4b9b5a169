"""The Runtime API of one process, on a loopback socket of its own, as AWS's client expects.

The process polls for an event and posts the handler's result. The API's contract:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable
from typing import Final

from aiohttp import web

from mayfly_local.compute.invocation import PAYLOAD_LIMIT, Failure, Invocation, Reply
from mayfly_local.ports import peers
from mayfly_local.ports.access import Access, is_browser
from mayfly_local.ports.http_server import Connection, HttpServer
from mayfly_local.processes.children import Child

__all__ = ["Poll", "RuntimeApi"]

_PREFIX: Final = "/2018-06-01/runtime"
#: Bytes of a header field. AWS's client sends the trace of an exception in a header of up to 1 MiB.
#: https://github.com/aws/aws-lambda-python-runtime-interface-client
_FIELD_LIMIT: Final = 1024 * 1024 + 4096
#: Seconds for which a connection may still be reported as lost after its process has ended.
_RESET_SECONDS: Final = 0.2

#: A request of the process for its next event. The event is its result.
Poll = asyncio.Future[Invocation]


class RuntimeApi:
    """The server that one process talks to. `refused(path, why)` is called for each intruder.

    `init_error` is set if the process reports that it could not initialise. `outcome` is set to the
    result of the current invocation.
    """

    def __init__(
        self,
        arn: str,
        refused: Callable[[str, str], None],
        *,
        tells_peers: bool | None = None,
    ) -> None:
        self.init_error: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()
        self.outcome: asyncio.Future[Reply | Failure] | None = None
        self._arn = arn
        self._refused = refused
        self._child: Child | None = None
        #: Set when the process is known. On a busy machine its first request may come before.
        self._is_known = asyncio.Event()
        self._server = HttpServer(
            self._serve, Access(), body_limit=PAYLOAD_LIMIT + 1, field_limit=_FIELD_LIMIT,
            refused=refused,
        )  # fmt: skip
        #: Prefix of the paths that the process uses, so that no other process can call them. It is
        #: empty if the operating system reveals which process has sent a request.
        if tells_peers is None:
            tells_peers = peers.can_tell()
        self._token = "" if tells_peers else f"/{secrets.token_hex(16)}"
        self._connection: Connection | None = None
        self._was_written = False
        self._polls: asyncio.Queue[Poll] = asyncio.Queue()
        self._open_polls: dict[Poll, Connection] = {}
        self._current: Invocation | None = None
        self._deadline_ms = 0

    @property
    def address(self) -> str:
        """The value of AWS_LAMBDA_RUNTIME_API."""
        return f"127.0.0.1:{self._server.port}{self._token}"

    @property
    def request_id(self) -> str | None:
        """The id of the current invocation, None between invocations."""
        return self._current.request_id if self._current else None

    async def listen(self) -> None:
        """Opens the socket. Raises OSError."""
        await self._server.listen(0)

    def serve_only(self, child: Child) -> None:
        """Accepts requests of this process, and of no other one."""
        self._child = child
        self._is_known.set()

    async def next_poll(self) -> Poll:
        """Returns the process's request for an event, as soon as there is one."""
        while True:
            poll = await self._polls.get()
            if not poll.cancelled():
                return poll

    def keep(self, poll: Poll) -> None:
        """Keeps a poll for `next_poll`."""
        self._polls.put_nowait(poll)

    def send(
        self, poll: Poll, invocation: Invocation, deadline_ms: int
    ) -> "asyncio.Future[Reply | Failure]":
        """Answers a poll with an event, and returns the future result."""
        self._current, self._deadline_ms = invocation, deadline_ms
        self.outcome = asyncio.get_running_loop().create_future()
        poll.set_result(invocation)
        return self.outcome

    def end(self) -> None:
        """Ends the current invocation; a late result is refused."""
        self._current = None

    async def was_unread(self) -> bool:
        """Returns whether the process, which has ended, did not read its event.

        If so, no line of the handler can have run.
        """
        if self._connection is None:
            return False
        await asyncio.wait([self._connection.lost], timeout=_RESET_SECONDS)
        return not self._was_written or (
            self._connection.lost.done() and self._connection.lost.result()
        )

    async def close(self) -> None:
        """Closes the socket."""
        self._is_known.set()
        # If a process was killed while it waited for an event, its request is still open.
        for poll in list(self._open_polls):
            poll.cancel()
        await self._server.close()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        await self._is_known.wait()
        if (why := self._intrusion(request)) is not None:
            self._refused(request.path, why)
            return _refusal(403, "Forbidden", why)
        path = request.path.removeprefix(self._token + _PREFIX)
        if request.method == "GET" and path == "/invocation/next":
            return await self._serve_next(request)
        if request.method != "POST":
            return _refusal(404, "NotFound", f"no such operation: {request.method} {request.path}")
        body = await request.read() if (request.content_length or 0) <= PAYLOAD_LIMIT else None
        if path == "/init/error":
            if not self.init_error.done():
                self.init_error.set_result(_reported(body or b"", request))
            return _accepted()
        parts = path.split("/")
        if len(parts) != 4 or parts[1] != "invocation" or parts[3] not in ("response", "error"):
            return _refusal(404, "NotFound", f"no such operation: POST {request.path}")
        if parts[2] != self.request_id or self.outcome is None or self.outcome.done():
            return _refusal(400, "InvalidRequestID", "Invalid request ID")
        if body is None:
            size = request.content_length
            self.outcome.set_result(
                Failure(
                    "Function.ResponseSizeTooLarge",
                    f"Response payload size ({size} bytes) exceeded maximum allowed payload "
                    f"size ({PAYLOAD_LIMIT} bytes).",
                )
            )
            return _refusal(413, "RequestEntityTooLarge", "Exceeded maximum allowed payload size")
        self.outcome.set_result(Reply(body) if parts[3] == "response" else _reported(body, request))
        return _accepted()

    def _intrusion(self, request: web.BaseRequest) -> str | None:
        """Returns the reason to refuse a request, or None if the function's own process sent it."""
        if is_browser((name.lower(), value) for name, value in request.headers.items()):
            return "a browser may not use a function's Runtime API"
        connection = request.protocol
        assert isinstance(connection, Connection)
        if self._token:
            is_own = request.path.startswith(f"{self._token}/")
        elif (
            connection.peer_pid is None
            and self._child is not None
            and request.transport is not None
        ):
            client_port = request.transport.get_extra_info("peername")[1]
            is_own = peers.is_peer(
                self._child.pid, client_port=client_port, server_port=self._server.port
            )
            connection.peer_pid = self._child.pid if is_own else None
        else:
            is_own = self._child is not None and connection.peer_pid == self._child.pid
        if not is_own:
            return "another process may not use a function's Runtime API"
        if request.path.endswith("/invocation/next") and any(
            not connection.lost.done() for connection in self._open_polls.values()
        ):
            return "the function already waits for its next event; a second poller is refused"
        return None

    async def _serve_next(self, request: web.BaseRequest) -> web.Response:
        if self.outcome is not None and not self.outcome.done():
            # The runtime dropped its invocation and asks for another one. The caller must not wait
            # for the deadline.
            self.outcome.set_result(
                Failure(
                    "Runtime.NoResponse",
                    "The runtime asked for a new event without answering the last one",
                )
            )
        poll: Poll = asyncio.get_running_loop().create_future()
        assert isinstance(request.protocol, Connection)
        for left, connection in list(self._open_polls.items()):
            if connection.lost.done():
                left.cancel()
        self._polls.put_nowait(poll)
        self._open_polls[poll] = request.protocol
        poll.add_done_callback(lambda _: self._open_polls.pop(poll, None))
        invocation = await poll
        self._connection, self._was_written = request.protocol, False
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(self._deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": self._arn,
            "Lambda-Runtime-Trace-Id": invocation.trace,
        }
        if invocation.client_context:
            headers["Lambda-Runtime-Client-Context"] = invocation.client_context
        response = web.Response(
            body=invocation.event, headers=headers, content_type="application/json"
        )
        # If the process died while it waited, the code that awaits the outcome notices.
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write_eof()
            self._was_written = True
        return response


def _reported(body: bytes, request: web.BaseRequest) -> Failure:
    try:
        error = json.loads(body)
        kind, message = str(error.pop("errorType")), str(error.pop("errorMessage"))
        return Failure(kind, message, error)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Failure(
            request.headers.get("Lambda-Runtime-Function-Error-Type", "Function.Unhandled"),
            body.decode(errors="replace")[:500],
        )


def _accepted() -> web.Response:
    return web.json_response({"status": "OK"}, status=202)


def _refusal(status: int, kind: str, message: str) -> web.Response:
    return web.json_response({"errorType": kind, "errorMessage": message}, status=status)
