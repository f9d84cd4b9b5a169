"""What follows from a job's state: who may claim it, when to come back, what users are told.

No I/O, no clock.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Protocol

from mayfly.core.clock import rfc3339
from mayfly.core.errors import InvalidRequest, PayloadTooLarge
from mayfly.core.ids import derived_id
from mayfly.core.json_input import NAME, Fields, canonical_json, parse_json, read_idempotency_key
from mayfly.jobs.errors import ResultTooLarge
from mayfly.jobs.model import (
    TERMINAL,
    Attempt,
    Delay,
    Job,
    Outcome,
    Status,
    StreamGap,
    Submission,
    Wake,
    Window,
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
    "WINDOW_SLACK_MS",
    "backoff_ms",
    "check_progress",
    "check_result",
    "covers",
    "describe",
    "fingerprint",
    "gap_window",
    "hull",
    "idle_since_ms",
    "is_expired",
    "is_inline",
    "is_overdue",
    "is_terminal",
    "job_id_for",
    "may_be_stranded",
    "new_job",
    "public",
    "public_status",
    "read_cursor",
    "read_message",
    "read_rfc3339",
    "read_stream_gap",
    "read_submission",
    "start_ms",
    "wait_before_claim_ms",
    "waits_by_message",
    "write_cursor",
]

#: Payloads above this many bytes of JSON are refused; S3 is the place for them.
PAYLOAD_LIMIT: Final = 256 * 1024
#: Payloads up to this many bytes stand in the job's item; larger ones in their own, which no status
#: write pays for.
INLINE_PAYLOAD_LIMIT: Final = 1024
#: The largest body that SQS carries, in bytes.
MESSAGE_LIMIT: Final = 1024 * 1024
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
#: The most by which a job's own times and the stream's may differ: the longest invocation that
#: makes jobs takes 60 s, and clocks differ.
WINDOW_SLACK_MS: Final = 120_000

_FIRST_BACKOFF_MS: Final = 1_000
_LONGEST_BACKOFF_MS: Final = 300_000
_DIGITS: Final = re.compile(r"[0-9]{1,64}")
_ERROR_CHARACTERS: Final = 500
_STREAM_ARN: Final = re.compile(
    r"arn:[\w-]+:dynamodb:[\w-]+:[0-9]{12}:table/[\w.-]+/stream/[\w.:-]+", re.ASCII
)
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


def read_submission(body: Any, *, idempotency_key: str | None) -> Submission:
    """A submission from an HTTP body.

    Raises InvalidRequest naming the field, or PayloadTooLarge.
    """
    fields = Fields(body)
    submission = Submission(
        task=fields.text("task", pattern=NAME),
        payload=_payload(fields),
        max_attempts=fields.integer("max_attempts", 1, MAX_MAX_ATTEMPTS, default=None),
        not_before=_delay(fields),
        idempotency_key=read_idempotency_key(idempotency_key),
    )
    fields.finish()
    return submission


def read_message(body: str) -> Wake | Submission:
    """What a message on the jobs queue asks for. Raises InvalidRequest naming the field, or
    PayloadTooLarge.

    A body that asks for a task names no tenant: such a job belongs to the tenant that the queue is
    bound to.
    """
    value = parse_json(body, limit=MESSAGE_LIMIT)
    fields = Fields(value)
    message: Wake | Submission
    if "task" in value:
        key = read_idempotency_key(fields.text("idempotency_key", default=None))
        message = Submission(
            fields.text("task", pattern=NAME), _payload(fields), idempotency_key=key
        )
    else:
        message = Wake(
            tenant=fields.text("tenant", pattern=NAME), job_id=fields.text("id", pattern=NAME)
        )
    fields.finish()
    return message


def read_stream_gap(body: str) -> StreamGap:
    """Returns the records that a stream's mapping gave up on, by its report. Raises InvalidRequest.

    A time that is missing or malformed is unknown, which makes the window wider. A report without
    records has no time but its own: all that was there may be lost.
    https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
    """
    report = parse_json(body, limit=MESSAGE_LIMIT)
    batch = report.get("DDBStreamBatchInfo") if isinstance(report, dict) else None
    fields = Fields(batch, "DDBStreamBatchInfo")
    gap = StreamGap(
        stream_arn=fields.text("streamArn", pattern=_STREAM_ARN),
        shard_id=fields.text("shardId"),
        first=fields.text("startSequenceNumber", pattern=_DIGITS),
        last=fields.text("endSequenceNumber", pattern=_DIGITS),
        size=fields.integer("batchSize", 0, 10_000),
    )
    reported_ms = _moment(report, "timestamp")
    if not gap.names_records:
        return replace(gap, to_ms=reported_ms)
    first_ms, last_ms = (
        _moment(batch, "approximateArrivalOfFirstRecord"),
        _moment(batch, "approximateArrivalOfLastRecord"),
    )
    # AWS cuts these times down to the second.
    return replace(
        gap, from_ms=first_ms or 0, to_ms=reported_ms if last_ms is None else last_ms + 999
    )


def gap_window(gap: StreamGap, sent_ms: int) -> Window:
    """The time in which announcements were lost.

    It ends at `sent_ms`, when the report was sent, or before.
    """
    to_ms = sent_ms if gap.to_ms is None else min(gap.to_ms, sent_ms)
    return Window(gap.from_ms if gap.from_ms <= to_ms else 0, to_ms)


def covers(windows: Iterable[Window], wanted: Window) -> bool:
    """Returns whether one of the windows has all of the wanted one in it."""
    return any(each.from_ms <= wanted.from_ms and wanted.to_ms <= each.to_ms for each in windows)


def hull(one: Window | None, other: Window) -> Window:
    """The shortest window that covers both."""
    return (
        other
        if one is None
        else Window(min(one.from_ms, other.from_ms), max(one.to_ms, other.to_ms))
    )


def may_be_stranded(job: Job, window: Window) -> bool:
    """Returns whether an unfinished job's last announcement may lie in a window of lost
    announcements.

    ::

        made ----- started ----- resent          the last of these is the job's last sign
                                   |
        window       [from ------------ to]      after it, the job asked for a message or had one that was not lost

    A redrive and the sweep of due jobs announce a job and leave no time on it: such an announcement
    may be later than the sign. A job that was only made, or resent, was announced at its sign.
    """
    sign_ms = max(
        job.created_at_ms,
        job.resent_at_ms or 0,
        *(max(each.started_at_ms, each.ended_at_ms or 0) for each in job.history),
    )
    may_be_later = job.status is Status.SCHEDULED or (job.status is Status.QUEUED and job.run > 1)
    is_before_the_end = sign_ms <= window.to_ms + WINDOW_SLACK_MS
    is_after_the_beginning = sign_ms >= window.from_ms - WINDOW_SLACK_MS
    return is_before_the_end and (is_after_the_beginning or may_be_later)


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


def write_cursor(job_id: str, at_ms: int) -> str:
    """Where a listing goes on, for its caller to hand back.

    It names no tenant: it is read in the caller's own jobs only.
    """
    return base64.urlsafe_b64encode(f"{at_ms}/{job_id}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> tuple[str, int]:
    """The job id and time in a cursor. Raises InvalidRequest."""
    try:
        at_ms, _, job_id = (
            base64.urlsafe_b64decode(text.encode("ascii") + b"==").decode("ascii").partition("/")
        )
        if at_ms.isdigit() and len(at_ms) < 16 and NAME.fullmatch(job_id):
            return job_id, int(at_ms)
    except ValueError:
        pass
    raise InvalidRequest("cursor", "must be the `next` of a page before")


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


def public(job: Job, now_ms: int) -> dict[str, Any]:
    """The job as the API shows it."""
    shown: dict[str, Any] = {
        "id": job.id,
        "task": job.task,
        "status": public_status(job, now_ms),
        "payload": job.payload,
        "created_at": rfc3339(job.created_at_ms),
        "max_attempts": job.max_attempts,
        "attempts": [
            _public_attempt(job, number, now_ms) for number in range(1, len(job.history) + 1)
        ],
        "result": job.result,
        "error": job.error,
    }
    if job.status in (Status.RETRY, Status.SCHEDULED) and job.not_before_ms is not None:
        shown["not_before"] = rfc3339(job.not_before_ms)
    if job.progress is not None:
        shown["progress"] = job.progress
    if job.tick is not None:
        shown["schedule"] = {
            "name": job.tick.schedule,
            "tick": rfc3339(job.tick.at_ms),
            "missed": job.tick.missed,
        }
    return shown


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


def _delay(fields: Fields) -> Delay | None:
    seconds = fields.number("delay_seconds", 0, LONGEST_DELAY_SECONDS, default=None)
    run_at = fields.text("run_at", default=None)
    if seconds is not None and run_at is not None:
        raise InvalidRequest("run_at", "cannot stand beside delay_seconds")
    if run_at is not None:
        return Delay(at_ms=read_rfc3339("run_at", run_at))
    return None if seconds is None else Delay(seconds=seconds)


def read_rfc3339(field: str, text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time with its offset. Raises InvalidRequest."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text.upper():
        raise InvalidRequest(
            field, "must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z"
        )
    return int(moment.timestamp() * 1000)


def _moment(report: Any, field: str) -> int | None:
    with suppress(InvalidRequest):
        return read_rfc3339(field, found) if isinstance(found := report.get(field), str) else None
    return None


def _payload(fields: Fields) -> Any:
    payload = fields.anything("payload", default=None)
    size = len(canonical_json(payload).encode())
    if size > PAYLOAD_LIMIT:
        raise PayloadTooLarge("payload", size, PAYLOAD_LIMIT)
    return payload


def _public_attempt(job: Job, number: int, now_ms: int) -> dict[str, Any]:
    attempt = job.history[number - 1]
    return {
        "number": number,
        "started_at": rfc3339(attempt.started_at_ms),
        "ended_at": None if attempt.ended_at_ms is None else rfc3339(attempt.ended_at_ms),
        "outcome": _outcome(job, attempt, last=number == len(job.history), now_ms=now_ms),
        "error": attempt.error,
    }


def _outcome(job: Job, attempt: Attempt, *, last: bool, now_ms: int) -> str:
    if attempt.outcome is not None:
        return attempt.outcome
    # Nobody wrote an end: it still runs, or its process died and a later claim took the job over.
    return (
        Outcome.RUNNING if last and public_status(job, now_ms) == "running" else Outcome.INTERRUPTED
    )
