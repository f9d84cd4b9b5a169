"""HTTP servers on loopback."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

__all__ = ["Connection", "HttpServer"]


class Connection(web.RequestHandler):
    """One connection of a client, which remembers how it ended.

    The kernel resets a connection whose owner died with data unread, or to which data comes when it is gone, and closes it in
    the ordinary way where everything was read (RFC 1122, 4.2.2.13): so a reset tells that a dead client has not seen all
    of its answer.
    """

    def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(manager, loop=loop, access_log=None, auto_decompress=False)  # type: ignore[arg-type]  # None turns it off
        self.lost: asyncio.Future[bool] = loop.create_future()

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self.lost.done():
            self.lost.set_result(isinstance(exc, ConnectionError) or _has_error(self.transport))
        super().connection_lost(exc)


def _has_error(transport: asyncio.BaseTransport | None) -> bool:
    """Whether the socket was reset, also where its end was noticed first. Asked before it is closed."""
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLERR)
    return any(events & select.POLLERR for _, events in poll.poll(0))


class HttpServer:
    """Gives each request to `handler`; refuses bodies above `body_limit` bytes while they arrive."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, body_limit: int) -> None:
        self._body_limit = body_limit
        self._manager = web.Server(handler, request_factory=self._request)
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._listener is not None
        found: int = self._listener.sockets[0].getsockname()[1]
        return found

    async def listen(self, port: int) -> None:
        """Listens on loopback; port 0 chooses a free one. Raises OSError where the port is taken."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self._manager, loop=loop), "127.0.0.1", port)

    def refuse(self) -> None:
        """Takes no new connection, and no further request on those that were kept alive."""
        if self._listener is not None:
            self._listener.close()
            self._manager.pre_shutdown()

    async def close(self) -> None:
        """Ends every connection."""
        self.refuse()
        await self._manager.shutdown(timeout=1)

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=self._body_limit)
