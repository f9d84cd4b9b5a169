"""Operations of an application on its jobs: submit, wait, cancel, redrive."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from mayfly.core.deadline import seconds_left
from mayfly.core.errors import IdempotencyKeyReused, InvalidRequest
from mayfly.core.json_input import NAME, NAME_PROBLEM
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.errors import JobEnded, JobIsLive, JobNotFound, PayloadMismatch, UnknownTask
from mayfly.jobs.model import Job, Status, Submission
from mayfly.jobs.operations import JobOperations, Page
from mayfly.jobs.rules import (
    PAYLOAD_LIMIT,
    canonical_fingerprint,
    checked,
    fingerprint,
    is_overdue,
    is_terminal,
    job_id_for,
    new_job,
)
from mayfly.jobs.store import JobExists, JobStore

__all__ = ["cancel", "list_by_status", "new_job_of", "redrive", "submit", "wait"]

#: Seconds that a wait keeps for a read before the request's deadline.
_READ_SECONDS: Final = 0.5


def submit(
    operations: JobOperations | JobStore,
    submission: Submission,
    *,
    tenant: str,
    tasks: Mapping[str, Declaration],
) -> tuple[Job, bool]:
    """Stores a job for the workers to run; the table's stream carries it to the queue.

    `tasks` are the tasks that exist. Returns the job, and True if it is new. The same idempotency
    key and body return the job that exists. If that job has waited for unusually long, it is
    announced again: a client that repeats its request repairs a lost message.

    Raises UnknownTask, PayloadMismatch, InvalidRequest, PayloadTooLarge, IdempotencyKeyReused if
    the key came with another body before, StoreUnavailable.
    """
    if isinstance(operations, JobStore):
        operations = JobOperations(operations)
    store, now_ms = operations.store, operations.store.clock()
    try:
        job = new_job_of(store, submission, tenant=tenant, tasks=tasks, now_ms=now_ms)
    except PayloadMismatch:
        # An earlier release of the application may have taken this very request.
        if (accepted := _accepted(store, submission, tenant=tenant, now_ms=now_ms)) is not None:
            return accepted, False
        raise
    try:
        store.create(job)
    except JobExists as exists:
        if exists.job.fingerprints.isdisjoint(job.fingerprints):
            raise IdempotencyKeyReused(f"job {exists.job.id!r}") from None
        if is_overdue(exists.job, now_ms):
            try:
                return operations.resend(tenant, exists.job.id, now_ms=now_ms), False
            except (JobEnded, JobIsLive):  # it has changed meanwhile, and needs no message
                return store.read(tenant, exists.job.id, now_ms=now_ms), False
        return exists.job, False
    return job, True


def new_job_of(
    store: JobStore,
    submission: Submission,
    *,
    tenant: str,
    tasks: Mapping[str, Declaration],
    now_ms: int,
    payload_limit: int = PAYLOAD_LIMIT,
) -> Job:
    """Returns the job that a submission asks for, as it is before its first claim.

    Raises UnknownTask, PayloadMismatch, InvalidRequest, PayloadTooLarge.
    """
    if not isinstance(tenant, str) or not NAME.fullmatch(tenant):
        raise InvalidRequest("tenant", NAME_PROBLEM)
    submission = checked(submission, payload_limit=payload_limit)
    declaration = tasks.get(submission.task)
    if declaration is None:
        raise UnknownTask(submission.task, list(tasks))
    declaration.check_payload(submission.payload)
    job_id = job_id_for(tenant, submission.idempotency_key, otherwise=store.new_id())
    return new_job(tenant, job_id, submission, declaration, now_ms=now_ms)


def list_by_status(
    operations: JobOperations,
    status: Status,
    *,
    tenant: str,
    limit: int,
    after: tuple[str, int] | None = None,
) -> Page:
    """Returns a page of this tenant's SCHEDULED or DEAD jobs, by their time.

    `after` is the `next` of the page before. Raises StoreUnavailable.
    """
    now_ms = operations.store.clock()
    return operations.list(tenant, status, limit=limit, after=after, now_ms=now_ms)


def cancel(operations: JobOperations, job_id: str, *, tenant: str) -> Job:
    """Ends a job of this tenant that has not ended.

    A waiting job ends immediately. The worker of a running job can no longer commit. Raises
    JobNotFound, JobEnded, StoreUnavailable.
    """
    return operations.cancel(tenant, job_id, now_ms=operations.store.clock())


def redrive(operations: JobOperations, job_id: str, *, tenant: str) -> Job:
    """Runs a dead job of this tenant again, with all its attempts.

    Raises JobNotFound, JobEnded, StoreUnavailable.
    """
    return operations.redrive(tenant, job_id, now_ms=operations.store.clock())


def wait(
    store: JobStore, job_id: str, *, tenant: str, seconds: float, pause: Callable[[float], bool]
) -> Job:
    """Returns a job of this tenant as soon as it has ended, or as it is after `seconds`.

    Reads the job at growing intervals and calls `pause(seconds)` between them: the answer comes
    late by at most half of the time that the job took, and by 2 s. A wait of 20 s has 19 reads.
    If `pause` returns True, the wait ends early, and so it does half a second before the request's
    deadline. Waiting is cheap, and the caller may ask again at any time. Raises JobNotFound,
    StoreUnavailable.
    """
    until_ms = store.clock() + round(seconds * 1000)
    is_over = False
    for interval in _intervals():
        now_ms = store.clock()
        job = store.read(tenant, job_id, now_ms=now_ms)
        left = (until_ms - now_ms) / 1000
        if is_terminal(job) or left <= 0 or is_over:
            return job
        length = min(interval, left)
        if length + _READ_SECONDS >= seconds_left():
            return job
        is_over = pause(length)
    raise AssertionError("intervals never end")


def _accepted(store: JobStore, submission: Submission, *, tenant: str, now_ms: int) -> Job | None:
    """Returns the job that the same request has made before, None if there is none."""
    key = submission.idempotency_key
    if key is None:
        return None
    try:
        job = store.read(tenant, job_id_for(tenant, key, otherwise=""), now_ms=now_ms)
    except JobNotFound:
        return None
    sent = {fingerprint(submission), canonical_fingerprint(submission)}
    return None if job.fingerprints.isdisjoint(sent) else job


def _intervals() -> Iterator[float]:
    seconds = 0.05
    while True:
        yield seconds
        seconds = min(seconds * 1.5, 2.0)
