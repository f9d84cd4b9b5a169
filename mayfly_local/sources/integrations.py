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
        self,
        route: Route,
        event: Any,
        caller: Caller,
        *,
        timed_out: Refused,
        too_large: Refused,
        gone: "asyncio.Future[bool] | None" = None,
    ) -> Reply | Failure:
        """Returns the reply of a route's function, in the turn of the caller.

        A request that has not had its turn when its time is over, or when its connection has ended
        (`gone`), never runs. Raises `timed_out` for it and if the function takes too long,
        `too_large` if the event is, and Refused if the route has no function here.
        """
        if route.absent is not None:
            raise Refused(501, f"{route.key}: {route.absent}", reason=route.absent)
        invocation = Invocation.of(event)
        if len(invocation.event) > PAYLOAD_LIMIT:
            raise too_large
        has_begun = asyncio.Event()
        running = asyncio.ensure_future(
            self._in_turn(route.function, invocation, caller, has_begun)
        )

        def give_up(_: object = None) -> None:
            if not has_begun.is_set():
                running.cancel()

        if gone is not None:
            gone.add_done_callback(give_up)
        longest = min(self._seconds, route.seconds or self._seconds)
        seconds = None if route.is_debugged else longest
        try:
            # It does not cancel: after the API's timeout the function continues, as on AWS.
            await asyncio.wait([running], timeout=seconds)
        finally:
            give_up()
            if gone is not None:
                gone.remove_done_callback(give_up)
        if not running.done() or running.cancelled():
            raise timed_out
        return running.result()

    async def _in_turn(
        self, function: str, invocation: Invocation, caller: Caller, has_begun: asyncio.Event
    ) -> Reply | Failure:
        if caller.share is None:
            has_begun.set()
            return await self._invoke(function, invocation)
        async with self._shares.turn(caller.share, function):
            has_begun.set()
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
