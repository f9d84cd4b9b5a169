"""An SQS event source mapping: polls a queue, and calls a function with batches of messages.

It deletes the messages that succeeded.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from mayfly_local.application.model import QueueSource
from mayfly_local.application.patterns import matches
from mayfly_local.compute.invocation import PAYLOAD_LIMIT, Failure, Invocation, Reply
from mayfly_local.emulator.clients import Clients
from mayfly_local.logs import Log
from mayfly_local.sources.payloads import sqs_record

__all__ = ["QueuePoller", "failed_ids"]

#: Most messages of one receive, delete or visibility call.
_CALL_LIMIT: Final = 10
_WINDOW_POLL_SECONDS: Final = 0.05
#: Receipts that are remembered: more than a queue's messages in flight.
_RECEIPTS: Final = 10_000
#: Concurrent batches of a mapping that sets no limit. Lambda starts with five; a laptop has few
#: cores.
_DEFAULT_CONCURRENCY: Final = max(2, min(5, 2 * (os.cpu_count() or 1)))


class QueuePoller:
    """Serves one mapping until stopped. `poll_seconds` is the length of a long poll."""

    def __init__(
        self,
        source: QueueSource,
        clients: Clients,
        invoke: Callable[[str, Invocation], Awaitable[Reply | Failure]],
        log: Log,
        *,
        poll_seconds: int,
    ) -> None:
        self._source = source
        self._clients = clients
        self._poll_seconds = poll_seconds
        #: Lambda polls and deletes under the function's role.
        self._of_function = clients.of(source.function)
        self._invoke = invoke
        self._log = log
        self._url = ""
        self._slots = asyncio.Semaphore(
            min(source.concurrency or _DEFAULT_CONCURRENCY, _DEFAULT_CONCURRENCY)
        )
        self._stopping = asyncio.Event()
        #: Receipts of messages that are being worked on, for `release` at a stop.
        self._held: set[str] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._is_collecting = False
        #: Receipts of the latest messages, oldest first.
        self._received: dict[str, None] = {}

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self._source.queue_arn.rsplit(":", 1)[1]

    @property
    def has_batches(self) -> bool:
        """True while a batch runs."""
        return bool(self._batches)

    def has_received(self, receipt: str) -> bool:
        """Returns True if a message with this receipt has arrived here."""
        return receipt in self._received

    @property
    def is_busy(self) -> bool:
        """True while a batch runs, or is being received."""
        return bool(self._batches) or self._is_collecting

    async def run(self) -> None:
        """Polls until `stop`."""
        await self._find_queue(self.queue)
        while not self._stopping.is_set():
            await self._slots.acquire()
            self._is_collecting = True
            try:
                messages = await self._collect()
            except (ClientError, BotoCoreError, OSError) as problem:
                self._slots.release()
                await self._fail(self.queue, problem)
                continue
            finally:
                self._is_collecting = False
            if not messages or self._stopping.is_set():
                self._slots.release()
                continue
            batch = asyncio.ensure_future(self._process(messages))
            self._batches.add(batch)
            batch.add_done_callback(self._forget)

    async def _find_queue(self, name: str) -> None:
        """Returns as soon as the queue answers, or when it is stopped."""
        while not self._stopping.is_set():
            try:
                reply = await self._clients.call("sqs", "get_queue_url", QueueName=name)
                self._url = reply["QueueUrl"]
                # Lambda does the same before it polls.
                await self._of_function.call(
                    "sqs", "get_queue_attributes", QueueUrl=self._url,
                    AttributeNames=["VisibilityTimeout"],
                )  # fmt: skip
            except (ClientError, BotoCoreError, OSError) as problem:
                await self._fail(name, problem)
            else:
                return

    async def _fail(self, name: str, problem: Exception) -> None:
        """Logs that a call failed, and returns when the next one is due."""
        self._log.event("poll failed", "ERROR", queue=name, reason=str(problem))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), 1)

    def stop(self) -> None:
        """Ends polling; running batches continue."""
        self._stopping.set()

    async def release(self) -> int:
        """Makes every message that is still held visible immediately, and returns their number.

        Call it after `stop`, when the functions that worked on them have ended.
        """
        if self._batches:
            await asyncio.wait(self._batches, timeout=2)
        receipts = list(self._held)
        for chunk in _chunks(receipts):
            entries = [
                {"Id": str(index), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                for index, receipt in enumerate(chunk)
            ]
            await self._clients.call(
                "sqs", "change_message_visibility_batch", QueueUrl=self._url, Entries=entries
            )
        return len(receipts)

    async def _collect(self) -> list[dict[str, Any]]:
        """Returns a batch: the available messages, up to the batch size.

        With a batching window, it waits for more messages until the window closes.
        """
        batch: list[dict[str, Any]] = []
        size, closes = 0, 0.0
        while not self._stopping.is_set():
            wait = self._poll_seconds
            if batch:
                wait = max(0, min(wait, int(closes - time.monotonic())))
            received = await self._receive(
                min(_CALL_LIMIT, self._source.batch_size - len(batch)), wait
            )
            if batch and not received:
                # SQS waits in whole seconds; the window's last second needs its own polls.
                await asyncio.sleep(_WINDOW_POLL_SECONDS)
            if received and not batch:
                closes = time.monotonic() + self._source.window_seconds
            batch += received
            size += sum(len(message["Body"]) for message in received)
            is_full = len(batch) >= self._source.batch_size or size >= PAYLOAD_LIMIT
            if is_full or (batch and time.monotonic() >= closes) or (not batch and not received):
                break
        return batch

    async def _receive(self, count: int, wait: int) -> list[dict[str, Any]]:
        reply = await self._of_function.call(
            "sqs", "receive_message", QueueUrl=self._url, MaxNumberOfMessages=count,
            WaitTimeSeconds=wait,
            MessageAttributeNames=["All"], AttributeNames=["All"],
        )  # fmt: skip
        messages: list[dict[str, Any]] = reply.get("Messages", [])
        self._held |= {message["ReceiptHandle"] for message in messages}
        self._received |= {message["ReceiptHandle"]: None for message in messages}
        while len(self._received) > _RECEIPTS:
            del self._received[next(iter(self._received))]
        wanted = [message for message in messages if self._is_wanted(message)]
        if len(wanted) < len(messages):
            # A message that the filter rejects is deleted, as on AWS.
            await self._delete([message for message in messages if message not in wanted])
        return wanted

    async def _process(self, messages: list[dict[str, Any]]) -> None:
        try:
            event = {
                "Records": [sqs_record(message, self._source.queue_arn) for message in messages]
            }
            result = await self._invoke(self._source.function, Invocation.of(event))
            failed = failed_ids(
                result,
                [message["MessageId"] for message in messages],
                reports=self._source.reports_failures,
            )
            await self._delete(
                [message for message in messages if message["MessageId"] not in failed]
            )
            if not (self._stopping.is_set() and isinstance(result, Failure)):
                # A failed message returns after its visibility timeout. At a stop, `release`
                # returns it immediately.
                self._held -= {message["ReceiptHandle"] for message in messages}
        except (ClientError, BotoCoreError, OSError) as problem:
            self._log.event(
                "delete failed",
                "ERROR",
                queue=self._url,
                reason=str(problem),
                messages=len(messages),
            )
        finally:
            self._slots.release()

    def _forget(self, batch: asyncio.Task[None]) -> None:
        """Notes that a batch is over; says so if it failed in an unforeseen way.

        Its messages come back after their visibility timeout.
        """
        self._batches.discard(batch)
        if not batch.cancelled() and (problem := batch.exception()) is not None:
            self._log.event(
                "batch failed",
                "ERROR",
                queue=self._url,
                function=self._source.function,
                reason=f"{type(problem).__name__}: {problem}",
            )

    async def _delete(self, messages: list[dict[str, Any]]) -> None:
        for chunk in _chunks(messages):
            entries = [
                {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                for index, message in enumerate(chunk)
            ]
            await self._of_function.call(
                "sqs", "delete_message_batch", QueueUrl=self._url, Entries=entries
            )
            self._held -= {message["ReceiptHandle"] for message in chunk}

    def _is_wanted(self, message: dict[str, Any]) -> bool:
        if not self._source.patterns:
            return True
        record = {"body": message["Body"]}
        with contextlib.suppress(ValueError, RecursionError):
            record["body"] = json.loads(message["Body"])
        return any(matches(pattern, record) for pattern in self._source.patterns)


def failed_ids(result: Reply | Failure, ids: list[str], *, reports: bool) -> set[str]:
    """Returns the ids of the records that failed, by AWS's rules for a function's result.

    All records failed if the function failed or its report cannot be parsed. None failed if it
    reports none.
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    if isinstance(result, Failure):
        return set(ids)
    if not reports:
        return set()
    reply = json.loads(result.payload)
    entries = (
        (reply or {}).get("batchItemFailures")
        if isinstance(reply, dict) or reply is None
        else "unreadable"
    )
    if not entries:
        return set()
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and entry.get("itemIdentifier") in ids for entry in entries
    ):
        return set(ids)
    return {entry["itemIdentifier"] for entry in entries}


def _chunks(items: list[Any]) -> list[list[Any]]:
    return [items[start : start + _CALL_LIMIT] for start in range(0, len(items), _CALL_LIMIT)]
