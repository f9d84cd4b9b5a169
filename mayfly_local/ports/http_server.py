"""HTTP servers of the stack: for the API, the emulator, each Runtime API, and containers.

`mayfly_local.ports.access` decides on each request; the stack has no other servers. All listen on
loopback except the last one, which listens on the container engine's bridge.
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
#: Seconds without a byte of an incomplete body, and seconds for a whole body.
_STALL_SECONDS: Final = 15.0
_BODY_SECONDS: Final = 120.0
#: Seconds that a connection may idle between two requests.
_IDLE_SECONDS: Final = 60.0
#: After a refusal, reading continues until the client is silent: seconds of silence, and in all.
_SILENCE_SECONDS: Final = 0.1
_DRAIN_SECONDS: Final = 3.0
#: Bytes of a header field, unless a server takes more.
_FIELD_LIMIT: Final = 8190
_OLDEST_VERSION: Final = (1, 0)
#: A socket option of Linux without a name in Python.
#: https://man7.org/linux/man-pages/man7/ip.7.html
_IP_FREEBIND: Final = 15


class Connection(web.RequestHandler):
    """A client's connection, which records how it ended.

    The kernel resets a connection if its owner died with unread data, or if data arrives after its
    end. If everything was read, the kernel closes it normally (RFC 1122, 4.2.2.13). A reset
    therefore tells that a dead client has not read the whole response.
    """

    def __init__(
        self, manager: web.Server, server: HttpServer, *, loop: asyncio.AbstractEventLoop
    ) -> None:
        # `access_log=None` turns the log off.
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
            keepalive_timeout=_IDLE_SECONDS,
            max_field_size=server.field_limit,
            max_line_size=server.field_limit,
        )
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
            # Data follows a body that has not ended. This is an error of the parser, which does not
            # tell the body's reader.
            self._payload.set_exception(web.RequestPayloadError("its transfer coding is invalid"))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.disconnected(self)
        if not self.lost.done():
            self.lost.set_result(isinstance(exc, ConnectionError) or _has_error(self.transport))
        super().connection_lost(exc)

    def _make_error_handler(self, err_info: Any) -> Handler:
        """Answers an unreadable request after the client has stopped sending.

        An earlier response would be lost: the kernel resets a connection that is closed with unread
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
        """Closes a connection whose client does not complete its request.

        Otherwise checks again later.
        """
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
    """Returns True if the socket was reset, even if its end was noticed first.

    Call it before the socket is closed.
    """
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLERR)
    return any(events & select.POLLERR for _, events in poll.poll(0))


class HttpServer:
    """Gives each request that `access` allows to `handler`.

    It refuses bodies above `body_limit` bytes while they arrive, and a request line or a header
    field above `field_limit` bytes. It holds at most `most_connections`; above that, it closes the
    longest idle connection. It calls `refused` with path and reason of each refusal.
    """

    def __init__(
        self,
        handler: Handler,
        access: Access,
        *,
        body_limit: int,
        field_limit: int = _FIELD_LIMIT,
        most_connections: int = 100,
        refused: Callable[[str, str], None] = lambda target, why: None,
    ) -> None:
        self._handler = handler
        self._access = access
        self.field_limit = field_limit
        self._body_limit = body_limit
        self._most_connections = most_connections
        self._refused = refused
        self._manager = web.Server(self._serve, request_factory=self._request)
        self._listener: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        assert self._listener is not None
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def listen(self, where: int | socket.socket) -> None:
        """Listens on a port of loopback, or on a bound socket; port 0 chooses a free one.

        Raises OSError if the port is taken, or no socket can be made.
        """
        loop = asyncio.get_running_loop()
        how: dict[str, Any] = (
            {"host": "127.0.0.1", "port": where} if isinstance(where, int) else {"sock": where}
        )
        self._listener = await loop.create_server(
            lambda: Connection(self._manager, self, loop=loop), **how
        )
        # asyncio mistakes a failed socket() for an address family that the machine does not have.
        if not self._listener.sockets:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def refuse(self) -> None:
        """Accepts no new connection, and no further request on open ones."""
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
            idle = [
                other for other in self._connections if other.is_idle and other is not connection
            ]
            longest = min(idle, key=lambda other: other.used_at) if idle else connection
            # Discard it immediately: the next connection may come before its end is noticed.
            self._connections.discard(longest)
            longest.force_close()

    def disconnected(self, connection: Connection) -> None:
        """Called by a connection that has ended."""
        self._connections.discard(connection)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.version < _OLDEST_VERSION:  # HTTP/0.9, whose responses have no status line.
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
        # A body that is too large gets its refusal in place of the 100: RFC 9110, 10.1.1
        is_expected = (request.content_length or 0) < self._body_limit
        if is_expected and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
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

    This machine need not have the address yet: an engine creates its bridge with the first
    container.
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
    """Returns an error response and closes the connection; later requests on it are not read."""
    return web.json_response({"message": why}, status=status, headers={hdrs.CONNECTION: "close"})
