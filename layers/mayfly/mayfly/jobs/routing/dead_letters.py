"""Messages that failed too often.

An unfinished job is announced again, and a message that is not a valid job is stored. No job that
could still run is ended here, and no message is dropped before its job has ended.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mayfly.aws.errors import StreamTrimmed
from mayfly.core.clock import Clock
from mayfly.core.errors import InvalidRequest, PayloadTooLarge, StoreUnavailable
from mayfly.core.observability import Observer
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.errors import JobNotFound
from mayfly.jobs.model import Job, Status, StreamGap, Submission, Unreadable, Wake
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.routing.outbox import Announcement, Outbox, announcement, wake
from mayfly.jobs.routing.stranded import StrandedSearch
from mayfly.jobs.routing.windows import gap_window
from mayfly.jobs.rules import (
    is_expired,
    is_terminal,
    job_id_for,
    new_job,
    wait_before_claim_ms,
)
from mayfly.jobs.store import JobExists
from mayfly.jobs.wire import read_message, read_stream_gap

__all__ = ["DeadLetters"]

#: Reads the new images of a range of a stream (`mayfly.aws.streams.Streams.images`).
Images = Callable[[str, str, str, str], Any]


@dataclass(frozen=True)
class DeadLetters:
    """Dependencies of `settle`. `producer_tenant` owns the jobs that messages ask for.

    `search` finds the jobs of records that the stream no longer has.
    """

    operations: JobOperations
    outbox: Outbox
    images: Images
    search: StrandedSearch
    tasks: Mapping[str, Declaration]
    producer_tenant: str
    observe: Observer
    clock: Clock

    def settle(
        self,
        body: str,
        message_id: str,
        *,
        is_from_relay: bool,
        sent_ms: int | None,
        is_over: Callable[[], bool],
    ) -> bool:
        """Handles one message of the jobs queue, or a report of records that the relay has skipped.

        Returns False if the search that the message asks for is not done. This receive works on it
        until `is_over()`, and the message must be received again. `sent_ms` is the time when the
        message was sent, None if that is unknown. Raises StoreUnavailable: the message must be
        received again, too.
        """
        try:
            message = read_stream_gap(body) if is_from_relay else read_message(body)
        except (InvalidRequest, PayloadTooLarge) as problem:
            self._keep(body, message_id, str(problem))
            return True
        match message:
            case StreamGap():
                return self._settle_gap(
                    message, self.clock() if sent_ms is None else sent_ms, is_over
                )
            case Wake():
                self._resend(message.tenant, message.job_id)
            case Submission():
                self._submit(message, body, message_id)
        return True

    def _resend(self, tenant: str, job_id: str) -> None:
        try:
            job = self.operations.store.read(tenant, job_id, now_ms=self.clock())
        except JobNotFound:
            self.observe.log.warning(
                "a dead letter names a job that does not exist; the letter is dropped", job=job_id
            )
            return
        if is_terminal(job):
            self.observe.log.info(
                "the job of a dead letter has ended; the letter is dropped", job=job_id
            )
            return
        wait_ms = wait_before_claim_ms(job, self.clock())
        if job.status is Status.INPROGRESS and wait_ms == 0 and job.attempt >= job.max_attempts:
            self.operations.store.bury(job, now_ms=self.clock())
            self.observe.count("JobDead")
            self.observe.log.error("the job is dead; its last attempt was interrupted", job=job_id)
            return
        self._send({job_id: wake(tenant, job_id, job.task, wait_ms / 1000)})
        self.observe.log.warning(
            "a message was received too often; its job has not ended and is announced again",
            job=job_id,
        )

    def _submit(self, submission: Submission, body: str, message_id: str) -> None:
        """Makes the job of a message that no receive could handle.

        A new message would ask for another job, so the job is made here, with the id that this
        message gives it.
        """
        tenant = self.producer_tenant
        job_id = job_id_for(tenant, submission.idempotency_key, otherwise=f"message {message_id}")
        job = new_job(
            tenant, job_id, submission, self.tasks.get(submission.task), now_ms=self.clock()
        )
        try:
            self.operations.store.create(job)
        except JobExists as exists:
            self._settle_existing(exists.job, job, body, message_id)
            return
        self.observe.log.warning(
            "a message was received too often; its job was stored and is announced", job=job_id
        )

    def _settle_existing(self, job: Job, wanted: Job, body: str, message_id: str) -> None:
        is_another = job.fingerprints.isdisjoint(wanted.fingerprints)
        if is_another and not is_expired(job, self.clock()):
            self._keep(
                body,
                message_id,
                f"its idempotency key belongs to job {job.id!r}, with another body",
            )
            return
        self._resend(job.tenant, job.id)

    def _settle_gap(self, gap: StreamGap, sent_ms: int, is_over: Callable[[], bool]) -> bool:
        """Announces the jobs of records that the relay skipped.

        They wait in the table, without a message. The records are read again from the stream. If it
        no longer has them, a search finds the jobs of their time.
        """
        window, search = gap_window(gap, sent_ms), self.search.read()
        if search.has_searched(window):
            self.observe.log.info(
                "the search has covered the time of this report; the report is settled",
                from_ms=window.from_ms,
                to_ms=window.to_ms,
            )
            return True
        if not search.is_to_search(window):  # the first receive of the report
            if gap.names_records and self._announce(gap):
                return True
            self.observe.count("StreamRecordsLost", gap.size)
            self.observe.log.warning(
                "the stream no longer has the records of a report; a search for their jobs starts",
                from_ms=window.from_ms,
                to_ms=window.to_ms,
                records=gap.size,
            )
        return self.search.work(search, window, is_over=is_over)

    def _announce(self, gap: StreamGap) -> bool:
        """Announces the jobs in the records that the stream still has.

        Returns True if the stream has all of them.
        """
        announcements: dict[str, Announcement] = {}
        is_whole = True
        try:
            for index, image in enumerate(
                self.images(gap.stream_arn, gap.shard_id, gap.first, gap.last)
            ):
                if announced := announcement(image, self.clock()):
                    announcements[str(index)] = announced
        except StreamTrimmed:
            is_whole = False
        self._send(announcements)
        self.observe.log.warning(
            "the relay skipped records; their jobs are announced again", jobs=len(announcements)
        )
        return is_whole

    def _keep(self, body: str, message_id: str, problem: str) -> None:
        self.operations.keep_unreadable(Unreadable(message_id, body, problem, self.clock()))
        self.observe.count("MessageUnreadable")
        self.observe.log.error(
            "a message is not a valid job and was stored; list such messages with "
            "'mayfly jobs unreadable'",
            message_id=message_id,
            problem=problem,
        )

    def _send(self, announcements: Mapping[str, Announcement]) -> None:
        if self.outbox.send(announcements):
            raise StoreUnavailable("announce", "the queue did not take it")
