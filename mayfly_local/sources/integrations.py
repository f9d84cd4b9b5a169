"""The call of a route's function, with the limits of the API that calls it."""

import asyncio
from typing import Any

from mayfly_local.application.apis import Route
from mayfly_local.compute.invocation import PAYLOAD_LIMIT, Failure, Invocation, Reply
from mayfly_local.logs import Log
from mayfly_local.sources.authorizations import Invoke
from mayfly_local.sources.refusals import Refused

__all__ = ["Integration"]


class Integration:
    """Calls functions for one API. `seconds` is the longest that it waits for one."""

    def __init__(self, invoke: Invoke, log: Log, *, seconds: float) -> None:
        self._invoke = invoke
        self._log = log
        self._seconds = seconds

    async def call(self, route: Route, event: Any, *, timed_out: Refused) -> Reply | Failure:
        """Returns the reply of a route's function.

        Raises `timed_out` if the function takes too long, and Refused if the event is too large or
        if the route has no function here.
        """
        if route.absent is not None:
            raise Refused(501, f"{route.key}: {route.absent}", reason=route.absent)
        invocation = Invocation.of(event)
        if len(invocation.event) > PAYLOAD_LIMIT:
            raise Refused(413, "Request Entity Too Large", "REQUEST_TOO_LARGE")
        # Shielded: after the API's timeout the function continues, as on AWS.
        running = asyncio.ensure_future(self._invoke(route.function, invocation))
        try:
            seconds = min(self._seconds, route.seconds or self._seconds)
            return await asyncio.wait_for(asyncio.shield(running), seconds)
        except TimeoutError:
            raise timed_out from None

    def note_malformed(self, route: Route, request_id: str, reply: Reply, why: str) -> None:
        """Logs a reply that is not a response."""
        self._log.event(
            "bad response",
            "ERROR",
            route=route.key,
            request_id=request_id,
            reason=why,
            response=reply.payload[:200].decode(errors="replace"),
        )
