"""Every write of a session, as the one conditional request that makes it.

::

    create --> version 1 -- change, rotate --> version 2 -- ... --> ended (deleted), or expired, or of an ended generation
                   +- touch: a later deadline, the same version

Every write but a touch and an end is a transaction, of one item or more: its token lets an SDK
repeat it after a lost answer, and a copy of it that arrives late do nothing, as no condition could.
A version is written once: whoever read an older one, or holds a token that was rotated away since,
writes nothing. Where a session has a subject, a write also checks the subject's generation, in one
transaction: what end-all has ended is written no more. Functions here return requests and send
nothing.
"""

from typing import Any

from mayfly.sessions.items import generation_key, session_key, ttl_of, write_item
from mayfly.sessions.model import Session
from mayfly.sessions.rules import ROTATION_GRACE_MS

__all__ = [
    "check_generation",
    "create",
    "end",
    "end_all",
    "end_by_id",
    "move_away",
    "move_in",
    "replace",
    "touch",
]


def create(table: str, session: Session) -> dict[str, Any]:
    """The put of a session that does not exist yet."""
    is_free = "attribute_not_exists(pk)"
    return {
        "TableName": table,
        "Item": write_item(session),
        "ConditionExpression": is_free,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def move_in(table: str, session: Session) -> dict[str, Any]:
    """The put of a session that comes from another subject's partition.

    It may have been here before, and left.
    """
    is_free = "attribute_not_exists(pk)"
    has_left = "#until = #rotated_at"
    return {
        **create(table, session),
        "ConditionExpression": f"{is_free} OR {has_left}",
        "ExpressionAttributeNames": {"#until": "idle_expires_at", "#rotated_at": "rotated_at"},
    }


def replace(table: str, seen: Session, after: Session) -> dict[str, Any]:
    """Puts a session's next version in the place of the one that was seen."""
    return {"TableName": table, "Item": write_item(after), **_as_seen(seen)}


def move_away(table: str, seen: Session, now_ms: int) -> dict[str, Any]:
    """Ends the version that was seen, since it goes on in another subject's partition.

    What stays for a minute says only that it was rotated away (`rules.was_rotated_away`).
    """
    condition = _as_seen(seen)
    return {
        "TableName": table,
        "Key": session_key(seen.tenant, seen.partition, seen.id),
        "UpdateExpression": "SET #until = :now, #rotated_at = :now, #expires_at = :expires_at, "
        "#data = :nothing ADD #version :one",
        **condition,
        "ExpressionAttributeNames": condition["ExpressionAttributeNames"]
        | {
            "#until": "idle_expires_at",
            "#rotated_at": "rotated_at",
            "#expires_at": "expires_at",
            "#data": "data",
        },
        "ExpressionAttributeValues": condition["ExpressionAttributeValues"]
        | {
            ":now": {"N": str(now_ms)},
            ":expires_at": {"N": ttl_of(now_ms + ROTATION_GRACE_MS)},
            ":nothing": {"S": "{}"},
            ":one": {"N": "1"},
        },
    }


def touch(table: str, seen: Session, until_ms: int) -> dict[str, Any]:
    """Moves the deadline of the version that was seen, onwards only.

    Without the generation: to move the deadline of a session that end-all has ended shows nowhere,
    and saves a transaction.
    """
    condition = _as_seen(seen)
    is_later = "#until < :until"
    return {
        "TableName": table,
        "Key": session_key(seen.tenant, seen.partition, seen.id),
        "UpdateExpression": "SET #until = :until, #expires_at = :expires_at",
        "ConditionExpression": f"{condition['ConditionExpression']} AND {is_later}",
        "ExpressionAttributeNames": condition["ExpressionAttributeNames"]
        | {"#until": "idle_expires_at", "#expires_at": "expires_at"},
        "ExpressionAttributeValues": condition["ExpressionAttributeValues"]
        | {":until": {"N": str(until_ms)}, ":expires_at": {"N": ttl_of(until_ms)}},
    }


def check_generation(table: str, tenant: str, partition: str, generation: int) -> dict[str, Any]:
    """The check, in a transaction, that nobody has ended all of a subject's sessions since
    `generation` was read.
    """
    is_same = "generation = :generation" if generation else "attribute_not_exists(pk)"
    values = (
        {"ExpressionAttributeValues": {":generation": {"N": str(generation)}}} if generation else {}
    )
    return {
        "TableName": table,
        "Key": generation_key(tenant, partition),
        "ConditionExpression": is_same,
        **values,
    }


def end(
    table: str, tenant: str, partition: str, session_id: str, *, secret_hash: str, now_ms: int
) -> dict[str, Any]:
    """Deletes a session that the secret opens and no deadline has ended."""
    return {
        "TableName": table,
        "Key": session_key(tenant, partition, session_id),
        "ConditionExpression": "secret_hash = :hash AND idle_expires_at > :now",
        "ExpressionAttributeValues": {":hash": {"S": secret_hash}, ":now": {"N": str(now_ms)}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def end_by_id(
    table: str, tenant: str, partition: str, session_id: str, *, now_ms: int
) -> dict[str, Any]:
    """Deletes a session, whatever its secret, that no deadline has ended."""
    return {
        "TableName": table,
        "Key": session_key(tenant, partition, session_id),
        "ConditionExpression": "idle_expires_at > :now",
        "ExpressionAttributeValues": {":now": {"N": str(now_ms)}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def end_all(table: str, tenant: str, partition: str) -> dict[str, Any]:
    """Raises a subject's generation.

    Raised twice where an answer was lost: all that counts is that it differs.
    """
    return {
        "TableName": table,
        "Key": generation_key(tenant, partition),
        "UpdateExpression": "ADD generation :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }


def _as_seen(seen: Session) -> dict[str, Any]:
    return {
        "ConditionExpression": "#version = :seen_version",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": {":seen_version": {"N": str(seen.version)}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
