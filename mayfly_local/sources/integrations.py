"""The call of a route's function, with the limits of the API that calls it."""

import asyncio
from typing import Any

from mayfly_local.application.apis import Route
from mayfly_local.compute.invocation import PAYLOAD_LIMIT, Failure, Invocation, Reply
from mayfly_local.logs import Log
from mayfly_local.sources.authorizations import Caller, Invoke
from mayfly_local.sources.refusals import Refused
from mayfly_local.sources.shares import Shares

__all__ = ["Integration"]


class Integration:
    """Calls functions for one API. `seconds` is the longest that it waits for one."""

    def __init__(self, invoke: Invoke, log: Log, shares: Shares, *, seconds: float) -> None:
        self._invoke = invoke
        self._log = log
        self._shares = shares
        self._seconds = seconds

    async def call(
        self, route: Route, event: Any, caller: Caller, *, timed_out: Refused, too_large: Refused
    ) -> Reply | Failure:
        """Returns the reply of a route's function, in the turn of the caller.

        Raises `timed_out` if the function takes too long, `too_large` if the event is, and Refused
        if the route has no function here.
        """
        if route.absent is not None:
            raise Refused(501, f"{route.key}: {route.absent}", reason=route.absent)
        invocation = Invocation.of(event)
        if len(invocation.event) > PAYLOAD_LIMIT:
            raise too_large
        # Shielded: after the API's timeout the function continues, as on AWS.
        running = asyncio.ensure_future(self._in_turn(route.function, invocation, caller))
        try:
            seconds = min(self._seconds, route.seconds or self._seconds)
            return await asyncio.wait_for(asyncio.shield(running), seconds)
        except TimeoutError:
            raise timed_out from None

    async def _in_turn(
        self, function: str, invocation: Invocation, caller: Caller
    ) -> Reply | Failure:
        if caller.share is None:
            return await self._invoke(function, invocation)
        async with self._shares.turn(caller.share, function):
            return await self._invoke(function, invocation)

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
