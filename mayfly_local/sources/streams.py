"""The mapping of a stream of DynamoDB or Kinesis: reads each shard in order, and calls a function.

A failed batch is retried, and halved if the mapping says so, until its retries or its records' age
run out. Then it is reported to the on-failure destination, and the shard continues.
https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from mayfly_local.application.model import StreamSource
from mayfly_local.application.patterns import matches
from mayfly_local.compute.invocation import Failure, Invocation, Reply
from mayfly_local.emulator.clients import Clients
from mayfly_local.errors import LocalError
from mayfly_local.logs import Log
from mayfly_local.sources.feeds import feed_of
from mayfly_local.sources.positions import Positions
from mayfly_local.sources.queues import failed_ids
from mayfly_local.sources.sender import UNSENT, Message, Sender

__all__ = ["StreamPoller"]

#: Seconds between two reads while nothing tells of new records.
_QUICKEST_POLL: Final = 0.02
_SLOWEST_POLL: Final = 0.2
#: Seconds without a read while the emulator tells of new records.
_LONGEST_WAIT: Final = 5.0
_LONGEST_BACKOFF: Final = 10.0
_NOTE_SECONDS: Final = 0.25
_REPORT_PAUSE: Final = 2.0
_USELESS_ITERATOR: Final = {"ExpiredIteratorException", "TrimmedDataAccessException"}


@dataclass
class _Batch:
    records: list[dict[str, Any]]
    retries: int = 0


class _Attempt(NamedTuple):
    """A call of the function with a batch. It may reply with failed records, and not fail."""

    request_id: str
    number: int
    has_failed: bool

    @property
    def response_context(self) -> dict[str, Any]:
        """Returns the facts about the response of the call, for a report."""
        error = {"functionError": "Unhandled"} if self.has_failed else {}
        return {"statusCode": 200, "executedVersion": "$LATEST", **error}


class StreamPoller:
    """Serves one mapping until stopped.

    `positions` stores how far it has read, if the endpoint is the emulator.
    """

    def __init__(
        self,
        source: StreamSource,
        clients: Clients,
        invoke: Callable[[str, Invocation], Awaitable[Reply | Failure]],
        log: Log,
        positions: Positions | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._source = source
        self._sender = Sender(clients)
        #: Lambda reads and reports under the function's role.
        self._of_function = clients.of(source.function)
        self._feed = feed_of(source.stream_arn, self._of_function, role=source.role)
        self._positions = positions if self._feed.has_positions else None
        self._invoke = invoke
        self._log = log
        self._stopping = asyncio.Event()
        self._running = 0
        self._noted = ""
        self._noted_at = 0.0
        #: The newest record of each shard, as the emulator told it, if all up to it are processed.
        self._read_to: dict[str, str] = {}

    @property
    def stream(self) -> str:
        """The ARN of its stream."""
        return self._source.stream_arn

    def has_read(self, newest: str) -> bool:
        """Returns True if every record up to `newest` of its stream has been processed.

        An empty stream has the number "0": all mappings have read what it had. Of Kinesis, the
        emulator does not tell the newest record.
        """
        is_read = newest == "0" or set(self._read_to.values()) == {newest}
        return self._positions is None or is_read

    @property
    def function(self) -> str:
        """The function that it calls."""
        return self._source.function

    @property
    def is_busy(self) -> bool:
        """True while a batch runs."""
        return self._running > 0

    async def run(self) -> None:
        """Reads all shards until `stop`."""
        shards = await self._find_shards()
        await asyncio.gather(*(self._read_shard(shard) for shard in shards))

    def stop(self) -> None:
        """Ends reading; a running batch continues."""
        self._stopping.set()

    async def _find_shards(self) -> list[str]:
        """Returns the shards as soon as the stream has some; none if it is stopped before."""
        while not self._stopping.is_set():
            try:
                return await self._feed.shards()
            except (ClientError, BotoCoreError, OSError, LocalError) as problem:
                self._note_failure(problem)
                await self._pause(1)
        return []

    def _note_failure(self, problem: Exception) -> None:
        self._log.event("poll failed", "ERROR", stream=self._source.stream_arn, reason=str(problem))

    async def _read_shard(self, shard: str) -> None:
        position: str | None = None
        waiting: list[dict[str, Any]] = []
        closes, read, fetched = 0.0, "", ""
        pace = _Pace(self._source.stream_arn, self._positions, self._stopping)
        while not self._stopping.is_set():
            try:
                records, position = await self._next_records(shard, position, after=fetched)
            except (ClientError, BotoCoreError, OSError) as problem:
                self._note_failure(problem)
                # With records of the last day only, the position may be too old.
                if _code(problem) in _USELESS_ITERATOR:
                    position = None
                await self._pause(1)
                continue
            fetched = self._feed.number(records[-1]) if records else fetched
            if records and not waiting:
                closes = time.monotonic() + self._source.window_seconds
            waiting += [record for record in records if self._is_wanted(record)]
            while waiting and (
                len(waiting) >= self._source.batch_size or time.monotonic() >= closes
            ):
                batch, waiting = (
                    waiting[: self._source.batch_size],
                    waiting[self._source.batch_size :],
                )
                await self._deliver(shard, _Batch(batch))
                if not self._stopping.is_set():
                    read = self._feed.number(batch[-1])
            if records and not waiting and not self._stopping.is_set():
                read = self._feed.number(records[-1])
            await self._note_read(read)
            if not waiting and (not records or fetched == pace.newest):
                self._read_to[shard] = pace.newest
            left = closes - time.monotonic() if waiting else _LONGEST_WAIT
            await pace.wait(fetched, has_found=bool(records), at_most=left)
        await self._note_read(read, is_last=True)

    async def _next_records(
        self, shard: str, position: str | None, *, after: str
    ) -> tuple[list[dict[str, Any]], str]:
        """Returns the records at a position, or else after the record `after`, and the next one.

        A position is too old after a slow batch, after the laptop's sleep, and if a test has moved
        the stack's clock.
        """
        if position is not None:
            try:
                return await self._feed.read(shard, position)
            except ClientError as refusal:
                if _code(refusal) not in _USELESS_ITERATOR:
                    raise
        return await self._feed.read(shard, await self._start_position(shard, after=after))

    async def _start_position(self, shard: str, *, after: str = "") -> str:
        """Returns an iterator for the next record of a shard.

        It starts after the record `after`. Otherwise it starts after the stored position, or else
        at the mapping's starting position.
        """
        where: dict[str, str] = {"ShardIteratorType": self._source.starts_at}
        if after:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        elif self._positions is not None:
            if self._source.name in self._positions.lost:
                await self._report_lost(shard)
            if (read := self._positions.read.get(self._source.name)) is not None:
                where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": read}
        try:
            return await self._feed.iterator(shard, where)
        except ClientError as refusal:
            if refusal.response["Error"]["Code"] != "TrimmedDataAccessException":
                raise
            # All mappings have read the record, and it was dropped. The remaining records come
            # after it.
            return await self._feed.iterator(shard, {"ShardIteratorType": "TRIM_HORIZON"})

    async def _note_read(self, number: str, *, is_last: bool = False) -> None:
        """Stores the position from time to time. After a crash, later records are read again."""
        if self._positions is None or number == self._noted:
            return
        if is_last or time.monotonic() - self._noted_at >= _NOTE_SECONDS:
            self._noted, self._noted_at = number, time.monotonic()
            await self._positions.note(self._source.name, number)

    async def _report_lost(self, shard: str) -> None:
        """Reports to the on-failure destination that unread records are gone.

        Their numbers are unknown.
        """
        assert self._positions is not None
        self._log.event(
            "stream records lost",
            "WARNING",
            stream=self._source.stream_arn,
            function=self._source.function,
        )
        facts = {"startSequenceNumber": "0", "endSequenceNumber": "0", "batchSize": 0}
        while not await self._report(shard, "RecordAgeExceeded", facts, []):
            await self._pause(_REPORT_PAUSE)
            if self._stopping.is_set():  # The next start reports it.
                return
        await self._positions.reported(self._source.name)

    async def _deliver(self, shard: str, batch: _Batch) -> None:
        """Returns when every record of the batch has been processed or reported as failed."""
        todo = [batch]
        while todo and not self._stopping.is_set():
            batch = todo.pop(0)
            left, attempt = await self._attempt(batch)
            if not left:
                continue
            is_exhausted = (
                self._source.max_retries is not None and batch.retries >= self._source.max_retries
            )
            if self._source.bisects and len(left) > 1:
                # Halving uses no retry: it only finds the failing record.
                half = len(left) // 2
                todo[:0] = [_Batch(left[:half], batch.retries), _Batch(left[half:], batch.retries)]
            elif is_exhausted or self._is_too_old(left[0]):
                await self._discard(shard, left, attempt)
            else:
                todo.insert(0, _Batch(left, batch.retries + 1))
                await self._pause(min(0.1 * 2**batch.retries, _LONGEST_BACKOFF))

    async def _attempt(self, batch: _Batch) -> tuple[list[dict[str, Any]], _Attempt]:
        """Calls the function and returns the records that must be delivered again.

        These are all records from the first failed one on.
        """
        records = batch.records
        invocation = Invocation.of({"Records": records})
        self._running += 1
        try:
            result = await self._invoke(self._source.function, invocation)
        finally:
            self._running -= 1
        numbers = [self._feed.number(record) for record in records]
        failed = failed_ids(result, numbers, reports=self._source.reports_failures)
        first = next(
            (index for index, number in enumerate(numbers) if number in failed), len(records)
        )
        return records[first:], _Attempt(
            invocation.request_id, batch.retries + 1, isinstance(result, Failure)
        )

    async def _discard(self, shard: str, records: list[dict[str, Any]], attempt: _Attempt) -> None:
        numbers = [self._feed.number(record) for record in records]
        self._log.event(
            "batch discarded",
            "ERROR",
            stream=self._source.stream_arn,
            records=len(records),
            retries=attempt.number - 1,
        )
        condition = (
            "RetryAttemptsExhausted" if not self._is_too_old(records[0]) else "RecordAgeExceeded"
        )
        now = self._clock()
        times = [self._feed.created(record) or now for record in records]
        facts = {
            "startSequenceNumber": numbers[0],
            "endSequenceNumber": numbers[-1],
            "approximateArrivalOfFirstRecord": _rfc3339(min(times)),
            "approximateArrivalOfLastRecord": _rfc3339(max(times)),
            "batchSize": len(records),
        }
        while (
            not await self._report(shard, condition, facts, records, attempt)
            and not self._stopping.is_set()
        ):
            # The shard may not continue before its failed batch is reported.
            await self._pause(_REPORT_PAUSE)

    async def _report(
        self,
        shard: str,
        condition: str,
        facts: dict[str, Any],
        records: list[dict[str, Any]],
        attempt: _Attempt | None = None,
    ) -> bool:
        """Reports a failed batch to the on-failure destination; returns False if that failed.

        A bucket gets the records, too. `attempt` is the last one, if the function got the batch.
        https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
        """
        if self._source.on_failure_arn is None:
            return True
        called = {} if attempt is None else {"responseContext": attempt.response_context}
        report = {
            "requestContext": {
                **({} if attempt is None else {"requestId": attempt.request_id}),
                "functionArn": self._source.function_arn,
                "condition": condition,
                "approximateInvokeCount": 0 if attempt is None else attempt.number,
            },
            **called,
            "version": "1.0",
            "timestamp": _rfc3339(self._clock()),
            self._feed.batch_info: {
                "shardId": shard,
                "streamArn": self._source.stream_arn,
                **facts,
            },
        }
        arn, text = self._source.on_failure_arn, json.dumps(report)
        name = arn.rsplit(":", 1)[1]
        try:
            if ":s3:" in arn:
                await self._store_report(name, shard, report, records)
            else:
                await self._sender.send(arn, Message(text), function=self._source.function)
        except UNSENT as problem:
            self._log.event(
                "report lost", "ERROR", destination=name, reason=str(problem), report=report
            )
            return False
        return True

    async def _store_report(
        self, bucket: str, shard: str, report: dict[str, Any], records: list[dict[str, Any]]
    ) -> None:
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H.%M.%S")
        mapping = uuid.uuid5(uuid.NAMESPACE_OID, self._source.name)
        payload = {"payload": json.dumps({"Records": records})} if records else {}
        await self._of_function.call(
            "s3",
            "put_object",
            Bucket=bucket,
            Key=f"aws/lambda/{mapping}/{shard}/{at}-{uuid.uuid4()}",
            Body=json.dumps({**report, **payload}).encode(),
        )

    def _is_wanted(self, record: dict[str, Any]) -> bool:
        if not self._source.patterns:
            return True
        seen = self._feed.filtered(record)
        return any(matches(pattern, seen) for pattern in self._source.patterns)

    def _is_too_old(self, record: dict[str, Any]) -> bool:
        created = self._feed.created(record)
        if self._source.max_age_seconds is None or created is None:
            return False
        return bool(self._clock() - created > self._source.max_age_seconds)

    async def _pause(self, seconds: float) -> None:
        await _pause(self._stopping, seconds)


class _Pace:
    """Waits for the next read of a shard: until it has new records, or until a pause is over.

    The emulator tells of new records, and `newest` is the last one that it has told. Another
    endpoint is asked again and again, ever more slowly.
    """

    def __init__(self, stream: str, positions: Positions | None, stopping: asyncio.Event) -> None:
        self._stream = stream
        self._positions = positions
        self._stopping = stopping
        self.newest = ""
        self._seconds = _QUICKEST_POLL

    async def wait(self, read_to: str, *, has_found: bool, at_most: float) -> None:
        """Waits after a read that came to the record `read_to`, for `at_most` seconds."""
        known = self.newest
        if self._positions is not None:
            if has_found and read_to != known:  # There may be more.
                return
            await self._ask(self._positions, max(0.0, at_most))
        if self.newest == known:
            self._seconds = _QUICKEST_POLL if has_found else min(self._seconds * 1.5, _SLOWEST_POLL)
            await _pause(self._stopping, min(self._seconds, max(0.0, at_most)))

    async def _ask(self, positions: Positions, seconds: float) -> None:
        asking = asyncio.ensure_future(
            positions.newest_record(self._stream, known=self.newest, seconds=seconds)
        )
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_told = asking.done()
            asking.cancel()
            stopping.cancel()
        # The emulator may be starting again. A read then fails as well, and is logged.
        with contextlib.suppress(aiohttp.ClientError, OSError):
            if is_told:
                self.newest = asking.result()


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)


def _code(problem: Exception) -> str:
    return str(problem.response["Error"]["Code"]) if isinstance(problem, ClientError) else ""


def _rfc3339(seconds: float) -> str:
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
