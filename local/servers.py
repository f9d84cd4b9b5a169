"""HTTP servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

__all__ = ["server"]


def server(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, body_limit: int) -> web.Server:
    """A protocol factory that gives each request to `handler`, and refuses bodies above `body_limit` bytes while they arrive."""

    def request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=body_limit)

    return web.Server(handler, request_factory=request, access_log=None)
