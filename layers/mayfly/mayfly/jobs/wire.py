"""Jobs on the wire: HTTP bodies, queue messages and stream reports in, JSON of the API out."""

import base64
import re
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from mayfly.core.clock import rfc3339
from mayfly.core.envelopes import Envelope, encoded_envelope, envelope
from mayfly.core.errors import InvalidRequest, PayloadTooLarge
from mayfly.core.json_input import (
    NAME,
    Fields,
    canonical_json,
    parse_json,
    read_idempotency_header,
    read_idempotency_key,
)
from mayfly.jobs.history import attempt_number
from mayfly.jobs.model import Attempt, Delay, Job, Outcome, Status, StreamGap, Submission, Wake
from mayfly.jobs.rules import LONGEST_DELAY_SECONDS, MAX_MAX_ATTEMPTS, PAYLOAD_LIMIT, public_status

__all__ = [
    "MESSAGE_LIMIT",
    "public",
    "read_cursor",
    "read_message",
    "read_rfc3339",
    "read_stream_gap",
    "read_submission",
    "write_cursor",
]

#: The largest body that SQS carries, in bytes.
MESSAGE_LIMIT: Final = 1024 * 1024
_SEND: Final = 'send {"task": ..., "payload": ...} (docs/queue-message.schema.json)'
#: The way out for a sender whose messages are in an envelope.
_WAYS_OUT: Final = {
    Envelope.SNS: "turn on raw message delivery of the subscription, and publish "
    '{"task": ..., "payload": ...}',
    Envelope.SNS_SUBSCRIPTION: "subscribe the queue by the protocol `sqs`, with raw message "
    "delivery",
    Envelope.EVENTBRIDGE: "give the target of the rule an input transformer that makes "
    '{"task": ..., "payload": ...}',
    Envelope.S3: "send it to the uploads queue, which imports the object (docs/imports.md), or to "
    "a function of your own",
    Envelope.S3_TEST: "nothing is lost; send notifications to the uploads queue (docs/imports.md)",
    Envelope.LAMBDA: f"use a function that unwraps `responsePayload`, and {_SEND}",
    Envelope.CELERY: f"Celery's tasks do not run here; {_SEND}",
    Envelope.DRAMATIQ: f"Dramatiq's actors do not run here; {_SEND}",
}
_DIGITS: Final = re.compile(r"[0-9]{1,64}")
_STREAM_ARN: Final = re.compile(
    r"arn:[\w-]+:dynamodb:[\w-]+:[0-9]{12}:table/[\w.-]+/stream/[\w.:-]+", re.ASCII
)


def read_submission(body: Any, *, idempotency_key: str | None) -> Submission:
    """Returns the submission in an HTTP body. `idempotency_key` is the value of the header.

    Raises InvalidRequest with the field, or PayloadTooLarge.
    """
    fields = Fields(body)
    submission = Submission(
        task=fields.text("task", pattern=NAME),
        payload=_payload(fields),
        max_attempts=fields.integer("max_attempts", 1, MAX_MAX_ATTEMPTS, default=None),
        not_before=_delay(fields),
        idempotency_key=read_idempotency_header(idempotency_key),
    )
    fields.finish()
    return submission


def read_message(body: str) -> Wake | Submission:
    """Returns the request in a message of the jobs queue.

    A submission does not name a tenant: the job belongs to the tenant of the queue. Raises
    InvalidRequest with the field, or PayloadTooLarge. A message of another system is named.
    """
    try:
        value = parse_json(body, limit=MESSAGE_LIMIT)
    except InvalidRequest:
        if form := encoded_envelope(body):
            raise _foreign(form) from None
        raise
    fields = Fields(value)
    message: Wake | Submission
    if "task" in value:
        key = read_idempotency_key(fields.text("idempotency_key", default=None))
        message = Submission(
            fields.text("task", pattern=NAME), _payload(fields), idempotency_key=key
        )
    elif form := envelope(value):
        raise _foreign(form)
    elif "tenant" not in value:
        raise InvalidRequest("task", f"is missing; {_SEND}")
    else:
        message = Wake(
            tenant=fields.text("tenant", pattern=NAME), job_id=fields.text("id", pattern=NAME)
        )
    fields.finish()
    return message


def read_stream_gap(body: str) -> StreamGap:
    """Returns the records in a report of the stream's event source mapping that it skipped.

    A missing or malformed time is unknown, which makes the window wider. A report without records
    has only the time of the report: every earlier record may be lost. Raises InvalidRequest.
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
    # AWS truncates these times to the second.
    return replace(
        gap, from_ms=first_ms or 0, to_ms=reported_ms if last_ms is None else last_ms + 999
    )


def read_rfc3339(field: str, text: str) -> int:
    """Returns an RFC 3339 time with its offset as milliseconds since the epoch.

    Its `T` and `Z` may be in lower case (RFC 3339, 5.6). Raises InvalidRequest.
    """
    text = text.upper()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text:
        raise InvalidRequest(
            field, "must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z"
        )
    return int(moment.timestamp() * 1000)


def read_cursor(text: str) -> tuple[str, int]:
    """Returns the job id and time in a cursor. Raises InvalidRequest."""
    try:
        at_ms, _, job_id = (
            base64.urlsafe_b64decode(text.encode("ascii") + b"==").decode("ascii").partition("/")
        )
        if at_ms.isdigit() and len(at_ms) < 16 and NAME.fullmatch(job_id):
            return job_id, int(at_ms)
    except ValueError:
        pass
    raise InvalidRequest("cursor", "must be the `next` of an earlier page")


def write_cursor(job_id: str, at_ms: int) -> str:
    """Returns the cursor of a list's next page, for the caller to send back.

    It does not name a tenant: it is used on the caller's own jobs only.
    """
    return base64.urlsafe_b64encode(f"{at_ms}/{job_id}".encode()).decode().rstrip("=")


def public(job: Job, now_ms: int) -> dict[str, Any]:
    """Returns the job as the API shows it."""
    shown: dict[str, Any] = {
        "id": job.id,
        "task": job.task,
        "status": public_status(job, now_ms),
        "payload": job.payload,
        "created_at": rfc3339(job.created_at_ms),
        "max_attempts": job.max_attempts,
        "attempts": [_public_attempt(job, index, now_ms) for index in range(len(job.history))],
        "result": job.result,
        "error": job.error,
    }
    if job.status in (Status.RETRY, Status.SCHEDULED) and job.not_before_ms is not None:
        shown["not_before"] = rfc3339(job.not_before_ms)
    if job.omitted:
        shown["attempts_omitted"] = dict(job.omitted)
    if job.progress is not None:
        shown["progress"] = job.progress
    if job.tick is not None:
        shown["schedule"] = {
            "name": job.tick.schedule,
            "tick": rfc3339(job.tick.at_ms),
            "missed": job.tick.missed,
        }
    return shown


def _foreign(form: Envelope) -> InvalidRequest:
    """Returns the error of a message of another system, with the way out."""
    return InvalidRequest("task", f"is missing; this is {form}: {_WAYS_OUT[form]}")


def _delay(fields: Fields) -> Delay | None:
    seconds = fields.number("delay_seconds", 0, LONGEST_DELAY_SECONDS, default=None)
    run_at = fields.text("run_at", default=None)
    if seconds is not None and run_at is not None:
        raise InvalidRequest("run_at", "cannot be combined with delay_seconds")
    if run_at is not None:
        return Delay(at_ms=read_rfc3339("run_at", run_at))
    return None if seconds is None else Delay(seconds=seconds)


def _payload(fields: Fields) -> Any:
    payload = fields.anything("payload", default=None)
    size = len(canonical_json(payload).encode())
    if size > PAYLOAD_LIMIT:
        raise PayloadTooLarge("payload", size, PAYLOAD_LIMIT)
    return payload


def _moment(report: Any, field: str) -> int | None:
    with suppress(InvalidRequest):
        return read_rfc3339(field, text) if isinstance(text := report.get(field), str) else None
    return None


def _public_attempt(job: Job, index: int, now_ms: int) -> dict[str, Any]:
    attempt = job.history[index]
    is_last = index == len(job.history) - 1
    return {
        "number": attempt_number(job, index),
        "started_at": rfc3339(attempt.started_at_ms),
        "ended_at": None if attempt.ended_at_ms is None else rfc3339(attempt.ended_at_ms),
        "outcome": _outcome(job, attempt, last=is_last, now_ms=now_ms),
        "error": attempt.error,
    }


def _outcome(job: Job, attempt: Attempt, *, last: bool, now_ms: int) -> str:
    if attempt.outcome is not None:
        return attempt.outcome
    # Without an end, it is still running, or its process died and a later claim took the job over.
    return (
        Outcome.RUNNING if last and public_status(job, now_ms) == "running" else Outcome.INTERRUPTED
    )
