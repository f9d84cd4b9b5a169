"""Requests invocations by the clock, as EventBridge does; sends messages and events by it, too."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mayfly_local.application.model import Schedule
from mayfly_local.emulator.clients import Clients
from mayfly_local.logs import Log
from mayfly_local.sources.payloads import schedule_event

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
        clients: Clients,
        log: Log,
    ) -> None:
        self._schedule = schedule
        self._submit = submit
        self._clients = clients
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
        arn, text = str(self._schedule.target_arn), json.dumps(event)
        try:
            match arn.split(":")[2]:
                case "sqs":
                    name = arn.rpartition(":")[2]
                    found = await self._clients.call("sqs", "get_queue_url", QueueName=name)
                    await self._clients.call(
                        "sqs", "send_message", QueueUrl=found["QueueUrl"], MessageBody=text
                    )
                case "sns":
                    await self._clients.call("sns", "publish", TopicArn=arn, Message=text)
                case _:
                    entry = {
                        "EventBusName": arn,
                        "Source": "scheduled",
                        "DetailType": "Scheduled Event",
                        "Detail": text,
                    }
                    await self._clients.call("events", "put_events", Entries=[entry])
        except (ClientError, BotoCoreError, OSError) as problem:
            self._log.event(
                "schedule failed", "ERROR",
                schedule=self._schedule.name, target=arn, reason=str(problem),
            )  # fmt: skip
