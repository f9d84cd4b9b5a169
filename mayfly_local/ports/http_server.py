"""HTTP servers: the API's, the store's, one for each function's Runtime API, and one for a
container's way to the store.

`mayfly_local.ports.access` decides on each request; no other server is made. All listen on loopback
but the last one, which listens on the container engine's bridge.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import StreamReader, hdrs, web

from mayfly_local.ports.access import Access

__all__ = ["Connection", "Handler", "HttpServer", "bridge_socket"]

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

#: Seconds that a new connection has to send its first request's headers.
_HEAD_SECONDS: Final = 15.0
#: Seconds without a byte of a body that is not complete, and seconds for a whole body.
_STALL_SECONDS: Final = 15.0
_BODY_SECONDS: Final = 120.0
#: Seconds that a connection may idle between two requests.
_IDLE_SECONDS: Final = 60.0
#: Reading on after a refusal, until the client is silent: seconds of silence, and seconds in all.
_SILENCE_SECONDS: Final = 0.1
_DRAIN_SECONDS: Final = 3.0
_OLDEST_VERSION: Final = (1, 0)
#: A socket option of Linux that Python has no name for.
#: https://man7.org/linux/man-pages/man7/ip.7.html
_IP_FREEBIND: Final = 15


class Connection(web.RequestHandler):
    """One connection of a client, which remembers how it ended.

    The kernel resets a connection whose owner died with data unread, or to which data comes when it
    is gone, and closes it in the ordinary way if everything was read (RFC 1122, 4.2.2.13): so a
    reset tells that a dead client has not seen all of its answer.
    """

    def __init__(
        self, manager: web.Server, server: HttpServer, *, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
            keepalive_timeout=_IDLE_SECONDS,
        )  # None turns the log off
        self.lost: asyncio.Future[bool] = loop.create_future()
        self.used_at = loop.time()
        #: The process at the other end, if it is known already.
        self.peer_pid: int | None = None
        self._server = server
        self._received_at = 0.0
        self._began_at = 0.0
        self._payload: StreamReader | None = None
        self._is_refused = False

    @property
    def is_idle(self) -> bool:
        """True while no request is in progress."""
        return not self._request_in_progress and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.connected(self)
        self._loop.call_later(_HEAD_SECONDS, self._close_if_stalled)

    def begin(self, payload: StreamReader) -> None:
        """Called with the body of a request whose headers are complete."""
        self.used_at = self._began_at = self._loop.time()
        self._payload = payload

    def data_received(self, data: bytes) -> None:
        self._received_at = self._loop.time()
        if self._is_refused:
            return
        super().data_received(data)
        if self._payload is not None and self._messages and not self._payload.is_eof():
            # A message behind a body that has not ended: the parser's error. It does not tell the
            # body's reader.
            self._payload.set_exception(web.RequestPayloadError("its transfer coding is broken"))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.disconnected(self)
        if not self.lost.done():
            self.lost.set_result(isinstance(exc, ConnectionError) or _has_error(self.transport))
        super().connection_lost(exc)

    def _make_error_handler(self, err_info: Any) -> Handler:
        """Answers an unreadable request after the client has stopped sending.

        An earlier answer would be lost: the kernel resets a connection that is closed with unread
        data.
        """
        self._is_refused = True
        answer = super()._make_error_handler(err_info)

        async def drained(request: web.BaseRequest) -> web.StreamResponse:
            started = self._received_at = self._loop.time()
            quiet_at = started + _SILENCE_SECONDS
            while (now := self._loop.time()) < min(quiet_at, started + _DRAIN_SECONDS):
                await asyncio.sleep(quiet_at - now)
                quiet_at = self._received_at + _SILENCE_SECONDS
            return await answer(request)

        return drained

    def _close_if_stalled(self) -> None:
        """Closes a connection whose client does not complete its request, and looks again later."""
        if self.transport is None or self.transport.is_closing():
            return
        now = self._loop.time()
        is_open = self._payload is not None and not self._payload.is_eof()
        if self._payload is None or (
            is_open
            and (now - self._received_at >= _STALL_SECONDS or now - self._began_at >= _BODY_SECONDS)
        ):
            self.force_close()
        else:
            self._loop.call_later(_STALL_SECONDS / 3, self._close_if_stalled)


def _has_error(transport: asyncio.BaseTransport | None) -> bool:
    """Returns True if the socket was reset, also if its end was noticed first.

    To be called before it is closed.
    """
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLERR)
    return any(events & select.POLLERR for _, events in poll.poll(0))


class HttpServer:
    """Gives each request that `access` allows to `handler`.

    Refuses bodies above `body_limit` bytes while they arrive. Holds at most `most_connections`;
    above that, the longest idle connection is closed. Calls `refused` with path and reason of each
    refusal.
    """

    def __init__(
        self,
        handler: Handler,
        access: Access,
        *,
        body_limit: int,
        most_connections: int = 100,
        refused: Callable[[str, str], None] = lambda target, why: None,
    ) -> None:
        self._handler = handler
        self._access = access
        self._body_limit = body_limit
        self._most_connections = most_connections
        self._refused = refused
        self._manager = web.Server(self._serve, request_factory=self._request)
        self._listener: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._listener is not None
        found: int = self._listener.sockets[0].getsockname()[1]
        return found

    async def listen(self, where: int | socket.socket) -> None:
        """Listens on a port of loopback, or on a socket that is bound; port 0 chooses a free one.

        Raises OSError if the port is taken, or no socket can be made.
        """
        loop = asyncio.get_running_loop()
        how: dict[str, Any] = (
            {"host": "127.0.0.1", "port": where} if isinstance(where, int) else {"sock": where}
        )
        self._listener = await loop.create_server(
            lambda: Connection(self._manager, self, loop=loop), **how
        )
        if (
            not self._listener.sockets
        ):  # asyncio takes a failed socket() for an address family that the machine does not have
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def refuse(self) -> None:
        """Takes no new connection, and no further request on those that were kept alive."""
        if self._listener is not None:
            self._listener.close()
            self._manager.pre_shutdown()

    async def close(self) -> None:
        """Ends every connection."""
        self.refuse()
        await self._manager.shutdown(timeout=1)

    def connected(self, connection: Connection) -> None:
        """Called by a new connection."""
        self._connections.add(connection)
        if len(self._connections) > self._most_connections:
            idle = [each for each in self._connections if each.is_idle and each is not connection]
            longest = min(idle, key=lambda each: each.used_at) if idle else connection
            self._connections.discard(
                longest
            )  # now: its end is noticed later than the next connection
            longest.force_close()

    def disconnected(self, connection: Connection) -> None:
        """Called by a connection that has ended."""
        self._connections.discard(connection)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.version < _OLDEST_VERSION:  # HTTP/0.9, to which an answer has no status line
            assert request.transport is not None
            request.transport.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            request.transport.close()
            raise ConnectionError
        headers = [(name.lower(), value) for name, value in request.headers.items()]
        if (why := self._access.refusal(request.raw_path, headers)) is not None:
            self._refused(request.path, why)
            return _refusal(403, why)
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":  # RFC 9110, 10.1.1
            assert request.transport is not None
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            return await self._handler(request)
        except web.RequestPayloadError as problem:
            return _refusal(400, f"the body cannot be read: {problem}")

    def _request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> web.BaseRequest:
        protocol.begin(payload)
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self._body_limit,
        )


def bridge_socket(address: str) -> socket.socket:
    """Returns a socket on a port of a container engine's bridge. Raises OSError.

    This machine need not have the address yet: an engine makes its bridge with the first container.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
        bound.bind((address, 0))
    except OSError:
        bound.close()
        raise
    return bound


def _refusal(status: int, why: str) -> web.Response:
    """An answer without the connection's further use: what follows on it is not looked at."""
    return web.json_response({"message": why}, status=status, headers={hdrs.CONNECTION: "close"})
