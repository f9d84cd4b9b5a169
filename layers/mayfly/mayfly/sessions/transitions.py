"""Every write of a session, as the one conditional request that makes it.

::

    create ──► version 1 ── change, rotate ──► version 2 ── ... ──► ended (deleted), or expired, or of an ended generation
                   └─ touch: a later deadline, the same version

A session is named by secret and version together: whoever read an older one, or holds a token that was rotated away, writes
nothing. Where a session has a subject, a write also checks the subject's generation, in one transaction: what end-all has ended
is written no more. Functions here return requests and send nothing.
"""

from typing import Any

from mayfly.sessions.items import generation_key, session_key, ttl_of, write_item
from mayfly.sessions.model import Session

__all__ = ["check_generation", "create", "end", "end_all", "end_by_id", "move_away", "replace", "touch"]


def create(table: str, session: Session) -> dict[str, Any]:
    """The put of a session that does not exist yet."""
    is_free = "attribute_not_exists(pk)"
    return {
        "TableName": table,
        "Item": write_item(session),
        "ConditionExpression": is_free,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def replace(table: str, seen: Session, after: Session) -> dict[str, Any]:
    """Puts a session's next version in the place of the one that was seen."""
    return {"TableName": table, "Item": write_item(after), **_as_seen(seen)}


def move_away(table: str, seen: Session) -> dict[str, Any]:
    """Deletes the version that was seen, since it goes on in another subject's partition."""
    return {"TableName": table, "Key": session_key(seen.tenant, seen.partition, seen.id), **_as_seen(seen)}


def touch(table: str, seen: Session, until_ms: int) -> dict[str, Any]:
    """Moves the deadline of the version that was seen, onwards only.

    Without the generation: to move the deadline of a session that end-all has ended shows nowhere, and saves a transaction.
    """
    condition = _as_seen(seen)
    is_later = "#until < :until"
    return {
        "TableName": table,
        "Key": session_key(seen.tenant, seen.partition, seen.id),
        "UpdateExpression": "SET #until = :until, #expires_at = :expires_at",
        "ConditionExpression": f"{condition['ConditionExpression']} AND {is_later}",
        "ExpressionAttributeNames": condition["ExpressionAttributeNames"] | {"#until": "idle_expires_at", "#expires_at": "expires_at"},
        "ExpressionAttributeValues": condition["ExpressionAttributeValues"]
        | {":until": {"N": str(until_ms)}, ":expires_at": {"N": ttl_of(until_ms)}},
    }


def check_generation(table: str, tenant: str, partition: str, generation: int) -> dict[str, Any]:
    """The check, in a transaction, that nobody has ended all of a subject's sessions since `generation` was read."""
    is_same = "generation = :generation" if generation else "attribute_not_exists(pk)"
    values = {"ExpressionAttributeValues": {":generation": {"N": str(generation)}}} if generation else {}
    return {"TableName": table, "Key": generation_key(tenant, partition), "ConditionExpression": is_same, **values}


def end(table: str, tenant: str, partition: str, session_id: str, *, secret_hash: str, now_ms: int) -> dict[str, Any]:
    """Deletes a session that the secret opens and no deadline has ended."""
    return {
        "TableName": table,
        "Key": session_key(tenant, partition, session_id),
        "ConditionExpression": "secret_hash = :hash AND idle_expires_at > :now",
        "ExpressionAttributeValues": {":hash": {"S": secret_hash}, ":now": {"N": str(now_ms)}},
    }


def end_by_id(table: str, tenant: str, partition: str, session_id: str, *, now_ms: int) -> dict[str, Any]:
    """Deletes a session, whatever its secret, that no deadline has ended."""
    return {
        "TableName": table,
        "Key": session_key(tenant, partition, session_id),
        "ConditionExpression": "idle_expires_at > :now",
        "ExpressionAttributeValues": {":now": {"N": str(now_ms)}},
    }


def end_all(table: str, tenant: str, partition: str) -> dict[str, Any]:
    """Raises a subject's generation. Raised twice where an answer was lost: all that counts is that it differs."""
    return {
        "TableName": table,
        "Key": generation_key(tenant, partition),
        "UpdateExpression": "ADD generation :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }


def _as_seen(seen: Session) -> dict[str, Any]:
    return {
        "ConditionExpression": "#secret_hash = :seen_hash AND #version = :seen_version",
        "ExpressionAttributeNames": {"#secret_hash": "secret_hash", "#version": "version"},
        "ExpressionAttributeValues": {":seen_hash": {"S": seen.secret_hash}, ":seen_version": {"N": str(seen.version)}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
