"""Every write of a session, each as one conditional request.

::

    create --> version 1 -- change, rotate --> version 2 -- ... --> ended (deleted), expired,
                   +- touch: a later deadline, the same version     or of an ended generation

Every write but a touch and an end is a transaction, of one item or more. By its token DynamoDB
deduplicates the SDK's retry after a lost response, and a copy that arrives late. A condition could
not do that. Each version is written once. A writer that read an older version, or has a token that
was rotated away, writes nothing. If a session has a subject, the transaction also checks the
subject's generation, so a session that end-all has ended is never written again. Functions here
return requests and send nothing.
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
    """Puts a session, if there is none with its id."""
    is_free = "attribute_not_exists(pk)"
    return {
        "TableName": table,
        "Item": write_item(session),
        "ConditionExpression": is_free,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def move_in(table: str, session: Session) -> dict[str, Any]:
    """Puts a session that moves here from another subject's partition.

    Its key must be free, or have the record of the session's own move away from here.
    """
    is_free = "attribute_not_exists(pk)"
    has_left = "#until = #rotated_at"
    return {
        **create(table, session),
        "ConditionExpression": f"{is_free} OR {has_left}",
        "ExpressionAttributeNames": {"#until": "idle_expires_at", "#rotated_at": "rotated_at"},
    }


def replace(table: str, before: Session, after: Session) -> dict[str, Any]:
    """Puts a session's next version, if its version is still that of `before`."""
    return {"TableName": table, "Item": write_item(after), **_is_unchanged(before)}


def move_away(table: str, before: Session, now_ms: int) -> dict[str, Any]:
    """Ends a session here, if its version is still that of `before`.

    It continues in another subject's partition. For a minute the item stays, without data, as the
    record that the token was rotated away (`rules.was_rotated_away`).
    """
    condition = _is_unchanged(before)
    return {
        "TableName": table,
        "Key": session_key(before.tenant, before.partition, before.id),
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


def touch(table: str, session: Session, until_ms: int) -> dict[str, Any]:
    """Moves a session's idle deadline to a later time, if its version is unchanged.

    The generation is not checked, which saves a transaction. A later deadline of a session that
    end-all has ended has no effect.
    """
    condition = _is_unchanged(session)
    is_later = "#until < :until"
    return {
        "TableName": table,
        "Key": session_key(session.tenant, session.partition, session.id),
        "UpdateExpression": "SET #until = :until, #expires_at = :expires_at",
        "ConditionExpression": f"{condition['ConditionExpression']} AND {is_later}",
        "ExpressionAttributeNames": condition["ExpressionAttributeNames"]
        | {"#until": "idle_expires_at", "#expires_at": "expires_at"},
        "ExpressionAttributeValues": condition["ExpressionAttributeValues"]
        | {":until": {"N": str(until_ms)}, ":expires_at": {"N": ttl_of(until_ms)}},
    }


def check_generation(table: str, tenant: str, partition: str, generation: int) -> dict[str, Any]:
    """Checks, in a transaction, that a subject's generation is still `generation`.

    So no end-all has ended the subject's sessions since it was read.
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
    """Deletes a session, if the secret opens it and it has not expired."""
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
    """Deletes a session, whatever its secret, if it has not expired.

    A session whose deadline cannot be read has not.
    """
    is_live = "idle_expires_at > :now"
    has_no_deadline = "NOT attribute_type(idle_expires_at, :number)"
    return {
        "TableName": table,
        "Key": session_key(tenant, partition, session_id),
        "ConditionExpression": f"attribute_exists(pk) AND ({has_no_deadline} OR {is_live})",
        "ExpressionAttributeValues": {":now": {"N": str(now_ms)}, ":number": {"S": "N"}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def end_all(table: str, tenant: str, partition: str) -> dict[str, Any]:
    """Increments a subject's generation.

    A retry after a lost response may increment it twice; it only has to differ.
    """
    return {
        "TableName": table,
        "Key": generation_key(tenant, partition),
        "UpdateExpression": "ADD generation :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }


def _is_unchanged(session: Session) -> dict[str, Any]:
    return {
        "ConditionExpression": "#version = :seen_version",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": {":seen_version": {"N": str(session.version)}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
