"""Requests invocations by the clock, as EventBridge does; sends messages and events by it, too."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from mayfly_local.application.model import Schedule
from mayfly_local.logs import Log
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
    ) -> None:
        self._schedule = schedule
        self._submit = submit
        self._sender = sender
        self._log = log

    async def run(self) -> None:
        """Requests a call at each time of the schedule."""
        due = self._schedule.after(datetime.now(UTC))
        while due is not None:
            await asyncio.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
            event = schedule_event(self._schedule, due)
            if self._schedule.function is not None:
                await self._submit(self._schedule.function, event)
            else:
                await self._send(event)
            due = self._schedule.after(due)

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
