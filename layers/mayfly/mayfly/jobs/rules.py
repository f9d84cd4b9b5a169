"""Rules of a job's state: its limits, who may claim it and when, and the status that users read.

No I/O, no clock.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, Protocol

from mayfly.core.errors import InvalidRequest, PayloadTooLarge
from mayfly.core.ids import derived_id
from mayfly.core.json_input import NAME, Fields, canonical_json, check_json, with_whole_numbers
from mayfly.core.raised import cause_of, members_of, shown
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
    "TRANSACTION_PAYLOAD_LIMIT",
    "backoff_ms",
    "canonical_fingerprint",
    "check_pause",
    "check_progress",
    "check_result",
    "checked",
    "describe",
    "fingerprint",
    "idle_since_ms",
    "interruption",
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

#: Payloads above this many bytes of JSON are refused; put larger data in S3.
PAYLOAD_LIMIT: Final = 256 * 1024
#: Payloads up to this many bytes are part of the job's item. Larger ones have an item of their own,
#: so that status writes do not pay for them.
INLINE_PAYLOAD_LIMIT: Final = 1024
#: Payloads above this many bytes of JSON are refused in a transaction of the caller's, which has
#: one write for a job. The payload is part of the job's item, and every later write pays for it.
TRANSACTION_PAYLOAD_LIMIT: Final = 64 * 1024
#: Results above this many bytes of JSON end the job as dead. A DynamoDB item holds 400 KB, with
#: history and keys.
RESULT_LIMIT: Final = 256 * 1024
#: Progress above this many bytes of JSON is refused. It is part of the job's item, and every later
#: write pays for it.
PROGRESS_LIMIT: Final = 64 * 1024
#: The time for which a finished job can be read, and its duplicates are recognised. It is longer
#: than the retention of the queue and of its dead-letter queue together (14 days each).
RETENTION_SECONDS: Final = 30 * 24 * 3600
#: The time after which a payload in an item of its own expires. It is set when the item is written,
#: since a write at the job's end would cost its whole size again.
LARGE_PAYLOAD_RETENTION_SECONDS: Final = 400 * 24 * 3600
#: The longest delay that SQS gives a message. A job that waits longer is kept in the table until a
#: sweep finds it. A failed job's message waits by its visibility timeout for at most this long,
#: too: SQS allows 12 hours from the receive, and messages expire.
QUEUE_DELAY_LIMIT_MS: Final = 900_000
#: The longest time for which a job may be scheduled ahead; large payloads are kept longer.
LONGEST_DELAY_SECONDS: Final = 365 * 24 * 3600
#: Attempts of a job if neither its task nor its submission sets them.
DEFAULT_MAX_ATTEMPTS: Final = 5
#: The most attempts of any job: well below the queue's redrive limit, which counts every receive.
MAX_MAX_ATTEMPTS: Final = 20

#: The last millisecond that RFC 3339 can write: the end of the year 9999.
_LATEST_MS: Final = 253_402_300_799_999

#: A job that should have started this long ago may have lost its message, in milliseconds. This is
#: longer than the queue's own visibility timeout.
OVERDUE_MS: Final = 120_000

_FIRST_BACKOFF_MS: Final = 1_000
_LONGEST_BACKOFF_MS: Final = 300_000
#: The characters of an error that are stored.
_ERROR_CHARACTERS: Final = 500
#: The characters that an error leaves for its members and causes.
_OWN_CHARACTERS: Final = 250
#: The levels of members and causes that are described.
_ERROR_LEVELS: Final = 10
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
    """Defaults of a task's declaration, for jobs that do not set them."""

    @property
    def max_attempts(self) -> int:
        """The number of attempts of each job."""


def job_id_for(tenant: str, idempotency_key: str | None, *, otherwise: str) -> str:
    """Returns the id of a requested job.

    It is the same for the same idempotency key of a tenant. Without a key it is the same for the
    same `otherwise`.
    """
    if idempotency_key is None:
        return derived_id("no-key", tenant, otherwise)
    return derived_id("idempotency-key", tenant, idempotency_key)


def new_job(
    tenant: str, job_id: str, submission: Submission, task: "TaskDefaults | None", *, now_ms: int
) -> Job:
    """Returns a job as it is before its first claim.

    A job of an unknown task gets one attempt, whose error names the task. Raises InvalidRequest.
    """
    not_before_ms = start_ms(submission, now_ms)
    sent, canonical = fingerprint(submission), canonical_fingerprint(submission)
    return Job(
        id=job_id,
        tenant=tenant,
        task=submission.task,
        payload=submission.payload,
        status=Status.QUEUED if not_before_ms is None else Status.SCHEDULED,
        not_before_ms=not_before_ms,
        max_attempts=(
            submission.max_attempts
            if submission.max_attempts is not None
            else (task.max_attempts if task else 1)
        ),
        created_at_ms=now_ms,
        fingerprint=sent,
        canonical_fingerprint=None if canonical == sent else canonical,
    )


def checked(submission: Submission, *, payload_limit: int = PAYLOAD_LIMIT) -> Submission:
    """Returns a submission that Python code has made, if a request could ask for it.

    Its idempotency key may be any text, since only a hash of it is stored. Raises InvalidRequest
    with the field, or PayloadTooLarge.
    """
    delay, key = submission.not_before, submission.idempotency_key
    fields = Fields(
        {
            "task": submission.task,
            "max_attempts": submission.max_attempts,
            "delay_seconds": delay and delay.seconds,
            "run_at": delay and delay.at_ms,
        }
    )
    fields.text("task", pattern=NAME)
    limits = {"max_attempts": (1, MAX_MAX_ATTEMPTS), "run_at": (0, _LATEST_MS)}
    whole = {
        name: None if value is None else fields.integer(name, *limits[name])
        for name, value in (
            ("max_attempts", submission.max_attempts), ("run_at", delay and delay.at_ms),
        )
    }  # fmt: skip
    if delay is not None and delay.seconds is not None:
        fields.number("delay_seconds", 0, LONGEST_DELAY_SECONDS)
    if key is not None and not (isinstance(key, str) and key and _is_unicode(key)):
        raise InvalidRequest(
            "idempotency_key", f"must be a text that is not empty, not {key!r:.40}"
        )
    check_json("payload", submission.payload)
    try:
        size = len(canonical_json(submission.payload).encode())
    except (TypeError, ValueError) as problem:
        raise InvalidRequest("payload", f"cannot be written as JSON: {problem}") from None
    if size > payload_limit:
        raise PayloadTooLarge("payload", size, payload_limit)
    return replace(
        submission,
        max_attempts=whole["max_attempts"],
        not_before=delay and replace(delay, at_ms=whole["run_at"]),
    )


def fingerprint(submission: Submission) -> str:
    """Returns a text that is equal for requests that were sent alike.

    It tells a repeat with the same idempotency key from a reuse of the key with another body. Its
    form is that of the first release, so that older code finds its repeats.
    """
    return _hash(_request(submission))


def canonical_fingerprint(submission: Submission) -> str:
    """Returns a text that is equal for equal requests: `1` is `1.0`, and no delay is a delay of 0.

    https://www.rfc-editor.org/rfc/rfc8785#section-3.2.2.3
    """
    if submission.not_before is not None and submission.not_before.seconds == 0:
        submission = replace(submission, not_before=None)
    return _hash(with_whole_numbers(_request(submission)))


def _request(submission: Submission) -> dict[str, Any]:
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
    return body


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()[:32]


def wait_before_claim_ms(job: Job, now_ms: int) -> int:
    """Returns the time until this unfinished job may be claimed, in milliseconds; 0 if now."""
    if job.status in (Status.RETRY, Status.SCHEDULED):
        return max(0, (job.not_before_ms or 0) - now_ms)
    if job.status is Status.INPROGRESS:
        return max(0, (job.lease_until_ms or 0) - now_ms)
    return 0


def waits_by_message(at_ms: int, now_ms: int) -> bool:
    """Returns True if a message can wait until the job's time.

    A job with a later time waits in the table.
    """
    return at_ms - now_ms <= QUEUE_DELAY_LIMIT_MS


def backoff_ms(attempt: int, jitter: float) -> int:
    """Returns the pause after attempt number `attempt` has failed, in milliseconds.

    It grows exponentially, with full jitter: `jitter` is drawn from 0 to 1. Source: M. Brooker,
    Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
    """
    return int(jitter * min(_LONGEST_BACKOFF_MS, _FIRST_BACKOFF_MS * 2 ** (attempt - 1)))


def check_result(result: Any) -> str:
    """Returns `result` as the JSON to store.

    Raises ResultTooLarge, InvalidRequest if a key is not a text or if it is nested too deeply, or
    TypeError or ValueError if JSON cannot hold it.
    """
    check_json("result", result)
    encoded = canonical_json(result)
    size = len(encoded.encode())
    if size > RESULT_LIMIT:
        raise ResultTooLarge(size, RESULT_LIMIT)
    return encoded


def check_progress(progress: Any) -> str:
    """Returns `progress` as the JSON to store.

    Raises InvalidRequest if it is too large, if a key is not a text or if it is nested too deeply,
    or TypeError or ValueError if JSON cannot hold it.
    """
    check_json("progress", progress)
    encoded = canonical_json(progress)
    if (size := len(encoded.encode())) > PROGRESS_LIMIT:
        raise InvalidRequest(
            "progress", f"has {size} bytes of JSON; at most {PROGRESS_LIMIT} are kept"
        )
    return encoded


def check_pause(seconds: Any) -> float:
    """Returns the pause that a task asks for, in seconds. A pause below 0 is one of 0.

    Raises TypeError if it is not a number, ValueError if it is not finite or above a year.
    """
    is_number = hasattr(seconds, "__float__") and not isinstance(seconds, bool)
    if not is_number:
        raise TypeError(f"after_seconds must be a number of seconds, not {type(seconds).__name__}")
    try:
        pause = float(seconds)
    except OverflowError:
        pause = math.inf
    if not pause <= LONGEST_DELAY_SECONDS:  # also true of NaN
        raise ValueError(
            f"after_seconds must be at most {LONGEST_DELAY_SECONDS} (a year), not {pause}; it is "
            "a number of seconds from now, not a time"
        )
    return max(pause, 0.0)


def describe(error: BaseException) -> str:
    """Returns an exception as history and logs show it, in up to 500 characters of valid UTF-8.

    It is the type and the message, the members of an exception group, and the causes
    (`raise ... from`). Never raises, whatever the exception's class does.
    """
    text = ""
    for part in _described(error, _ERROR_LEVELS):
        text += part
        if len(text) >= _ERROR_CHARACTERS:
            break
    # A lone surrogate, as `os.listdir` makes it of a file name that is not UTF-8, is escaped.
    return text.encode(errors="backslashreplace").decode()[:_ERROR_CHARACTERS]


def _described(error: BaseException, levels: int) -> Iterator[str]:
    name, message = shown(error)
    own = f"{name}: {message}" if message else name
    members, cause = members_of(error), cause_of(error)
    is_alone = not levels or (not members and cause is None)
    yield own[: _ERROR_CHARACTERS if is_alone else _OWN_CHARACTERS]
    if is_alone:
        return
    for index, member in enumerate(members):
        yield "; " if index else ": "
        yield from _described(member, levels - 1)
    if cause is not None:
        yield "; caused by "
        yield from _described(cause, levels - 1)


def interruption(job: Job) -> str:
    """Returns the error of a job whose last attempt was interrupted."""
    return f"attempt {job.attempt} of {job.max_attempts} was interrupted: its process died"


def public_status(job: Job, now_ms: int) -> str:
    """Returns the status that users read.

    A job whose lease has expired is `interrupted`: no worker runs it, and it will run again.
    """
    if job.status is Status.INPROGRESS and (job.lease_until_ms or 0) < now_ms:
        return "interrupted"
    return _PUBLIC[job.status]


def is_expired(job: Job, now_ms: int) -> bool:
    """Returns True if the job counts as absent, although TTL has not deleted it yet."""
    return job.expires_at_s is not None and job.expires_at_s * 1000 < now_ms


def is_inline(payload: Any) -> bool:
    """Returns True if a payload is small enough to be part of its job's item."""
    return len(canonical_json(payload).encode()) <= INLINE_PAYLOAD_LIMIT


def idle_since_ms(job: Job) -> int:
    """Returns the time of the last activity on a job.

    If a worker holds it, or if it waits, this is the end of its lease or of its wait.
    """
    return max(
        job.created_at_ms, job.not_before_ms or 0, job.lease_until_ms or 0, job.resent_at_ms or 0
    )


def is_overdue(job: Job, now_ms: int) -> bool:
    """Returns True if a job has waited for so long that its message may be lost.

    An extra message does no harm.
    """
    return not is_terminal(job) and idle_since_ms(job) + OVERDUE_MS < now_ms


def is_terminal(job: Job) -> bool:
    """Returns True if the job has ended. A dead job can still be redriven."""
    return job.status in TERMINAL


def start_ms(submission: Submission, now_ms: int) -> int | None:
    """Returns the earliest start of a submission's job, None if it may start immediately.

    Raises InvalidRequest if the time is more than a year away.
    """
    delay = submission.not_before
    if delay is None:
        return None
    at_ms = delay.at_ms if delay.at_ms is not None else now_ms + int((delay.seconds or 0) * 1000)
    if at_ms > now_ms + LONGEST_DELAY_SECONDS * 1000:
        raise InvalidRequest("run_at", "must be within a year from now")
    return at_ms if at_ms > now_ms else None


def _is_unicode(text: str) -> bool:
    """Returns False for a text with half of a surrogate pair, which UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
