"""An execution environment: one process and the Runtime API that it talks to.

It runs at most one invocation at a time. Each environment has its own loopback socket for the
Runtime API, as AWS's client expects. The API's contract:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import asyncio
import contextlib
import json
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from aiohttp import web

from mayfly_local.logs import Log
from mayfly_local.ports import peers
from mayfly_local.ports.access import Access, is_browser
from mayfly_local.ports.http_server import Connection, HttpServer
from mayfly_local.processes.children import Child, Children

__all__ = ["PAYLOAD_LIMIT", "Environment", "Failure", "Invocation", "Launch", "NotSent", "Reply"]

#: Largest synchronous request or response, in bytes.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
PAYLOAD_LIMIT: Final = 6 * 1024 * 1024
#: Seconds that a function has to initialise, as on Lambda.
INIT_SECONDS: Final = 10.0

_PREFIX: Final = "/2018-06-01/runtime"
_MEMORY_INTERVAL: Final = 0.02
_RESET_SECONDS: Final = 0.2
_IDLE_MEMORY_INTERVAL: Final = 0.5
_LOOKS_BETWEEN_CHILDREN: Final = 10


@dataclass(frozen=True)
class Launch:
    """The way to start environments of one function.

    `runtime` is the module or file of the loop that calls the handler.
    """

    name: str
    arn: str
    handler: str
    runtime: str
    variables: Mapping[str, str]
    folder: Path
    path: Sequence[Path]
    timeout_seconds: float
    memory_mb: int


@dataclass(frozen=True)
class Invocation:
    """An event for a function, with its request id. The trace header is X-Ray's."""

    event: bytes
    request_id: str
    trace: str

    @classmethod
    def of(cls, event: Any) -> "Invocation":
        """Returns an invocation with new ids."""
        root = f"1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"
        trace = f"Root={root};Parent={uuid.uuid4().hex[:16]};Sampled=0"
        return cls(json.dumps(event, ensure_ascii=False).encode(), str(uuid.uuid4()), trace)


@dataclass(frozen=True)
class Reply:
    """The handler's result, as JSON."""

    payload: bytes


@dataclass(frozen=True)
class Failure:
    """The reason for a missing reply.

    Either the handler raised, or its process timed out, exited, was killed or ran out of memory.
    """

    kind: str
    message: str

    @property
    def payload(self) -> bytes:
        """The error in the form that Lambda returns to a caller."""
        return json.dumps({"errorType": self.kind, "errorMessage": self.message}).encode()


class NotSent(Exception):
    """The process died before it read its event; another environment may run the invocation."""


class Environment:
    """A started process of a function."""

    def __init__(self, launch: Launch, log: Log, *, tells_peers: bool | None = None) -> None:
        self.id = uuid.uuid4().hex[:8]
        self.idle_since = 0.0
        self.invocations = 0
        self._launch = launch
        self._log = log
        self._child: Child | None = None
        self._api = HttpServer(
            self._serve, Access(), body_limit=PAYLOAD_LIMIT + 1, refused=self._note_refusal
        )
        #: Prefix of the paths that the process uses, so that no other process can call them. It is
        #: empty if the operating system reveals which process has sent a request.
        if tells_peers is None:
            tells_peers = peers.can_tell()
        self._token = "" if tells_peers else f"/{secrets.token_hex(16)}"
        self._connection: Connection | None = None
        self._was_written = False
        self._polls: asyncio.Queue[asyncio.Future[Invocation]] = asyncio.Queue()
        self._open_polls: dict[asyncio.Future[Invocation], Connection] = {}
        self._current: Invocation | None = None
        self._outcome: asyncio.Future[Reply | Failure] | None = None
        self._init_error: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()
        self._verdict: Failure | None = None
        self._deadline_ms = 0
        self._reader: asyncio.Task[None] | None = None
        self._memory: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._child is not None and self._child.is_running

    async def start(self, children: Children) -> Failure | None:
        """Starts the process and waits until it asks for its first event.

        Returns a Failure with the reason if it never asks. Returns a Failure as well if the system
        has no file or process left; the next invocation then tries again.
        """
        try:
            await self._api.listen(0)
            variables = {
                **self._launch.variables,
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.port}{self._token}",
                "AWS_LAMBDA_LOG_STREAM_NAME": f"local/{self.id}",
                "PYTHONPATH": ":".join(str(folder) for folder in self._launch.path),
            }
            self._child = await children.spawn(
                self._launch.runtime,
                [self._launch.handler],
                env=variables,
                folder=self._launch.folder,
                isolated=True,
            )
        except asyncio.CancelledError:
            await self._close()
            raise
        except OSError as problem:
            await self._close()
            failure = Failure(
                "Sandbox.StartFailed",
                f"no process could be started for the function: {problem.strerror or problem}",
            )
            self._log.event(
                "start failed",
                "ERROR",
                environment=self.id,
                reason=failure.message,
                next="the next invocation tries again",
            )
            return failure
        self._reader = asyncio.ensure_future(self._read_output(self._child))
        self._memory = asyncio.ensure_future(self._watch_memory(self._child))
        started = time.monotonic()
        poll = asyncio.ensure_future(self._next_poll())
        ended = self._child.ended
        waits: list[asyncio.Future[Any]] = [poll, ended, self._init_error]
        try:
            await asyncio.wait(waits, timeout=INIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # The pool is closing.
            poll.cancel()
            await self.kill()
            raise
        if poll.done():
            self._polls.put_nowait(poll.result())
            self._log.event(
                "init",
                quiet=True,
                environment=self.id,
                pid=self.pid,
                milliseconds=round((time.monotonic() - started) * 1000),
            )
            return None
        poll.cancel()
        if self._init_error.done():
            failure = self._init_error.result()
        elif ended.done():
            failure = self._verdict or Failure(
                "Runtime.ExitError", f"Runtime exited during init: {_describe_exit(ended.result())}"
            )
        else:
            failure = Failure(
                "Sandbox.Timedout", f"Init timed out after {INIT_SECONDS:.2f} seconds"
            )
        await self.kill()
        self._log.event(
            "init failed", "ERROR", environment=self.id, error=failure.kind, reason=failure.message
        )
        return failure

    async def invoke(self, invocation: Invocation) -> Reply | Failure:
        """Gives the process one event, and waits for the result until the function's timeout.

        After a Failure the process is dead, unless the handler itself reported the failure. Raises
        NotSent if the process died before it read the event.
        """
        poll = await self._poll_or_end()
        if poll is None or not self.is_alive:
            await self.kill()
            raise NotSent
        self.invocations += 1
        self._current, self._outcome = invocation, asyncio.get_running_loop().create_future()
        started = time.monotonic()
        self._log.event("start", quiet=True, environment=self.id, request_id=invocation.request_id)
        self._deadline_ms = time.time_ns() // 1_000_000 + round(self._launch.timeout_seconds * 1000)
        poll.set_result(invocation)
        try:
            result = await self._result()
        finally:
            self._current = None
        facts: dict[str, Any] = {
            "environment": self.id,
            "request_id": invocation.request_id,
            "milliseconds": round((time.monotonic() - started) * 1000, 1),
        }
        if isinstance(result, Failure):
            self._log.event(
                "invocation failed", "ERROR", **facts, error=result.kind, reason=result.message
            )
        else:
            self._log.event("end", quiet=True, **facts)
        self.idle_since = time.monotonic()
        return result

    async def stop(self, grace_seconds: float) -> None:
        """Sends SIGTERM, then SIGKILL after the grace period."""
        if self._child is not None:
            await self._child.stop(grace_seconds)
        await self._close()

    async def kill(self) -> None:
        """Sends SIGKILL immediately."""
        if self._child is not None:
            self._child.kill()
            await self._child.ended
        await self._close()

    async def _result(self) -> Reply | Failure:
        assert self._child is not None
        assert self._outcome is not None
        ended = self._child.ended
        waits: list[asyncio.Future[Any]] = [self._outcome, ended]
        await asyncio.wait(
            waits, timeout=self._launch.timeout_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if self._outcome.done():
            return self._outcome.result()
        if ended.done():
            was_unread = await self._died_before_reading()
            if self._outcome.done():  # The reply was still on the way when the process ended.
                return self._outcome.result()
            if was_unread:
                await self.kill()
                raise NotSent
            failure = self._verdict or Failure(
                "Runtime.ExitError",
                f"RequestId: {self._request_id()} Error: {_describe_exit(ended.result())}",
            )
        else:
            failure = Failure(
                "Sandbox.Timedout",
                f"Task timed out after {self._launch.timeout_seconds:.2f} seconds",
            )
        await self.kill()
        return failure

    async def _died_before_reading(self) -> bool:
        """Returns whether the process ended before it read its event.

        If so, no line of the handler can have run.
        """
        if self._connection is None or self._verdict is not None:
            return False
        await asyncio.wait([self._connection.lost], timeout=_RESET_SECONDS)
        return not self._was_written or (
            self._connection.lost.done() and self._connection.lost.result()
        )

    async def _poll_or_end(self) -> "asyncio.Future[Invocation] | None":
        assert self._child is not None
        poll = asyncio.ensure_future(self._next_poll())
        await asyncio.wait([poll, self._child.ended], return_when=asyncio.FIRST_COMPLETED)
        if poll.done() and not self._child.ended.done():
            return poll.result()
        poll.cancel()
        return None

    async def _next_poll(self) -> "asyncio.Future[Invocation]":
        while True:
            poll = await self._polls.get()
            if not poll.cancelled():
                return poll

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if (why := self._intrusion(request)) is not None:
            self._note_refusal(request.path, why)
            return _refusal(403, "Forbidden", why)
        path = request.path.removeprefix(self._token + _PREFIX)
        if request.method == "GET" and path == "/invocation/next":
            return await self._serve_next(request)
        if request.method != "POST":
            return _refusal(404, "NotFound", f"no such operation: {request.method} {request.path}")
        body = await request.read() if (request.content_length or 0) <= PAYLOAD_LIMIT else None
        if path == "/init/error":
            if not self._init_error.done():
                self._init_error.set_result(_reported(body or b"", request))
            return _accepted()
        parts = path.split("/")
        if len(parts) != 4 or parts[1] != "invocation" or parts[3] not in ("response", "error"):
            return _refusal(404, "NotFound", f"no such operation: POST {request.path}")
        if parts[2] != self._request_id() or self._outcome is None or self._outcome.done():
            return _refusal(400, "InvalidRequestID", "Invalid request ID")
        if body is None:
            size = request.content_length
            self._outcome.set_result(
                Failure(
                    "Function.ResponseSizeTooLarge",
                    f"Response payload size ({size} bytes) exceeded maximum allowed payload "
                    f"size ({PAYLOAD_LIMIT} bytes).",
                )
            )
            return _refusal(413, "RequestEntityTooLarge", "Exceeded maximum allowed payload size")
        self._outcome.set_result(
            Reply(body) if parts[3] == "response" else _reported(body, request)
        )
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
                self._child.pid, client_port=client_port, server_port=self._api.port
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

    def _note_refusal(self, path: str, why: str) -> None:
        self._log.event("refused", "ERROR", environment=self.id, path=path, reason=why)

    async def _serve_next(self, request: web.BaseRequest) -> web.Response:
        if self._outcome is not None and not self._outcome.done():
            # The runtime dropped its invocation and asks for another one. The caller must not wait
            # for the deadline.
            self._outcome.set_result(
                Failure(
                    "Runtime.NoResponse",
                    "The runtime asked for a new event without answering the last one",
                )
            )
        poll: asyncio.Future[Invocation] = asyncio.get_running_loop().create_future()
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
            "Lambda-Runtime-Invoked-Function-Arn": self._launch.arn,
            "Lambda-Runtime-Trace-Id": invocation.trace,
        }
        response = web.Response(
            body=invocation.event, headers=headers, content_type="application/json"
        )
        # If the process died while it waited, the code that awaits the outcome notices.
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write_eof()
            self._was_written = True
        return response

    async def _watch_memory(self, child: Child) -> None:
        """Kills the process if it exceeds its memory size.

        It checks the process itself often, and the sum with its children less often.
        """
        try:
            process, looks, used = psutil.Process(child.pid), 0, 0
            while True:
                is_active = self._current is not None or not self.invocations
                await asyncio.sleep(_MEMORY_INTERVAL if is_active else _IDLE_MEMORY_INTERVAL)
                looks += 1
                # The system may have no open file left for this check; the next one tries again.
                with contextlib.suppress(OSError):
                    used = self._memory_of(
                        process, with_children=not looks % _LOOKS_BETWEEN_CHILDREN
                    )
                if used > self._launch.memory_mb * 1024 * 1024:
                    limit, used_mb = self._launch.memory_mb, used / 1024 / 1024
                    self._verdict = Failure(
                        "Runtime.OutOfMemory",
                        f"Memory Size: {limit} MB exceeded (used: {used_mb:.0f} MB); the process "
                        "was killed",
                    )
                    child.kill()
                    return
        except psutil.Error:  # The process has ended.
            return

    def _memory_of(self, process: psutil.Process, *, with_children: bool) -> int:
        """Returns the resident bytes.

        Raises psutil.Error once the process has ended, and OSError if the system cannot be asked.
        """
        used: int = process.memory_info().rss
        if with_children:
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.Error):  # The child ended between two checks.
                    used += child.memory_info().rss
        return used

    async def _read_output(self, child: Child) -> None:
        while True:
            try:
                line = await child.output.readline()
            except ValueError:  # The line is longer than the limit; the rest of it follows.
                continue
            if not line:
                return
            for part in line.decode(errors="replace").rstrip("\r\n").split("\r"):
                self._log.line(part, environment=self.id, request_id=self._request_id())

    async def _close(self) -> None:
        if self._memory is not None:
            self._memory.cancel()
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=1)
        # If a process was killed while it waited for an event, its request is still open.
        for poll in list(self._open_polls):
            poll.cancel()
        await self._api.close()

    def _request_id(self) -> str | None:
        return self._current.request_id if self._current else None


def _reported(body: bytes, request: web.BaseRequest) -> Failure:
    try:
        error = json.loads(body)
        return Failure(str(error["errorType"]), str(error["errorMessage"]))
    except (ValueError, KeyError, TypeError):
        return Failure(
            request.headers.get("Lambda-Runtime-Function-Error-Type", "Function.Unhandled"),
            body.decode(errors="replace")[:500],
        )


def _describe_exit(code: int) -> str:
    return (
        f"Runtime exited with error: signal {-code}"
        if code < 0
        else f"Runtime exited with error: exit status {code}"
    )


def _accepted() -> web.Response:
    return web.json_response({"status": "OK"}, status=202)


def _refusal(status: int, kind: str, message: str) -> web.Response:
    return web.json_response({"errorType": kind, "errorMessage": message}, status=status)
