"""A job as a DynamoDB item and back.

The item is at once the status that users read, the Powertools idempotency record and, through the
table's stream, the outbox. Sort key `job`; a payload too large to be paid for with every status
write stands beside it, in an item of its own.
"""

import json
from typing import Any, Final

from mayfly.core.ids import key
from mayfly.core.json_input import canonical_json
from mayfly.jobs.model import Attempt, Job, Outcome, Status, Tick
from mayfly.jobs.rules import (
    INLINE_PAYLOAD_LIMIT,
    LARGE_PAYLOAD_RETENTION_SECONDS,
    waits_by_message,
)

__all__ = [
    "DUE",
    "attempt_value",
    "attention",
    "attention_partition",
    "job_key",
    "new_items",
    "payload_key",
    "read_job",
    "scheduled",
    "state",
]

#: The one partition of the `due` index: jobs whose time is further away than the queue can delay
#: them.
DUE: Final = "due"
_NUMBERS: Final = ("run", "attempt", "fence", "max_attempts")


def job_key(tenant: str, job_id: str) -> dict[str, Any]:
    """The primary key of a job."""
    return {"pk": {"S": key(tenant, job_id)}, "sk": {"S": "job"}}


def payload_key(tenant: str, job_id: str, fingerprint: str) -> dict[str, Any]:
    """The primary key of a job's payload, where it has its own item.

    It names the request, not the job alone: a payload may be written before the claim that makes
    its job, and must not become that of another request which makes the job first.
    """
    return {"pk": {"S": key(tenant, job_id)}, "sk": {"S": key("payload", fingerprint)}}


def new_items(job: Job) -> list[dict[str, Any]]:
    """The items of a new job: itself and, where the payload is large, the payload."""
    item = {
        **job_key(job.tenant, job.id),
        "id": {"S": job.id},
        "tenant": {"S": job.tenant},
        "task": {"S": job.task},
        "created_at": {"N": str(job.created_at_ms)},
        "fingerprint": {"S": job.fingerprint},
        "run": {"N": str(job.run)},
        "max_attempts": {"N": str(job.max_attempts)},
        **state(job),
    }
    if job.tick is not None:
        item["tick"] = {
            "S": canonical_json(
                {"schedule": job.tick.schedule, "at": job.tick.at_ms, "missed": job.tick.missed}
            )
        }
    text = canonical_json(job.payload)
    payload = {"S": text}
    if len(text.encode()) <= INLINE_PAYLOAD_LIMIT:
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


def state(job: Job) -> dict[str, Any]:
    """What attempts change in a job's item; attributes that the job has none of are left out.

    Its result is its caller's to add.
    """
    found: dict[str, Any] = {
        "status": {"S": job.status},
        "attempt": {"N": str(job.attempt)},
        "fence": {"N": str(job.fence)},
        "history": {"L": [attempt_value(attempt) for attempt in job.history]},
    }
    texts = {"owner": job.owner, "error": job.error}
    numbers = {
        "lease_until": job.lease_until_ms,
        "not_before": job.not_before_ms,
        "expires_at": job.expires_at_s,
    }
    found |= {name: {"S": value} for name, value in texts.items() if value is not None}
    found |= {name: {"N": str(value)} for name, value in numbers.items() if value is not None}
    if job.status is Status.DEAD:
        found |= attention(job.tenant, Status.DEAD, job.history[-1].ended_at_ms or 0)
    if job.status is Status.SCHEDULED:
        found |= scheduled(
            job, now_ms=(job.history[-1].ended_at_ms if job.history else None) or job.created_at_ms
        )
    return found


def scheduled(job: Job, *, now_ms: int) -> dict[str, Any]:
    """What a job has while it waits for its time: its place in the `attention` index and, where its
    time is too far for the queue's own delay, in the `due` index, which the sweep takes it out of.
    """
    at_ms = job.not_before_ms or 0
    attributes = {"not_before": {"N": str(at_ms)}, **attention(job.tenant, Status.SCHEDULED, at_ms)}
    if not waits_by_message(at_ms, now_ms):
        attributes["due"] = {"S": DUE}
    return attributes


def attention(tenant: str, status: Status, at_ms: int) -> dict[str, Any]:
    """A job's place among those that people look at: scheduled by their time, dead by the time of
    their end.
    """
    return {
        "attention": {"S": attention_partition(tenant, status)},
        "attention_at": {"N": str(at_ms)},
    }


def attention_partition(tenant: str, status: Status) -> str:
    """The partition of the `attention` index with a tenant's jobs of one status."""
    return key(tenant, status)


def attempt_value(attempt: Attempt) -> dict[str, Any]:
    """One entry of the history."""
    times = {"started": attempt.started_at_ms, "ended": attempt.ended_at_ms}
    return {"S": canonical_json({**times, "outcome": attempt.outcome, "error": attempt.error})}


def read_job(item: dict[str, Any], payload_item: dict[str, Any] | None = None) -> Job:
    """The job in an item."""
    payload = (payload_item or item).get("payload")
    return Job(
        id=item["id"]["S"],
        tenant=item["tenant"]["S"],
        task=item["task"]["S"],
        payload=json.loads(payload["S"]) if payload else None,
        status=Status(item["status"]["S"]),
        created_at_ms=int(item["created_at"]["N"]),
        fingerprint=item["fingerprint"]["S"],
        owner=_text(item, "owner"),
        lease_until_ms=_number(item, "lease_until"),
        not_before_ms=_number(item, "not_before"),
        resent_at_ms=_number(item, "resent_at"),
        history=tuple(_attempt(entry["S"]) for entry in item["history"]["L"]),
        result=json.loads(item["result"]["S"]) if "result" in item else None,
        error=_text(item, "error"),
        expires_at_s=_number(item, "expires_at"),
        progress=json.loads(item["progress"]["S"]) if "progress" in item else None,
        tick=_tick(item["tick"]["S"]) if "tick" in item else None,
        **{name: int(item[name]["N"]) for name in _NUMBERS},
    )


def _attempt(entry: str) -> Attempt:
    found = json.loads(entry)
    outcome = Outcome(found["outcome"]) if found["outcome"] else None
    return Attempt(found["started"], found["ended"], outcome, found["error"])


def _tick(entry: str) -> Tick:
    found = json.loads(entry)
    return Tick(found["schedule"], found["at"], found["missed"])


def _text(item: dict[str, Any], name: str) -> str | None:
    return item[name]["S"] if name in item else None


def _number(item: dict[str, Any], name: str) -> int | None:
    return int(item[name]["N"]) if name in item else None
