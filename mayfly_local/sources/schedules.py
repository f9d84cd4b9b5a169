"""Requests invocations by the clock, as EventBridge does; sends messages and events by it, too."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from mayfly_local.application.model import Schedule
from mayfly_local.logs import Log
from mayfly_local.processes.clock import Clock
from mayfly_local.sources.payloads import schedule_event
from mayfly_local.sources.sender import Message, Sender

__all__ = ["Scheduler"]


class Scheduler:
    """Runs one schedule until cancelled.

    `submit(function, event)` requests an asynchronous invocation, which is retried by the
    function's own settings.
    """

    def __init__(
        self,
        schedule: Schedule,
        submit: Callable[[str, Any], Awaitable[None]],
        sender: Sender,
        log: Log,
        *,
        clock: Clock,
    ) -> None:
        self._schedule = schedule
        self._submit = submit
        self._sender = sender
        self._log = log
        self._clock = clock
        self._next: datetime | None = None

    @property
    def name(self) -> str:
        """The name of the schedule."""
        return self._schedule.name

    @property
    def due(self) -> float | None:
        """The next time, in seconds since the epoch; None if there is none."""
        return None if self._next is None else self._next.timestamp()

    def is_due(self, now: float) -> bool:
        """Returns True if its time has come, and its call is not requested yet."""
        return self.due is not None and self.due <= now

    async def run(self) -> None:
        """Requests a call at each time of the schedule.

        Of several times that have passed meanwhile, as in an outage, the last one gets a call.
        """
        self._next = self._schedule.after(self._now())
        while self._next is not None:
            await self._clock.sleep_until(self._next.timestamp())
            due, now = self._next, self._now()
            while (later := self._schedule.after(due)) is not None and later <= now:
                due = later
            event = schedule_event(self._schedule, due)
            if self._schedule.function is not None:
                await self._submit(self._schedule.function, event)
            else:
                await self._send(event)
            self._next = later

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    async def _send(self, event: Any) -> None:
        arn = str(self._schedule.target_arn)
        message = Message(json.dumps(event), source="scheduled", detail_type="Scheduled Event")
        try:
            await self._sender.deliver(arn, message)
        except ClientError as refusal:
            self._log.event(
                "schedule failed", "ERROR",
                schedule=self._schedule.name, target=arn, reason=str(refusal),
            )  # fmt: skip
