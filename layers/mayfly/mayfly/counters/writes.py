"""Every write of a counter, each as one conditional request.

A counter is one item, or an item for each shard; each of those has the number of shards. An item
with `expires_at` in the past counts as absent, whether TTL has deleted it or not. Functions here
return requests and send nothing.
"""

from typing import Any

from mayfly.counters.model import Step
from mayfly.counters.rules import (
    KEY_RETENTION_SECONDS,
    SHARD,
    fingerprint,
    key_partition,
    partition,
    room,
    shard,
)

__all__ = [
    "add",
    "add_to_shard",
    "create_shards",
    "delete_expired",
    "delete_shards",
    "delete_single",
    "remember",
    "restart",
]


def add(
    table: str, tenant: str, name: str, step: Step, *, nonce: str | None, now_ms: int
) -> dict[str, Any]:
    """Adds to an unsharded counter, or creates it, if the value stays within the step's bounds.

    `nonce` names this write: after a lost response, a read finds it as the item's last one. A write
    that is safe to retry needs none.
    """
    least, most = room(step)
    is_single = "attribute_not_exists(#shards)"
    is_alive = "(attribute_not_exists(#expires_at) OR #expires_at > :now)"
    fits = "#value BETWEEN :least AND :most"
    condition = f"{is_single} AND {is_alive} AND {fits}"
    if least <= 0 <= most:  # an absent counter counts as 0
        condition = f"attribute_not_exists(pk) OR ({condition})"
    sets: list[str] = []
    values: dict[str, Any] = {}
    if nonce is not None:
        sets.append("#last = :last")
        values[":last"] = {"S": nonce}
    if step.ttl_seconds is not None:
        sets.append("#expires_at = :until")
        values[":until"] = _expiry(step.ttl_seconds, now_ms)
    names = {
        "#value": "value",
        "#shards": "shards",
        "#expires_at": "expires_at",
        **({"#last": "last"} if nonce else {}),
    }
    return {
        "TableName": table,
        "Key": _key(tenant, name, SHARD),
        "UpdateExpression": "ADD #value :by" + (f" SET {', '.join(sets)}" if sets else ""),
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {
            ":by": {"N": str(step.by)},
            ":least": {"N": str(least)},
            ":most": {"N": str(most)},
            ":now": {"N": str(now_ms // 1000)},
            **values,
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def restart(
    table: str,
    tenant: str,
    name: str,
    step: Step,
    *,
    nonce: str,
    now_ms: int,
    expired: dict[str, Any],
) -> dict[str, Any]:
    """Puts a new counter in the place of an expired one, if that one has not changed."""
    item = {**_key(tenant, name, SHARD), "value": {"N": str(step.by)}, "last": {"S": nonce}}
    if step.ttl_seconds is not None:
        item["expires_at"] = _expiry(step.ttl_seconds, now_ms)
    return {
        "TableName": table,
        "Item": item,
        "ConditionExpression": "#expires_at = :seen AND #value = :seen_value",
        "ExpressionAttributeNames": {"#expires_at": "expires_at", "#value": "value"},
        "ExpressionAttributeValues": {
            ":seen": expired["expires_at"],
            ":seen_value": expired["value"],
        },
    }


def add_to_shard(
    table: str, tenant: str, name: str, number: int, by: int, *, nonce: str | None
) -> dict[str, Any]:
    """Adds to one shard of a counter, if it exists."""
    least, most = room(Step(by))
    exists = "attribute_exists(#shards)"
    fits = "#value BETWEEN :least AND :most"
    return {
        "TableName": table,
        "Key": _key(tenant, name, shard(number)),
        "UpdateExpression": "ADD #value :by" + (" SET #last = :last" if nonce else ""),
        "ConditionExpression": f"{exists} AND {fits}",
        "ExpressionAttributeNames": {
            "#value": "value",
            "#shards": "shards",
            **({"#last": "last"} if nonce else {}),
        },
        "ExpressionAttributeValues": {
            ":by": {"N": str(by)},
            ":least": {"N": str(least)},
            ":most": {"N": str(most)},
            **({":last": {"S": nonce}} if nonce else {}),
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def remember(
    table: str, tenant: str, name: str, idempotency_key: str, step: Step, *, now_ms: int
) -> dict[str, Any]:
    """Puts the record of an idempotency key, unless there is one.

    It is part of an increment's transaction, so the key counts once.
    """
    is_free = "attribute_not_exists(pk)"
    has_expired = "#expires_at <= :now"
    return {
        "TableName": table,
        "Item": {
            "pk": {"S": key_partition(tenant, name, idempotency_key)},
            "sk": {"S": "key"},
            "fingerprint": {"S": fingerprint(step)},
            "expires_at": _expiry(KEY_RETENTION_SECONDS, now_ms),
        },
        "ConditionExpression": f"{is_free} OR {has_expired}",
        "ExpressionAttributeNames": {"#expires_at": "expires_at"},
        "ExpressionAttributeValues": {":now": {"N": str(now_ms // 1000)}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def create_shards(
    table: str, tenant: str, name: str, shards: int, *, now_ms: int
) -> list[dict[str, Any]]:
    """Puts all shards of a counter, if it does not exist."""
    is_free = "attribute_not_exists(pk)"
    has_expired = "#expires_at <= :now"
    return [
        {
            "TableName": table,
            "Item": {
                **_key(tenant, name, shard(number)),
                "value": {"N": "0"},
                "shards": {"N": str(shards)},
            },
            "ConditionExpression": f"{is_free} OR {has_expired}",
            "ExpressionAttributeNames": {"#expires_at": "expires_at"},
            "ExpressionAttributeValues": {":now": {"N": str(now_ms // 1000)}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        for number in range(shards)
    ]


def delete_expired(
    table: str, tenant: str, name: str, *, expired: dict[str, Any]
) -> dict[str, Any]:
    """Deletes an expired counter, if it has not changed."""
    return {
        "TableName": table,
        "Key": _key(tenant, name, SHARD),
        "ConditionExpression": "#expires_at = :seen AND #value = :seen_value",
        "ExpressionAttributeNames": {"#expires_at": "expires_at", "#value": "value"},
        "ExpressionAttributeValues": {
            ":seen": expired["expires_at"],
            ":seen_value": expired["value"],
        },
    }


def delete_single(table: str, tenant: str, name: str) -> dict[str, Any]:
    """Deletes a counter, unless it has shards."""
    return {
        "TableName": table,
        "Key": _key(tenant, name, SHARD),
        "ConditionExpression": "attribute_not_exists(#shards)",
        "ExpressionAttributeNames": {"#shards": "shards"},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def delete_shards(table: str, tenant: str, name: str, shards: int) -> list[dict[str, Any]]:
    """Deletes all shards of a counter, if it still has this number of shards."""
    return [
        {
            "TableName": table,
            "Key": _key(tenant, name, shard(number)),
            "ConditionExpression": "#shards = :shards",
            "ExpressionAttributeNames": {"#shards": "shards"},
            "ExpressionAttributeValues": {":shards": {"N": str(shards)}},
        }
        for number in range(shards)
    ]


def _expiry(seconds: int, now_ms: int) -> dict[str, str]:
    """Returns `expires_at`: whole seconds, rounded up."""
    return {"N": str(-(-now_ms // 1000) + seconds)}


def _key(tenant: str, name: str, sort: str) -> dict[str, Any]:
    return {"pk": {"S": partition(tenant, name)}, "sk": {"S": sort}}
