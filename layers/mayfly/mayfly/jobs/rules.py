"""What follows from a job's state: who may claim it, when to come back, what users are told.

No I/O, no clock.
"""

import hashlib
from typing import Any, Final, Protocol

from mayfly.core.errors import InvalidRequest
from mayfly.core.ids import derived_id
from mayfly.core.json_input import canonical_json
from mayfly.jobs.errors import ResultTooLarge
from mayfly.jobs.model import (
    TERMINAL,
    Job,
    Status,
    Submission,
)

__all__ = [
    "DEFAULT_MAX_ATTEMPTS",
    "INLINE_PAYLOAD_LIMIT",
    "LARGE_PAYLOAD_RETENTION_SECONDS",
    "OVERDUE_MS",
    "PAYLOAD_LIMIT",
    "PROGRESS_LIMIT",
    "QUEUE_DELAY_LIMIT_MS",
    "RESULT_LIMIT",
    "RETENTION_SECONDS",
    "backoff_ms",
    "check_progress",
    "check_result",
    "describe",
    "fingerprint",
    "idle_since_ms",
    "is_expired",
    "is_inline",
    "is_overdue",
    "is_terminal",
    "job_id_for",
    "new_job",
    "public_status",
    "start_ms",
    "wait_before_claim_ms",
    "waits_by_message",
]

#: Payloads above this many bytes of JSON are refused; S3 is the place for them.
PAYLOAD_LIMIT: Final = 256 * 1024
#: Payloads up to this many bytes stand in the job's item; larger ones in their own, which no status
#: write pays for.
INLINE_PAYLOAD_LIMIT: Final = 1024
#: Results above this many bytes of JSON end the job; DynamoDB items hold 400 KB, history and keys
#: included.
RESULT_LIMIT: Final = 256 * 1024
#: Progress above this many bytes of JSON is refused: it is part of the job's item, and every later
#: write pays for it.
PROGRESS_LIMIT: Final = 64 * 1024
#: How long a finished job can be read, and its duplicates recognised: queue and dead-letter
#: retention (14 d each) and some.
RETENTION_SECONDS: Final = 30 * 24 * 3600
#: A payload in an item of its own expires by itself, since marking it at the job's end would cost
#: its whole size again.
LARGE_PAYLOAD_RETENTION_SECONDS: Final = 400 * 24 * 3600
#: The longest delay that SQS gives a message; what waits longer is kept in the table until a sweep
#: sees it coming. A failed job's message waits by its visibility up to this, too: SQS counts 12
#: hours from the receive, and messages age.
QUEUE_DELAY_LIMIT_MS: Final = 900_000
#: How far ahead a job may be scheduled; large payloads are kept longer than that.
LONGEST_DELAY_SECONDS: Final = 365 * 24 * 3600
#: Attempts of a job whose task and submission say nothing else.
DEFAULT_MAX_ATTEMPTS: Final = 5
#: The most attempts of any job: well below the queue's redrive limit, which counts every receive.
MAX_MAX_ATTEMPTS: Final = 20

#: A job that should have started this long ago may have lost its message, in milliseconds: above
#: the queue's own visibility.
OVERDUE_MS: Final = 120_000

_FIRST_BACKOFF_MS: Final = 1_000
_LONGEST_BACKOFF_MS: Final = 300_000
_ERROR_CHARACTERS: Final = 500
_PUBLIC: Final = {
    Status.SCHEDULED: "scheduled",
    Status.QUEUED: "queued",
    Status.INPROGRESS: "running",
    Status.RETRY: "queued",
    Status.COMPLETED: "succeeded",
    Status.DEAD: "dead",
    Status.CANCELLED: "cancelled",
}


class TaskDefaults(Protocol):
    """What a task's declaration says about jobs that do not."""

    @property
    def max_attempts(self) -> int:
        """How often to try."""


def job_id_for(tenant: str, idempotency_key: str | None, *, otherwise: str) -> str:
    """The id of a job that is asked for: the same for the same key of a tenant, or where there is
    none for the same `otherwise`.
    """
    if idempotency_key is None:
        return derived_id("no-key", tenant, otherwise)
    return derived_id("idempotency-key", tenant, idempotency_key)


def new_job(
    tenant: str, job_id: str, submission: Submission, task: "TaskDefaults | None", *, now_ms: int
) -> Job:
    """A job as it is before its first claim.

    One of an unknown task has one attempt, which says so. Raises InvalidRequest.
    """
    not_before_ms = start_ms(submission, now_ms)
    return Job(
        id=job_id,
        tenant=tenant,
        task=submission.task,
        payload=submission.payload,
        status=Status.QUEUED if not_before_ms is None else Status.SCHEDULED,
        not_before_ms=not_before_ms,
        max_attempts=submission.max_attempts or (task.max_attempts if task else 1),
        created_at_ms=now_ms,
        fingerprint=fingerprint(submission),
    )


def fingerprint(submission: Submission) -> str:
    """Equal for equal requests: tells a replay of an idempotency key from its reuse with another
    body.
    """
    body = {
        "task": submission.task,
        "payload": submission.payload,
        "max_attempts": submission.max_attempts,
    }
    if submission.not_before is not None:
        body |= {
            "delay_seconds": submission.not_before.seconds,
            "run_at": submission.not_before.at_ms,
        }
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()[:32]


def wait_before_claim_ms(job: Job, now_ms: int) -> int:
    """How long until this unfinished job may be claimed, in milliseconds; 0 when now."""
    if job.status in (Status.RETRY, Status.SCHEDULED):
        return max(0, (job.not_before_ms or 0) - now_ms)
    if job.status is Status.INPROGRESS:
        return max(0, (job.lease_until_ms or 0) - now_ms)
    return 0


def waits_by_message(at_ms: int, now_ms: int) -> bool:
    """Whether a job may wait for a time by its message; what is further away waits in the table."""
    return at_ms - now_ms <= QUEUE_DELAY_LIMIT_MS


def backoff_ms(attempt: int, jitter: float) -> int:
    """The pause after attempt number `attempt` failed: exponential, full jitter. `jitter` is drawn
    from 0 to 1.

    Source: M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
    """
    return int(jitter * min(_LONGEST_BACKOFF_MS, _FIRST_BACKOFF_MS * 2 ** (attempt - 1)))


def check_result(result: Any) -> str:
    """`result` as the JSON to store.

    Raises ResultTooLarge, or TypeError or ValueError for what JSON cannot hold.
    """
    encoded = canonical_json(result)
    size = len(encoded.encode())
    if size > RESULT_LIMIT:
        raise ResultTooLarge(size, RESULT_LIMIT)
    return encoded


def check_progress(progress: Any) -> str:
    """`progress` as the JSON to store.

    Raises InvalidRequest where it is too large, or TypeError or ValueError for what JSON cannot
    hold.
    """
    encoded = canonical_json(progress)
    if (size := len(encoded.encode())) > PROGRESS_LIMIT:
        raise InvalidRequest(
            "progress", f"has {size} bytes of JSON; at most {PROGRESS_LIMIT} are kept"
        )
    return encoded


def describe(error: BaseException) -> str:
    """An exception as the attempt's history keeps it: its type and message, cut to a bounded
    length.
    """
    return f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS]


def public_status(job: Job, now_ms: int) -> str:
    """The status that users read.

    A job whose lease ran out says `interrupted`: nobody is running it, and it will run again.
    """
    if job.status is Status.INPROGRESS and (job.lease_until_ms or 0) < now_ms:
        return "interrupted"
    return _PUBLIC[job.status]


def is_expired(job: Job, now_ms: int) -> bool:
    """Whether the job is to be treated as absent, although TTL has not deleted it yet."""
    return job.expires_at_s is not None and job.expires_at_s * 1000 < now_ms


def is_inline(payload: Any) -> bool:
    """Whether a payload is small enough to stand in its job's item."""
    return len(canonical_json(payload).encode()) <= INLINE_PAYLOAD_LIMIT


def idle_since_ms(job: Job) -> int:
    """Since when nobody has done anything with a job, or will have once its lease or its pause is
    over.
    """
    return max(
        job.created_at_ms, job.not_before_ms or 0, job.lease_until_ms or 0, job.resent_at_ms or 0
    )


def is_overdue(job: Job, now_ms: int) -> bool:
    """Whether a job waits for so long that its message may be lost.

    A message too many does no harm.
    """
    return not is_terminal(job) and idle_since_ms(job) + OVERDUE_MS < now_ms


def is_terminal(job: Job) -> bool:
    """Whether the job has ended, for good or until somebody redrives it."""
    return job.status in TERMINAL


def start_ms(submission: Submission, now_ms: int) -> int | None:
    """When a submission's job may start at the earliest, None where it may at once.

    Raises InvalidRequest beyond a year.
    """
    delay = submission.not_before
    if delay is None:
        return None
    at_ms = delay.at_ms if delay.at_ms is not None else now_ms + int((delay.seconds or 0) * 1000)
    if at_ms > now_ms + LONGEST_DELAY_SECONDS * 1000:
        raise InvalidRequest("run_at", "must be within a year from now")
    return at_ms if at_ms > now_ms else None
