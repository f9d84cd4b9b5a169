"""What becomes of messages that nobody could handle: a job that lives is announced again, and what is no job is kept.

Nothing here ends a job that could still run, and nothing is dropped unless its job has ended.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mayfly.clock import Clock
from mayfly.errors import InvalidRequest, JobNotFound, PayloadTooLarge, StoreUnavailable, StreamTrimmed
from mayfly.jobs.model import Job, Status, StreamGap, Submission, Unreadable, Wake
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.outbox import Announcement, Outbox, announcement, wake
from mayfly.jobs.rules import is_expired, is_terminal, job_id_for, new_job, read_message, read_stream_gap, wait_before_claim_ms
from mayfly.jobs.store import JobExists, JobStore
from mayfly.jobs.tasks import Declaration
from mayfly.observe import Observer

__all__ = ["DeadLetters"]

#: The new images of a range of a stream (`mayfly.streams.Streams.images`).
Images = Callable[[str, str, str, str], Any]


@dataclass(frozen=True)
class DeadLetters:
    """What it takes to settle them. `producer_tenant` owns the jobs that messages ask for."""

    store: JobStore
    operations: JobOperations
    outbox: Outbox
    images: Images
    tasks: Mapping[str, Declaration]
    producer_tenant: str
    observe: Observer
    clock: Clock

    def settle(self, body: str, message_id: str, *, is_from_relay: bool) -> None:
        """Deals with one message for good: one of the jobs queue's, or a report of what the relay gave up on.

        Raises StoreUnavailable where it has to come again.
        """
        try:
            message = read_stream_gap(body) if is_from_relay else read_message(body)
        except (InvalidRequest, PayloadTooLarge) as problem:
            self._keep(body, message_id, str(problem))
            return
        match message:
            case StreamGap():
                self._announce_gap(message)
            case Wake():
                self._revive(message.tenant, message.job_id)
            case Submission():
                self._submit(message, body, message_id)

    def _revive(self, tenant: str, job_id: str) -> None:
        try:
            job = self.store.read(tenant, job_id, now_ms=self.clock())
        except JobNotFound:
            self.observe.log.warning("a dead letter names a job that does not exist; it is dropped", job=job_id)
            return
        if is_terminal(job):
            self.observe.log.info("the job of a dead letter has ended; the letter is dropped", job=job_id)
            return
        wait_ms = wait_before_claim_ms(job, self.clock())
        if job.status is Status.INPROGRESS and wait_ms == 0 and job.attempt >= job.max_attempts:
            self.store.bury(job, now_ms=self.clock())
            self.observe.count("JobDead")
            self.observe.log.error("the job is dead; its last attempt was interrupted", job=job_id)
            return
        self._send({job_id: wake(tenant, job_id, job.task, wait_ms / 1000)})
        self.observe.log.warning("a message was received too often; its job lives, and is announced again", job=job_id)

    def _submit(self, submission: Submission, body: str, message_id: str) -> None:
        """A message that asks for a job which none of its receives could make. A new message would be another job, so the
        job is made here, under the id that this one gives it."""
        tenant = self.producer_tenant
        job_id = job_id_for(tenant, submission.idempotency_key, otherwise=f"message {message_id}")
        job = new_job(tenant, job_id, submission, self.tasks.get(submission.task), now_ms=self.clock())
        try:
            self.store.create(job)
        except JobExists as exists:
            self._settle_existing(exists.job, job, body, message_id)
            return
        self.observe.log.warning("a message was received too often; its job is made now, and announced", job=job_id)

    def _settle_existing(self, found: Job, wanted: Job, body: str, message_id: str) -> None:
        if found.fingerprint != wanted.fingerprint and not is_expired(found, self.clock()):
            self._keep(body, message_id, f"its idempotency key belongs to job {found.id!r}, with another body")
            return
        self._revive(found.tenant, found.id)

    def _announce_gap(self, gap: StreamGap) -> None:
        """The relay gave these records up: their jobs wait in the table, and nobody has told the queue."""
        found: dict[str, Announcement] = {}
        try:
            for index, image in enumerate(self.images(gap.stream_arn, gap.shard_id, gap.first, gap.last)):
                if each := announcement(image, self.clock()):
                    found[str(index)] = each
        except StreamTrimmed:
            self.observe.log.exception("jobs may be stranded; run 'mayfly jobs resend --stranded'")
            self.observe.count("StreamRecordsLost", gap.size)
        self._send(found)
        self.observe.log.warning("the relay gave records up; their jobs are announced again", jobs=len(found))

    def _keep(self, body: str, message_id: str, problem: str) -> None:
        self.operations.keep_unreadable(Unreadable(message_id, body, problem, self.clock()))
        self.observe.count("MessageUnreadable")
        self.observe.log.error("a message is no job; it is kept, see 'mayfly jobs unreadable'", message_id=message_id, problem=problem)

    def _send(self, announcements: Mapping[str, Announcement]) -> None:
        if self.outbox.send(announcements):
            raise StoreUnavailable("announce", "the queue did not take it")
