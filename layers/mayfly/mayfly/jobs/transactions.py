"""A new job as one write of the caller's own transaction: the outbox for tables of one's own.

The caller writes its item and the job together, and the table's stream announces the job.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mayfly.core.errors import IdempotencyKeyReused
from mayfly.jobs import writes
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.errors import BadRecord
from mayfly.jobs.items import UNREADABLE, read_job
from mayfly.jobs.model import Job, Submission
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.rules import TRANSACTION_PAYLOAD_LIMIT, describe
from mayfly.jobs.service import new_job_of
from mayfly.jobs.store import JobStore

__all__ = ["existing_job", "in_transaction", "job_of"]

#: The code of a write whose condition was false.
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CancellationReason.html
_CONDITION_FALSE: Final = "ConditionalCheckFailed"


def in_transaction(
    store: JobStore | JobOperations,
    submission: Submission,
    *,
    tenant: str,
    tasks: Mapping[str, Declaration],
) -> dict[str, Any]:
    """Returns the write that makes a job, for a TransactWriteItems of the caller's. Sends nothing.

    It is `{"Put": ...}` in DynamoDB's JSON, as the client of boto3 sends it. The job exists if and
    only if the transaction is committed. Its payload has up to 64 KB of JSON.

    The same idempotency key names the same job. If that job exists, DynamoDB cancels the
    transaction; `existing_job` reads the reason. A repeat with the same ClientRequestToken must
    send the same write, since another call of this function notes another time.

    Raises UnknownTask, PayloadMismatch, InvalidRequest, PayloadTooLarge.
    """
    if isinstance(store, JobOperations):
        store = store.store
    job = new_job_of(
        store,
        submission,
        tenant=tenant,
        tasks=tasks,
        now_ms=store.clock(),
        payload_limit=TRANSACTION_PAYLOAD_LIMIT,
    )
    (put,) = writes.create(
        store.table, job, due_shards=store.due_shards, inline_bytes=TRANSACTION_PAYLOAD_LIMIT
    )
    return {"Put": put}


def job_of(write: Mapping[str, Any]) -> Job:
    """Returns the job that a write of `in_transaction` makes, with its id."""
    return read_job(write["Put"]["Item"])


def existing_job(write: Mapping[str, Any], reason: Mapping[str, Any]) -> Job | None:
    """Returns the job because of which DynamoDB has refused a write of `in_transaction`.

    `reason` is the entry of the write in CancellationReasons. Returns None if the write was not
    refused by its condition: then the job does not exist, or another write met a conflict.

    ::

        caller   write both -- answer lost -- write both again: refused, the job exists
                   committed                    so the first transaction is committed

    Raises IdempotencyKeyReused if the job was submitted with another body, BadRecord if it cannot
    be read.
    """
    if reason.get("Code") != _CONDITION_FALSE:
        return None
    wanted = job_of(write)
    try:
        job = read_job(reason["Item"])
    except UNREADABLE as problem:
        raise BadRecord(wanted.id, describe(problem)) from problem
    if job.fingerprints.isdisjoint(wanted.fingerprints):
        raise IdempotencyKeyReused(f"job {job.id!r}")
    return replace(job, payload=wanted.payload)
