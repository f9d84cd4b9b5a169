"""Calls functions by the clock, as EventBridge does.

The calls are asynchronous, with two retries after an error.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from mayfly_local.application.model import Schedule
from mayfly_local.compute.invocation import Failure, Invocation, Reply
from mayfly_local.logs import Log
from mayfly_local.sources.payloads import schedule_event

__all__ = ["Scheduler"]

#: Seconds before the second and the third try of an asynchronous invocation.
#: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
_RETRIES: Final = (60.0, 120.0)


class Scheduler:
    """Runs one schedule until cancelled."""

    def __init__(
        self,
        schedule: Schedule,
        invoke: Callable[[str, Invocation], Awaitable[Reply | Failure]],
        log: Log,
    ) -> None:
        self._schedule = schedule
        self._invoke = invoke
        self._log = log
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Starts a call at each time of the schedule.

        A slow call does not delay the next one.
        """
        due = self._schedule.times.after(datetime.now(UTC))
        while due is not None:
            await asyncio.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
            call = asyncio.ensure_future(self._call(due))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            due = self._schedule.times.after(due)

    async def _call(self, due: datetime) -> None:
        invocation = Invocation.of(schedule_event(self._schedule, due))
        for pause in (*_RETRIES, None):
            result = await self._invoke(self._schedule.function, invocation)
            if isinstance(result, Reply):
                return
            if pause is None:
                self._log.event(
                    "schedule failed",
                    "ERROR",
                    schedule=self._schedule.name,
                    reason=result.message,
                    next="discarded",
                )
                return
            self._log.event(
                "schedule failed",
                "WARNING",
                schedule=self._schedule.name,
                reason=result.message,
                next=f"again in {pause:.0f} s",
            )
            await asyncio.sleep(pause)
