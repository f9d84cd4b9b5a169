"""The SQS edge: a batch to work through record by record.

A record that fails never takes its neighbours along: it is reported alone (partial batch response)
and comes back when its error says, by its own visibility timeout.
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

__all__ = ["Batch", "each", "entrypoint"]

#: A record is not started with less than this left before the invocation's deadline, in
#: milliseconds.
_START_MARGIN_MS = 2_000


class Batch(Protocol):
    """The work of one invocation, as `entrypoint` drives it."""

    @property
    def records(self) -> Sequence[SQSRecord]:
        """The batch in the order in which it is to be run."""

    def prepare(self) -> None:
        """Called once, before the first record is run, while the batch's visibility is being cut
        down.
        """

    def begin(self) -> None:
        """Called once, when `prepare` is done and the batch is hidden for no longer than a lease:
        from here on work may be done.
        """

    def has_started(self, record: SQSRecord) -> bool:
        """Whether a record's work has been begun by `begin`: then it is not given up for the
        deadline.
        """

    def run(self, record: SQSRecord) -> None:
        """Does a record's work.

        Returns when the record is done, but for what `close` says; raises where it is to come back.
        """

    def beat(self) -> None:
        """Called at every third of a lease, from another thread, while records are run."""

    def close(self) -> Mapping[str, Exception]:
        """Called once, after the last record, and when the deadline has kept some from being run.
        Nothing goes on after it.

        Returns the errors of records, by message id, for which `run` had returned and which come
        back after all.
        """


class _NotStarted(LeaseHeld):
    """The invocation's deadline is too near to start this record; it goes back at once."""


def entrypoint(
    open_batch: Callable[[Sequence[SQSRecord], LambdaContext], Batch],
    *,
    queue: Queue,
    lease_seconds: float,
    observe: Observer,
) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """The Lambda handler that works through a batch.

    Its first act cuts the batch's visibility down to the lease, so that a crash costs a lease and
    not the queue's own visibility timeout, which Lambda requires to exceed the function's timeout;
    the batch is prepared meanwhile, and no record is run before both are done. From a third of the
    lease on, a heartbeat renews what runs and the visibility of the whole batch, finished records
    too: SQS deletes them only when this returns. Records that the deadline leaves no time for are
    not started and go back at once.
    """

    def handler(event: dict[str, Any], context: LambdaContext) -> Any:
        batch = open_batch([SQSRecord(record) for record in event["Records"]], context)
        report = _Invocation(batch, queue, lease_seconds, observe, context).work()
        if observe.metrics.metric_set:
            observe.metrics.flush_metrics()
        return report

    return handler


class _Invocation:
    """One batch on its way through one invocation."""

    def __init__(
        self,
        batch: Batch,
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
        #: When a record is wanted again, by receipt, on the monotonic clock of this process.
        self._again: dict[str, float] = {}

    def work(self) -> dict[str, Any]:
        """Returns the partial batch response."""
        with _heartbeat(
            self._shorten, self._renew_safely, interval_seconds=self._lease_seconds / 3
        ) as has_begun:
            self._batch.prepare()
            has_begun()
            try:
                self._batch.begin()
                # A plain dictionary.
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
                    self._give_back(record, late[record.message_id])
                    report["batchItemFailures"].append({"itemIdentifier": record.message_id})
        self._queue.set_visibility(
            {receipt: self._seconds_left(receipt) for receipt in self._again}
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
            self._give_back(record, error)
            raise

    def _give_back(self, record: SQSRecord, error: Exception) -> None:
        self._again[record.receipt_handle] = monotonic() + _comes_back_in(
            error, self._lease_seconds
        )
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

    def _shorten(self) -> None:
        if late := self._queue.set_visibility(dict.fromkeys(self._receipts, self._lease_seconds)):
            self._observe.log.warning(
                "could not shorten the visibility of a batch; after a crash it comes back later",
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
        # Of what has failed, too: it must not come back while its receipt is still wanted for the
        # exact time.
        self._queue.set_visibility(
            {
                receipt: max(self._lease_seconds, self._seconds_left(receipt))
                for receipt in self._receipts
            }
        )

    def _seconds_left(self, receipt: str) -> float:
        return max(0.0, self._again.get(receipt, 0.0) - monotonic())


def each(
    run: Callable[[SQSRecord], None], *, observe: Observer
) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """The Lambda handler that gives each record of a batch to `run`; one that raises comes back by
    the queue's own visibility.
    """

    def settle(record: SQSRecord) -> None:
        try:
            run(record)
        except Exception:
            observe.log.exception(
                "a message could not be dealt with; it comes back", message_id=record.message_id
            )
            raise

    def handler(event: dict[str, Any], context: LambdaContext) -> Any:
        report = process_partial_response(
            event=event,
            record_handler=settle,
            processor=BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False),
            context=context,
        )
        if observe.metrics.metric_set:
            observe.metrics.flush_metrics()
        return report

    return handler


@contextmanager
def _heartbeat(
    first: Callable[[], None], then: Callable[[], None], *, interval_seconds: float
) -> Iterator[Callable[[], object]]:
    """Does `first`, and `then` again and again, in a thread; gives a function that waits until
    `first` is done.

    Joined before it returns, since Lambda freezes what is left running.
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


def _comes_back_in(error: Exception, lease_seconds: float) -> float:
    if isinstance(error, LeaseHeld):
        return error.seconds
    return 0 if isinstance(error, MayflyError) and not error.retryable else lease_seconds
