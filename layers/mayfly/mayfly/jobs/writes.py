"""The conditional write for every change of a job's state.

::

    create           claim (owner, lease)       complete
      +-> QUEUED --------> INPROGRESS ------------> COMPLETED   with the job's effects,
      +-> SCHEDULED -------+ ^    | fail, not final             in one transaction
          (until its time) | |    v
          lease expired ---+ +-- RETRY (until its time; SCHEDULED if that is far away)
          (process died)     +--------------------> DEAD        permanent, or last attempt;
                                                                redrive: QUEUED again
          save (progress): INPROGRESS stays
          continue_later: RETRY immediately, the attempt does not count
          not ended -- cancel --------------------> CANCELLED   its owner can no longer commit

No write deletes an item and every write has a condition, so a late worker can only be refused.
Functions here return requests and send nothing, so a reader can check each condition.

`advance` is the default path: it writes the claim of a job and its end at the same time.

`fence` grows with every claim, and only with a claim, `advance` included. A job does not leave a
status and return to it without a claim in between. So `status` and `fence` together are a job's
version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from mayfly.aws.items import FORMAT, stamp
from mayfly.jobs.history import end_attempt, shortened, undo_attempt
from mayfly.jobs.items import (
    attempt_value,
    attention,
    history_values,
    job_key,
    new_items,
    read_job,
    scheduled,
    state,
)
from mayfly.jobs.model import Attempt, Job, Outcome, Status
from mayfly.jobs.rules import INLINE_PAYLOAD_LIMIT, RETENTION_SECONDS, waits_by_message
from mayfly.jobs.shards import Due

__all__ = [
    "advance",
    "bury",
    "cancel",
    "claim",
    "claim_seen",
    "complete",
    "continue_later",
    "create",
    "fail",
    "insert_claimed",
    "put_payload",
    "redrive",
    "release",
    "renew",
    "renew_seen",
    "resend",
    "save",
    "shorten",
    "take_due",
    "take_due_together",
]  # fmt: skip

#: The condition of an owner: the job runs, and the caller holds it.
_IS_MINE: Final = "#status = :inprogress AND #owner = :nonce"
#: Attributes that place a job in the indexes.
_PLACES: Final = ("attention", "attention_at", "due")
#: Attributes that are set when the item is made.
_NEVER_CHANGED: Final = (
    "pk",
    "sk",
    "id",
    "tenant",
    "task",
    "created_at",
    "payload",
    "tick",
    FORMAT,
)
#: Attributes that appear without a new `fence`.
_OPTIONAL: Final = ("progress", "resent_at", "lease_until", "not_before", "expires_at")
#: Attributes of a new item that the claim itself sets.
_SET_BY_CLAIM: Final = {"pk", "sk", "status", "history", "attempt", "fence"}


def create(
    table: str, job: Job, *, due_shards: int = 1, inline_bytes: int = INLINE_PAYLOAD_LIMIT
) -> list[dict[str, Any]]:
    """Returns the puts of a new job: its own, which is conditional, and that of a large payload.

    In a transaction, the condition of the first one holds for both. A payload of up to
    `inline_bytes` is part of the first one.
    """
    is_free = "attribute_not_exists(pk)"
    has_expired = "#expires_at < :now"  # TTL deletes late; an expired item counts as absent
    item, *payload_items = new_items(job, due_shards=due_shards, inline_bytes=inline_bytes)
    put = {
        "TableName": table,
        "Item": item,
        "ConditionExpression": f"{is_free} OR {has_expired}",
        "ExpressionAttributeNames": {"#expires_at": "expires_at"},
        "ExpressionAttributeValues": {":now": {"N": str(job.created_at_ms // 1000)}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    return [put, *({"TableName": table, "Item": payload_item} for payload_item in payload_items)]


def put_payload(table: str, item: dict[str, Any]) -> dict[str, Any]:
    """Returns the put of a payload that has an item of its own.

    Its key names the request, so an item with the same key has the same content.
    """
    is_free = "attribute_not_exists(pk)"
    return {"TableName": table, "Item": item, "ConditionExpression": is_free}


def claim(
    table: str, tenant: str, job_id: str, *, nonce: str, now_ms: int, lease_ms: int, new: Job | None
) -> dict[str, Any]:
    """Makes the holder of `nonce` the owner for `lease_ms`, if the job may run now.

    The job may have any version. `new` is the job that a producer's message asks for: if it does
    not exist, the claim makes it.

    ::

        owner A   claim --- runs --- lease expires .. late: refused by its nonce
        owner B                          claim ---- runs ---- complete
    """
    is_queued = "#status = :queued"
    is_due = "(#status IN (:retry, :scheduled) AND #not_before <= :now)"
    # No worker runs it: a live owner would have renewed the lease.
    was_abandoned = "(#status = :inprogress AND #lease_until < :now)"
    has_attempts_left = "#attempt < #max_attempts"
    # A claim reads the job with its answer: it must not change what it cannot read.
    is_readable = "(attribute_not_exists(#v) OR #v <= :format)"
    condition = (
        f"({is_queued} OR {is_due} OR {was_abandoned}) AND {has_attempts_left} AND {is_readable}"
    )
    created: dict[str, Any] = {}
    compared: dict[str, str] = {}
    if new:
        created = {
            name: value for name, value in new_items(new)[0].items() if name not in _SET_BY_CLAIM
        }
        is_absent = "attribute_not_exists(pk)"
        # A repeat of the same request may claim the job. Another body with the same idempotency
        # key is another request, and is refused.
        is_sent_alike = "#fingerprint IN (:new_fingerprint, :canonical)"
        is_equal = "#canonical_fingerprint = :canonical"
        condition = f"{is_absent} OR (({is_sent_alike} OR {is_equal}) AND {condition})"
        compared = {":canonical": new.canonical_fingerprint or new.fingerprint}
    sets = [
        "#status = :inprogress",
        "#owner = :nonce",
        "#lease_until = :until",
        "#history = list_append(if_not_exists(#history, :none), :entry)",
        *(f"#{name} = if_not_exists(#{name}, :new_{name})" for name in created),
    ]
    names = [
        "status",
        "owner",
        "lease_until",
        "history",
        "attempt",
        "max_attempts",
        "not_before",
        "fence",
        FORMAT,
        *_PLACES,
        *created,
        *(["canonical_fingerprint"] if compared else []),
    ]
    return {
        "TableName": table,
        "Key": job_key(tenant, job_id),
        "UpdateExpression": f"SET {', '.join(sets)} REMOVE #not_before, #attention, "
        "#attention_at, #due ADD #fence :one, #attempt :one",
        "ConditionExpression": condition,
        "ExpressionAttributeNames": _names(dict.fromkeys(names)),
        "ExpressionAttributeValues": {
            ":queued": {"S": Status.QUEUED},
            ":retry": {"S": Status.RETRY},
            ":scheduled": {"S": Status.SCHEDULED},
            ":inprogress": {"S": Status.INPROGRESS},
            ":nonce": {"S": nonce},
            ":now": {"N": str(now_ms)},
            ":until": {"N": str(now_ms + lease_ms)},
            ":none": {"L": []},
            ":format": stamp("job")[FORMAT],
            ":entry": {"L": [attempt_value(Attempt(started_at_ms=now_ms))]},
            ":one": {"N": "1"},
            **{f":new_{name}": value for name, value in created.items()},
            **{name: {"S": value} for name, value in compared.items()},
        },
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def advance(
    table: str,
    seen: Job,
    target: Job,
    *,
    is_new: bool,
    result: str | None = None,
    due_shards: int = 1,
) -> dict[str, Any]:
    """Writes the result of an attempt without a claim, if the job is still as it was `seen`.

    `target` is the new state, with the attempt's nonce as its owner. `is_new` is True if the job
    did not exist and this write makes it. Returns one action of a transaction.

    ::

        A   read v1 -- runs ---------------- advance: still v1?
                                               yes: one write for claim and completion
        B   read v1 -- runs -- advance         no: v2 is B's, and A has changed nothing

        A   read v1 -- runs for long -- claims late (v2, A's) -- advance: A is the owner,
                                                                 even if the claim's reply was lost
    """
    values: dict[str, Any] = {
        ":inprogress": {"S": Status.INPROGRESS},
        ":nonce": {"S": target.owner},
    }
    if is_new:
        is_absent = "attribute_not_exists(pk)"
        item = new_items(target, due_shards=due_shards)[0]
        if result is not None:
            item["result"] = {"S": result}
        return {
            "Put": {
                "TableName": table,
                "Item": item,
                "ConditionExpression": f"{is_absent} OR ({_IS_MINE})",
                "ExpressionAttributeNames": _names(("status", "owner")),
                "ExpressionAttributeValues": values,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }
    is_as_seen = "(#status = :seen_status AND #fence = :seen_fence)"
    written = state(target, due_shards=due_shards)
    if result is not None:
        written["result"] = {"S": result}
    gone = [name for name in ("lease_until", "not_before") if name not in written]
    if target.status is Status.COMPLETED and target.progress is not None:
        gone.append("progress")  # the result replaces it
    return {
        "Update": {
            "TableName": table,
            "Key": job_key(seen.tenant, seen.id),
            "UpdateExpression": f"SET {', '.join(f'#{name} = :{name}' for name in written)}"
            + (f" REMOVE {', '.join(f'#{name}' for name in gone)}" if gone else ""),
            "ConditionExpression": f"{is_as_seen} OR ({_IS_MINE})",
            "ExpressionAttributeNames": _names((*written, *gone)),
            "ExpressionAttributeValues": {
                **values,
                ":seen_status": {"S": seen.status},
                ":seen_fence": {"N": str(seen.fence)},
                **{f":{name}": value for name, value in written.items()},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def claim_seen(table: str, seen: Job, mine: Job) -> dict[str, Any]:
    """Claims a QUEUED job in the version that was `seen`, as one statement of several.

    `mine` is the job after the claim. This is PartiQL, since several statements are one call, and
    each costs one write unit. In a transaction each would cost two.
    """
    is_as_seen = '"status" = ? AND "fence" = ?'
    written = {
        "status": {"S": mine.status},
        "owner": {"S": mine.owner},
        "lease_until": {"N": str(mine.lease_until_ms)},
        "attempt": {"N": str(mine.attempt)},
        "fence": {"N": str(mine.fence)},
        **history_values(mine),
    }
    sets = " ".join(f'SET "{name}" = ?' for name in written)
    return {
        "Statement": f'UPDATE "{table}" {sets} WHERE "pk" = ? AND "sk" = ? AND {is_as_seen}',
        "Parameters": [
            *written.values(),
            *job_key(seen.tenant, seen.id).values(),
            {"S": seen.status},
            {"N": str(seen.fence)},
        ],
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def insert_claimed(table: str, mine: Job) -> dict[str, Any]:
    """Makes the job that a producer's message asks for, claimed from the start.

    Refused if a job has its id.
    """
    item = new_items(mine)[0]
    members = ", ".join(f"'{name}': ?" for name in item)
    return {
        "Statement": f'INSERT INTO "{table}" VALUE {{{members}}}',
        "Parameters": list(item.values()),
    }


def renew(table: str, job: Job, *, now_ms: int, lease_ms: int) -> dict[str, Any]:
    """Extends a claim by another `lease_ms`."""
    return {
        "TableName": table,
        "Key": job_key(job.tenant, job.id),
        "UpdateExpression": "SET #lease_until = :until",
        "ConditionExpression": _IS_MINE,
        "ExpressionAttributeNames": _names(("status", "owner", "lease_until")),
        "ExpressionAttributeValues": {
            ":inprogress": {"S": Status.INPROGRESS},
            ":nonce": {"S": job.owner},
            ":until": {"N": str(now_ms + lease_ms)},
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def renew_seen(table: str, job: Job, *, now_ms: int, lease_ms: int) -> dict[str, Any]:
    """Does `renew`, as one statement of several."""
    is_mine = '"status" = ? AND "owner" = ?'
    update = f'UPDATE "{table}" SET "lease_until" = ?'  # noqa: S608  # names and clauses of ours
    return {
        "Statement": f'{update} WHERE "pk" = ? AND "sk" = ? AND {is_mine}',
        "Parameters": [
            {"N": str(now_ms + lease_ms)},
            *job_key(job.tenant, job.id).values(),
            {"S": Status.INPROGRESS},
            {"S": job.owner},
        ],
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def complete(table: str, job: Job, *, result: str, now_ms: int) -> dict[str, Any]:
    """Ends as COMPLETED a job that the caller owns.

    ::

        owner A   claim -- runs ------------------ late: complete refused (owner is B)
        owner B      lease expired - claim - runs - complete - response lost - retry: done by B
    """
    ended = replace(job.history[-1], ended_at_ms=now_ms, outcome=Outcome.SUCCEEDED)
    write = _end(
        table,
        job,
        _IS_MINE,
        Status.COMPLETED,
        ended,
        now_ms=now_ms,
        extra={"result": {"S": result}},
    )
    if job.progress is not None:  # the result replaces it
        write["UpdateExpression"] += ", #progress"
        write["ExpressionAttributeNames"]["#progress"] = "progress"
    return write


def save(table: str, job: Job, *, progress: str) -> dict[str, Any]:
    """Stores the progress of a job, while the caller is its owner. `progress` is JSON.

    ::

        owner A   claim -- save 1 -- save 2 -- killed
        owner B                                  claim: finds 2, and continues from there
        late A                 save 2 of a process whose lease expired: refused, B is the owner
    """
    return {
        "TableName": table,
        "Key": job_key(job.tenant, job.id),
        "UpdateExpression": "SET #progress = :progress",
        "ConditionExpression": _IS_MINE,
        "ExpressionAttributeNames": _names(("status", "owner", "progress")),
        "ExpressionAttributeValues": {
            ":inprogress": {"S": Status.INPROGRESS},
            ":nonce": {"S": job.owner},
            ":progress": {"S": progress},
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def continue_later(table: str, job: Job, *, now_ms: int) -> dict[str, Any]:
    """Leaves a job that has made progress to another invocation, immediately.

    The attempt is recorded, but does not count. The status is RETRY, which the relay does not
    announce: the message that was received comes back.
    """
    attempt = replace(job.history[-1], ended_at_ms=now_ms, outcome=Outcome.CONTINUED)
    return _uncounted(table, end_attempt(job, attempt), now_ms=now_ms)


def fail(
    table: str,
    job: Job,
    *,
    error: str,
    retry_at_ms: int | None,
    now_ms: int,
    due_shards: int = 1,
) -> dict[str, Any]:
    """Ends a claim after a failure: RETRY until `retry_at_ms`, or DEAD if that is None.

    If a message cannot wait until then, the job becomes SCHEDULED, and a sweep announces it.
    """
    failed = replace(job.history[-1], ended_at_ms=now_ms, outcome=Outcome.FAILED, error=error)
    if retry_at_ms is None:
        return _end(
            table, job, _IS_MINE, Status.DEAD, failed, now_ms=now_ms, extra={"error": {"S": error}}
        )
    if waits_by_message(retry_at_ms, now_ms):
        return _leave(
            table,
            job,
            _IS_MINE,
            Status.RETRY,
            failed,
            extra={"not_before": {"N": str(retry_at_ms)}},
        )
    return _leave(
        table,
        job,
        _IS_MINE,
        Status.SCHEDULED,
        failed,
        extra=scheduled(
            replace(job, not_before_ms=retry_at_ms), now_ms=now_ms, due_shards=due_shards
        ),
    )


def bury(table: str, seen: Job, *, error: str, now_ms: int) -> dict[str, Any]:
    """Ends as DEAD a job that no worker runs, in the version that was `seen`.

    An abandoned attempt is recorded as interrupted.
    """
    is_as_seen = "#status = :seen AND #fence = :fence"
    written: dict[str, Any] = {
        "status": {"S": Status.DEAD},
        "error": {"S": error},
        "expires_at": _expires(now_ms),
        **attention(seen.tenant, Status.DEAD, now_ms),
        **history_values(shortened(seen)),
    }
    values: dict[str, Any] = {":seen": {"S": seen.status}, ":fence": {"N": str(seen.fence)}}
    if seen.status is Status.INPROGRESS:
        is_still_abandoned = "#lease_until = :seen_lease"  # its owner has not renewed it meanwhile
        is_as_seen += f" AND {is_still_abandoned}"
        values[":seen_lease"] = {"N": str(seen.lease_until_ms)}
        lost = replace(seen.history[-1], outcome=Outcome.INTERRUPTED, error=error)
        written |= history_values(end_attempt(seen, lost))
    gone = ("lease_until", "not_before", "due")
    return {
        **_change(
            table,
            seen,
            f"SET {', '.join(f'#{name} = :{name}' for name in written)} "
            f"REMOVE {', '.join(f'#{name}' for name in gone)}",
            is_as_seen,
            names=("fence", *written, *gone),
            values={**values, **{f":{name}": value for name, value in written.items()}},
        ),
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def shorten(table: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """Shortens the history of a job's item, if the item is still as it was read.

    Earlier releases kept every attempt, until no further attribute fitted into the item. So this
    replaces the item as a whole, with a smaller one.
    """
    compared = [name for name in item if name not in (*_NEVER_CHANGED, "history")]
    is_as_read = " AND ".join(f"#{name} = :{name}" for name in compared)
    absent = [name for name in _OPTIONAL if name not in item]
    has_nothing_new = " AND ".join(f"attribute_not_exists(#{name})" for name in absent)
    return {
        "TableName": table,
        "Item": {**item, **history_values(shortened(read_job(dict(item))))},
        "ConditionExpression": " AND ".join(filter(None, (is_as_read, has_nothing_new))),
        "ExpressionAttributeNames": _names((*compared, *absent)),
        "ExpressionAttributeValues": {f":{name}": item[name] for name in compared},
    }


def release(table: str, job: Job, *, now_ms: int) -> dict[str, Any]:
    """Undoes a claim whose attempt was never started; the attempt does not count.

    The status is RETRY, which the relay does not announce.
    """
    return _uncounted(table, undo_attempt(job), now_ms=now_ms)


def cancel(table: str, seen: Job, *, now_ms: int) -> dict[str, Any]:
    """Ends a job that has not ended, in the version that was `seen`.

    Its owner can no longer write.
    """
    is_as_seen = "#status = :seen AND #fence = :fence"
    sets = ["#status = :cancelled", "#expires_at = :expires"]
    names = ["status", "fence", "expires_at", "lease_until", "not_before", *_PLACES]
    values: dict[str, Any] = {
        ":seen": {"S": seen.status},
        ":fence": {"N": str(seen.fence)},
        ":cancelled": {"S": Status.CANCELLED},
        ":expires": _expires(now_ms),
    }
    if seen.status is Status.INPROGRESS:
        attempt = replace(seen.history[-1], ended_at_ms=now_ms, outcome=Outcome.CANCELLED)
        written = history_values(end_attempt(seen, attempt))
        sets += [f"#{name} = :{name}" for name in written]
        names += written
        values |= {f":{name}": value for name, value in written.items()}
    expression = (
        f"SET {', '.join(sets)} REMOVE #lease_until, #not_before, #attention, #attention_at, #due"
    )
    return _change(table, seen, expression, is_as_seen, names=names, values=values)


def redrive(table: str, seen: Job) -> dict[str, Any]:
    """Opens a new run of a dead job, with all its attempts; the stream announces it."""
    is_the_run_seen = "#status = :dead AND #run = :run"
    names = ["status", "attempt", "run", "error", "expires_at", "attention", "attention_at"]
    values: dict[str, Any] = {
        ":dead": {"S": Status.DEAD},
        ":queued": {"S": Status.QUEUED},
        ":run": {"N": str(seen.run)},
        ":zero": {"N": "0"},
        ":one": {"N": "1"},
    }
    expression = (
        "SET #status = :queued, #attempt = :zero REMOVE #error, #expires_at, "
        "#attention, #attention_at ADD #run :one"
    )
    return _change(table, seen, expression, is_the_run_seen, names=names, values=values)


def resend(table: str, seen: Job, *, now_ms: int) -> dict[str, Any]:
    """Makes the stream announce a job again, in the version that was `seen`.

    Its message is lost. A change of the item makes a stream record, so the change notes the time. A
    job that waits for another attempt, or that was abandoned, becomes QUEUED, since only that is
    announced. An abandoned attempt stays in the history.
    """
    is_as_seen = "#status = :seen AND #fence = :fence"
    sets = ["#resent_at = :now"]
    names = ["status", "fence", "resent_at"]
    values: dict[str, Any] = {
        ":seen": {"S": seen.status},
        ":fence": {"N": str(seen.fence)},
        ":now": {"N": str(now_ms)},
    }
    removes = ""
    if seen.status in (Status.RETRY, Status.INPROGRESS):
        sets.append("#status = :queued")
        names += ["not_before", "lease_until"]
        values[":queued"] = {"S": Status.QUEUED}
        removes = " REMOVE #not_before, #lease_until"
    if seen.status is Status.INPROGRESS:
        is_still_abandoned = "#lease_until = :seen_lease"  # its owner has not renewed it meanwhile
        is_as_seen += f" AND {is_still_abandoned}"
        values[":seen_lease"] = {"N": str(seen.lease_until_ms)}
    return _change(
        table, seen, f"SET {', '.join(sets)}{removes}", is_as_seen, names=names, values=values
    )


def take_due(table: str, seen: Due) -> dict[str, Any]:
    """Takes a scheduled job out of the `due` index.

    The stream then announces it, with the delay that is left.
    """
    is_not_taken = "#due = :seen"
    return {
        "TableName": table,
        "Key": dict(seen.key),
        "UpdateExpression": "REMOVE #due",
        "ConditionExpression": is_not_taken,
        "ExpressionAttributeNames": _names(("due",)),
        "ExpressionAttributeValues": {":seen": {"S": seen.partition}},
    }


def take_due_together(table: str, seen: Due) -> dict[str, Any]:
    """Does `take_due`, as one statement of several."""
    is_not_taken = '"due" = ?'
    update = f'UPDATE "{table}" REMOVE "due"'
    return {
        "Statement": f'{update} WHERE "pk" = ? AND "sk" = ? AND {is_not_taken}',
        "Parameters": [seen.key["pk"], seen.key["sk"], {"S": seen.partition}],
    }


def _end(
    table: str,
    job: Job,
    condition: str,
    status: Status,
    attempt: Attempt,
    *,
    now_ms: int,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    # Only a job that has ended may be deleted: its TTL counts from its end.
    place = attention(job.tenant, status, now_ms) if status is Status.DEAD else {}
    return _leave(
        table,
        job,
        condition,
        status,
        attempt,
        extra={**extra, "expires_at": _expires(now_ms), **place},
    )


def _leave(
    table: str,
    job: Job,
    condition: str,
    status: Status,
    attempt: Attempt,
    *,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the write with which an owner gives a job another status.

    It writes the whole history. Only an owner and a cancellation change that of a job that runs.
    """
    written = {**history_values(end_attempt(job, attempt)), **extra}
    sets = ["#status = :status", *(f"#{name} = :{name}" for name in written)]
    return {
        "TableName": table,
        "Key": job_key(job.tenant, job.id),
        "UpdateExpression": f"SET {', '.join(sets)} REMOVE #lease_until",
        "ConditionExpression": condition,
        "ExpressionAttributeNames": _names(("status", "lease_until", "owner", *written)),
        "ExpressionAttributeValues": {
            ":inprogress": {"S": Status.INPROGRESS},
            ":nonce": {"S": job.owner},
            ":status": {"S": status},
            **{f":{name}": value for name, value in written.items()},
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _uncounted(table: str, job: Job, *, now_ms: int) -> dict[str, Any]:
    """Returns the write with which an owner leaves a job to others, and that gives an attempt back.

    `job` has the history to write.
    """
    written = history_values(job)
    sets = [
        "#status = :retry",
        "#not_before = :now",
        *(f"#{name} = :{name}" for name in written),
    ]
    return {
        "TableName": table,
        "Key": job_key(job.tenant, job.id),
        "UpdateExpression": f"SET {', '.join(sets)} REMOVE #lease_until ADD #attempt :less",
        "ConditionExpression": _IS_MINE,
        "ExpressionAttributeNames": _names(
            ("status", "not_before", "lease_until", "owner", "attempt", *written)
        ),
        "ExpressionAttributeValues": {
            ":inprogress": {"S": Status.INPROGRESS},
            ":nonce": {"S": job.owner},
            ":retry": {"S": Status.RETRY},
            ":now": {"N": str(now_ms)},
            ":less": {"N": "-1"},
            **{f":{name}": value for name, value in written.items()},
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _change(
    table: str,
    job: Job,
    expression: str,
    condition: str,
    *,
    names: Sequence[str],
    values: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "TableName": table,
        "Key": job_key(job.tenant, job.id),
        "UpdateExpression": expression,
        "ConditionExpression": condition,
        "ExpressionAttributeNames": _names(names),
        "ExpressionAttributeValues": dict(values),
    }


def _names(names: Any) -> dict[str, str]:
    return {f"#{name}": name for name in names}


def _expires(now_ms: int) -> dict[str, str]:
    return {"N": str(now_ms // 1000 + RETENTION_SECONDS)}
