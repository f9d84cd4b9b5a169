"""The conditional write for every change of a schedule.

::

    create --> runs -- advance: jobs of some ticks and the next tick, in one transaction --+
                ^ |  ^-----------------------------------------------------------------------+
            set | | hold: no tick gets a job any more;
                | v       then jobs of future ticks that have not begun are cancelled
               held ---- delete: gone

Each write has the version that was read as its condition, so that only one of two concurrent writes
succeeds. Functions here return requests and send nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mayfly.schedules.items import schedule_item, schedule_key
from mayfly.schedules.model import Schedule

__all__ = ["advance", "create", "delete", "set_"]


def create(table: str, schedule: Schedule, *, due_shards: int) -> dict[str, Any]:
    """Returns the put of a new schedule."""
    is_free = "attribute_not_exists(pk)"
    item = schedule_item(schedule, due_shards=due_shards)
    return {"TableName": table, "Item": item, "ConditionExpression": is_free}


def set_(table: str, seen: Schedule, target: Schedule, *, due_shards: int) -> dict[str, Any]:
    """Returns the put that replaces a schedule by `target`, in the version that was `seen`.

    It holds the schedule, changes it, or starts it.
    """
    return {
        "TableName": table,
        "Item": schedule_item(replace(target, version=seen.version + 1), due_shards=due_shards),
        **_is_as_seen(seen),
    }


def advance(
    table: str, seen: Schedule, *, made_ms: int, next_ms: int, puts: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the transaction that makes jobs of ticks and stores the next tick.

    The schedule's own write comes first.
    """
    condition = _is_as_seen(seen)
    update = {
        "TableName": table,
        "Key": schedule_key(seen.tenant, seen.name),
        "UpdateExpression": "SET #attention_at = :next, #made = :made, #version = :version",
        "ConditionExpression": condition["ConditionExpression"],
        "ExpressionAttributeNames": {
            **condition["ExpressionAttributeNames"],
            "#attention_at": "attention_at",
            "#made": "made",
        },
        "ExpressionAttributeValues": {
            **condition["ExpressionAttributeValues"],
            ":next": {"N": str(next_ms)},
            ":made": {"N": str(made_ms)},
            ":version": {"N": str(seen.version + 1)},
        },
    }
    return [{"Update": update}, *({"Put": dict(put)} for put in puts)]


def delete(table: str, seen: Schedule) -> dict[str, Any]:
    """Returns the delete of a schedule, in the version that was `seen`."""
    return {"TableName": table, "Key": schedule_key(seen.tenant, seen.name), **_is_as_seen(seen)}


def _is_as_seen(seen: Schedule) -> dict[str, Any]:
    if seen.error is not None:
        return _is_stored(seen.stored)
    is_as_seen = "#version = :seen AND #edition = :edition"
    return {
        "ConditionExpression": is_as_seen,
        "ExpressionAttributeNames": {"#version": "version", "#edition": "edition"},
        "ExpressionAttributeValues": {
            ":seen": {"N": str(seen.version)},
            ":edition": {"S": seen.edition},
        },
    }


def _is_stored(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the condition that a record that cannot be read has these attributes still.

    Those of version and edition that it does not have are absent still.
    """
    names = {"#edition": "edition", "#version": "version"}
    values = {f":{name}": value for name, value in stored.items()}
    is_stored = [
        f"{place} = :{name}" if name in stored else f"attribute_not_exists({place})"
        for place, name in names.items()
    ]
    condition: dict[str, Any] = {
        "ConditionExpression": " AND ".join(["attribute_exists(pk)", *is_stored]),
        "ExpressionAttributeNames": names,
    }
    return {**condition, "ExpressionAttributeValues": values} if values else condition
