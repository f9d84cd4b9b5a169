"""A job as a DynamoDB item and back.

The item has three uses: it is the status that users read, the Powertools idempotency record and,
through the table's stream, the outbox. Its sort key is `job`. A large payload has an item of its
own, so that status writes do not pay for it.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mayfly.aws.items import UNREADABLE, check_format, optional_number, optional_text, stamp
from mayfly.core.ids import key
from mayfly.core.json_input import canonical_json
from mayfly.jobs.model import Attempt, Job, Outcome, Status, Tick
from mayfly.jobs.rules import (
    INLINE_PAYLOAD_LIMIT,
    LARGE_PAYLOAD_RETENTION_SECONDS,
    describe,
    waits_by_message,
)
from mayfly.jobs.shards import partition

__all__ = [
    "DUE",
    "UNREADABLE",
    "attempt_value",
    "attention",
    "attention_partition",
    "history_values",
    "job_key",
    "new_items",
    "payload_key",
    "read_job",
    "read_listed",
    "scheduled",
    "state",
    "tenant_of",
]

#: Jobs that start later than a message can be delayed, as a kind of the index `due`.
DUE: Final = "due"
_NUMBERS: Final = ("run", "attempt", "fence", "max_attempts")


def job_key(tenant: str, job_id: str) -> dict[str, Any]:
    """Returns the primary key of a job."""
    return {"pk": {"S": key(tenant, job_id)}, "sk": {"S": "job"}}


def tenant_of(item: Mapping[str, Any]) -> str:
    """Returns the tenant of a job, by its key. Names of tenants have no slash."""
    tenant: str = item["pk"]["S"].partition("/")[0]
    return tenant


def payload_key(tenant: str, job_id: str, fingerprint: str) -> dict[str, Any]:
    """Returns the primary key of a payload that has an item of its own.

    The key names the request, and not only the job. A payload may be written before the claim that
    makes its job; another request that makes the job first must not get it.
    """
    return {"pk": {"S": key(tenant, job_id)}, "sk": {"S": key("payload", fingerprint)}}


def new_items(
    job: Job, *, due_shards: int = 1, inline_bytes: int = INLINE_PAYLOAD_LIMIT
) -> list[dict[str, Any]]:
    """Returns the items of a new job: the job itself and, if the payload is large, the payload.

    `due_shards` is the number of shards of the `due` index over which jobs are spread. A payload of
    up to `inline_bytes` of JSON is part of the job's own item.
    """
    item = {
        **job_key(job.tenant, job.id),
        **stamp("job"),
        "id": {"S": job.id},
        "tenant": {"S": job.tenant},
        "task": {"S": job.task},
        "created_at": {"N": str(job.created_at_ms)},
        "fingerprint": {"S": job.fingerprint},
        **(
            {}
            if job.canonical_fingerprint is None
            else {"canonical_fingerprint": {"S": job.canonical_fingerprint}}
        ),
        "run": {"N": str(job.run)},
        "max_attempts": {"N": str(job.max_attempts)},
        **state(job, due_shards=due_shards),
    }
    if job.tick is not None:
        item["tick"] = {
            "S": canonical_json(
                {"schedule": job.tick.schedule, "at": job.tick.at_ms, "missed": job.tick.missed}
            )
        }
    text = canonical_json(job.payload)
    payload = {"S": text}
    if len(text.encode()) <= inline_bytes:
        return [{**item, "payload": payload}]
    expires = {"N": str(job.created_at_ms // 1000 + LARGE_PAYLOAD_RETENTION_SECONDS)}
    return [
        item,
        {
            **payload_key(job.tenant, job.id, job.fingerprint),
            "payload": payload,
            "expires_at": expires,
        },
    ]


def state(job: Job, *, due_shards: int = 1) -> dict[str, Any]:
    """Returns the attributes of a job's item that attempts change, except the result.

    Attributes that the job does not have are left out.
    """
    attributes: dict[str, Any] = {
        "status": {"S": job.status},
        "attempt": {"N": str(job.attempt)},
        "fence": {"N": str(job.fence)},
        **history_values(job),
    }
    texts = {"owner": job.owner, "error": job.error}
    numbers = {
        "lease_until": job.lease_until_ms,
        "not_before": job.not_before_ms,
        "expires_at": job.expires_at_s,
    }
    attributes |= {name: {"S": value} for name, value in texts.items() if value is not None}
    attributes |= {name: {"N": str(value)} for name, value in numbers.items() if value is not None}
    if job.status is Status.DEAD:
        attributes |= attention(job.tenant, Status.DEAD, job.history[-1].ended_at_ms or 0)
    if job.status is Status.SCHEDULED:
        attributes |= scheduled(
            job,
            now_ms=(job.history[-1].ended_at_ms if job.history else None) or job.created_at_ms,
            due_shards=due_shards,
        )
    return attributes


def scheduled(job: Job, *, now_ms: int, due_shards: int) -> dict[str, Any]:
    """Returns the attributes of a job that waits for its time.

    They place it in the `attention` index. If its time is too far away for the queue's own delay,
    they place it in the `due` index as well. The sweep removes it from there.
    """
    at_ms = job.not_before_ms or 0
    attributes = {"not_before": {"N": str(at_ms)}, **attention(job.tenant, Status.SCHEDULED, at_ms)}
    if not waits_by_message(at_ms, now_ms):
        place = partition(DUE, job_key(job.tenant, job.id), due_shards)
        attributes["due"] = {"S": place}
    return attributes


def attention(tenant: str, status: Status, at_ms: int) -> dict[str, Any]:
    """Returns a job's place in the index of scheduled and dead jobs.

    Scheduled jobs are sorted by their time, dead ones by the time of their end.
    """
    return {
        "attention": {"S": attention_partition(tenant, status)},
        "attention_at": {"N": str(at_ms)},
    }


def attention_partition(tenant: str, status: Status) -> str:
    """Returns the partition of the `attention` index with a tenant's jobs of one status."""
    return key(tenant, status)


def history_values(job: Job) -> dict[str, Any]:
    """Returns the attributes of a job's history.

    `omitted` is absent as long as no attempt is left out.
    """
    values: dict[str, Any] = {"history": {"L": [attempt_value(attempt) for attempt in job.history]}}
    if job.omitted:
        values["omitted"] = {"S": canonical_json(dict(job.omitted))}
    return values


def attempt_value(attempt: Attempt) -> dict[str, Any]:
    """Returns one entry of the history."""
    times = {"started": attempt.started_at_ms, "ended": attempt.ended_at_ms}
    return {"S": canonical_json({**times, "outcome": attempt.outcome, "error": attempt.error})}


def read_job(item: dict[str, Any], payload_item: dict[str, Any] | None = None) -> Job:
    """Returns the job in an item. Raises NewerFormat, or an error of UNREADABLE."""
    check_format("job", item)
    payload = (payload_item or item).get("payload")
    return Job(
        id=item["id"]["S"],
        tenant=item["tenant"]["S"],
        task=item["task"]["S"],
        payload=json.loads(payload["S"]) if payload else None,
        status=Status(item["status"]["S"]),
        created_at_ms=int(item["created_at"]["N"]),
        fingerprint=item["fingerprint"]["S"],
        canonical_fingerprint=optional_text(item, "canonical_fingerprint"),
        owner=optional_text(item, "owner"),
        lease_until_ms=optional_number(item, "lease_until"),
        not_before_ms=optional_number(item, "not_before"),
        resent_at_ms=optional_number(item, "resent_at"),
        history=tuple(_attempt(entry["S"]) for entry in item["history"]["L"]),
        omitted=_omitted(item["omitted"]["S"]) if "omitted" in item else {},
        result=json.loads(item["result"]["S"]) if "result" in item else None,
        error=optional_text(item, "error"),
        expires_at_s=optional_number(item, "expires_at"),
        progress=json.loads(item["progress"]["S"]) if "progress" in item else None,
        tick=_tick(item["tick"]["S"]) if "tick" in item else None,
        **{name: int(item[name]["N"]) for name in _NUMBERS},
    )


def read_listed(item: dict[str, Any], tenant: str, status: Status) -> Job:
    """Returns the job in an item of a list of jobs of one status.

    A large payload is left out, also if it is part of the item: a list has many jobs. An item that
    cannot be read is a job that says so, so that it does not hide the others.
    """
    try:
        job = read_job(item)
        is_large = len(item.get("payload", {"S": ""})["S"].encode()) > INLINE_PAYLOAD_LIMIT
        return replace(job, payload=None) if is_large else job
    except UNREADABLE as problem:
        # A number of DynamoDB may have a fraction.
        at_ms = int(float(item.get("attention_at", {}).get("N", "0")))
        return Job(
            id=item["pk"]["S"].rsplit("/", 1)[1],
            tenant=tenant,
            task=item.get("task", {}).get("S", ""),
            payload=None,
            status=status,
            max_attempts=0,
            created_at_ms=at_ms,
            fingerprint="",
            not_before_ms=at_ms if status is Status.SCHEDULED else None,
            error=f"the record of this job cannot be read: {describe(problem)}",
        )


def _attempt(entry: str) -> Attempt:
    stored = json.loads(entry)
    outcome = Outcome(stored["outcome"]) if stored["outcome"] else None
    return Attempt(stored["started"], stored["ended"], outcome, stored["error"])


def _omitted(entry: str) -> dict[Outcome, int]:
    return {Outcome(name): count for name, count in json.loads(entry).items()}


def _tick(entry: str) -> Tick:
    stored = json.loads(entry)
    return Tick(stored["schedule"], stored["at"], stored["missed"])
