"""The SQS edge: works through a batch record by record.

A record that fails does not affect its neighbours. It is reported alone (partial batch response),
and its own visibility timeout brings it back after the time of its error.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Protocol

from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from mayfly.aws.queue import Queue
from mayfly.core.errors import MayflyError
from mayfly.core.observability import Observer
from mayfly.jobs.errors import LeaseHeld

__all__ = ["SQSRecord", "Work", "each", "entrypoint"]

#: A record is not started if less than this is left before the invocation's deadline, in
#: milliseconds.
_START_MARGIN_MS = 2_000


class Work(Protocol):
    """The work of one invocation, as `entrypoint` drives it."""

    @property
    def records(self) -> Sequence[SQSRecord]:
        """The batch in the order in which it is to be run."""

    def prepare(self) -> None:
        """Called once, before the first record is run.

        Meanwhile, another thread reduces the visibility timeout of the batch.
        """

    def begin(self) -> None:
        """Called once, after `prepare`, when the batch is hidden for no longer than a lease.

        Work may start from here on.
        """

    def has_started(self, record: SQSRecord) -> bool:
        """Returns True if `begin` has started the record.

        It is then finished in spite of the deadline.
        """

    def run(self, record: SQSRecord) -> None:
        """Does a record's work.

        Returns if the record is done, unless `close` reports it; raises if it must come back.
        """

    def beat(self) -> None:
        """Called every third of a lease, from another thread, while records are run."""

    def close(self) -> Mapping[str, Exception]:
        """Called once, after the last record, also if the deadline kept some from being run.

        Nothing may be running when it returns. Returns errors by message id: `run` had returned for
        these records, but they must come back.
        """


class _NotStarted(LeaseHeld):
    """The invocation's deadline is too near to start this record; it goes back immediately."""


def entrypoint(
    open_batch: Callable[[Sequence[SQSRecord], LambdaContext], Work],
    *,
    queue: Queue,
    lease_seconds: float,
    observe: Observer,
) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """Returns the Lambda handler that works through a batch.

    Its first act reduces the batch's visibility timeout to the lease. So a crash delays a job by a
    lease, and not by the queue's own visibility timeout, which Lambda requires to exceed the
    function's timeout. The batch is prepared meanwhile, and no record is run before both are done.

    From a third of the lease on, a heartbeat renews the claims of running jobs and the visibility
    of the whole batch. This includes finished records, since SQS deletes them only after the
    handler has returned. Records for which the deadline leaves no time are not started, and go back
    immediately.
    """

    def handler(event: dict[str, Any], context: LambdaContext) -> Any:
        with observe.invocation():
            batch = open_batch([SQSRecord(record) for record in event["Records"]], context)
            return _Invocation(batch, queue, lease_seconds, observe, context).work()

    return handler


class _Invocation:
    """One batch in one invocation."""

    def __init__(
        self,
        batch: Work,
        queue: Queue,
        lease_seconds: float,
        observe: Observer,
        context: LambdaContext,
    ) -> None:
        self._batch = batch
        self._queue = queue
        self._lease_seconds = lease_seconds
        self._observe = observe
        self._context = context
        self._receipts = [record.receipt_handle for record in batch.records]
        #: The time at which a record must come back, by receipt, on this process' monotonic clock.
        self._returns_at: dict[str, float] = {}

    def work(self) -> dict[str, Any]:
        """Returns the partial batch response."""
        with _heartbeat(
            self._reduce_visibility, self._renew_safely, interval_seconds=self._lease_seconds / 3
        ) as has_begun:
            self._batch.prepare()
            has_begun()
            try:
                self._batch.begin()
                # Powertools declares a type of its own for what is a plain dictionary.
                report: dict[str, Any] = process_partial_response(  # type: ignore[assignment]
                    event={"Records": [record.raw_event for record in self._batch.records]},
                    record_handler=self._run,
                    processor=BatchProcessor(
                        event_type=EventType.SQS, raise_on_entire_batch_failure=False
                    ),
                    context=self._context,
                )
            finally:
                late = self._batch.close()
            for record in self._batch.records:
                if record.message_id in late:
                    self._send_back(record, late[record.message_id])
                    report["batchItemFailures"].append({"itemIdentifier": record.message_id})
        late_messages = self._queue.set_visibility(
            {receipt: self._seconds_left(receipt) for receipt in self._returns_at}
        )
        if late_messages:
            self._observe.log.warning(
                "the time of messages that go back could not be set; they come back within a lease",
                messages=late_messages,
            )
        return report

    def _run(self, record: SQSRecord) -> None:
        try:
            if (
                self._context.get_remaining_time_in_millis() < _START_MARGIN_MS
                and not self._batch.has_started(record)
            ):
                raise _NotStarted(record.message_id, 0)
            self._batch.run(record)
        except Exception as error:
            self._send_back(record, error)
            raise

    def _send_back(self, record: SQSRecord, error: Exception) -> None:
        seconds = _retry_seconds(error, self._lease_seconds)
        self._returns_at[record.receipt_handle] = monotonic() + seconds
        if not isinstance(error, MayflyError):
            self._observe.log.error(
                "a message failed in an unforeseen way; it comes back",
                message_id=record.message_id,
                exc_info=error,
            )
        else:
            self._observe.log.info(
                "a message goes back to the queue", message_id=record.message_id, error=str(error)
            )

    def _reduce_visibility(self) -> None:
        if late := self._queue.set_visibility(dict.fromkeys(self._receipts, self._lease_seconds)):
            self._observe.log.warning(
                "the visibility timeout of messages could not be reduced; after a crash they come "
                "back later",
                messages=late,
            )

    def _renew_safely(self) -> None:
        try:
            self._renew()
        except Exception:
            self._observe.log.exception(
                "a heartbeat failed in an unforeseen way; the next one tries again"
            )

    def _renew(self) -> None:
        self._batch.beat()
        # This includes failed records: they must not come back before `work` has set their time.
        late = self._queue.set_visibility(
            {
                receipt: max(self._lease_seconds, self._seconds_left(receipt))
                for receipt in self._receipts
            }
        )
        if late:
            self._observe.log.warning(
                "messages could not be hidden for longer; the next heartbeat tries again",
                messages=late,
            )

    def _seconds_left(self, receipt: str) -> float:
        return max(0.0, self._returns_at.get(receipt, 0.0) - monotonic())


def each(
    run: Callable[[SQSRecord], None], *, observe: Observer
) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """Returns the Lambda handler that gives each record of a batch to `run`.

    A record for which it raises comes back after the queue's own visibility timeout.
    """

    def settle(record: SQSRecord) -> None:
        try:
            run(record)
        except Exception:
            observe.log.exception(
                "a message could not be handled; it comes back", message_id=record.message_id
            )
            raise

    def handler(event: dict[str, Any], context: LambdaContext) -> Any:
        processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
        with observe.invocation():
            return process_partial_response(
                event=event, record_handler=settle, processor=processor, context=context
            )

    return handler


@contextmanager
def _heartbeat(
    first: Callable[[], None], then: Callable[[], None], *, interval_seconds: float
) -> Iterator[Callable[[], object]]:
    """Calls `first` and then `then` at every interval, in a thread.

    Yields a function that waits until `first` is done. Joins the thread before it returns, since
    Lambda freezes threads that are still running.
    """
    begun, done = threading.Event(), threading.Event()

    def beat() -> None:
        try:
            first()
        finally:
            begun.set()
        while not done.wait(interval_seconds):
            then()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield begun.wait
    finally:
        done.set()
        thread.join()


def _retry_seconds(error: Exception, lease_seconds: float) -> float:
    if isinstance(error, LeaseHeld):
        return error.seconds
    return 0 if isinstance(error, MayflyError) and not error.retryable else lease_seconds
