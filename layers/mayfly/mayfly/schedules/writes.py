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

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from mayfly.aws.items import optional_number, optional_text
from mayfly.core.ids import key
from mayfly.core.json_input import canonical_json
from mayfly.schedules.model import Definition, Schedule

__all__ = ["DUE", "advance", "create", "delete", "partition", "read_item", "schedule_key", "set_"]

#: The partition of the jobs table's `due` index with the active schedules, by their next tick.
DUE: Final = "schedules"


def partition(tenant: str) -> str:
    """Returns the partition with a tenant's schedules."""
    return key(tenant, "schedules")


def schedule_key(tenant: str, name: str) -> dict[str, Any]:
    """Returns the primary key of a schedule."""
    return {"pk": {"S": partition(tenant)}, "sk": {"S": key("schedule", name)}}


def create(table: str, schedule: Schedule) -> dict[str, Any]:
    """Returns the put of a new schedule."""
    is_free = "attribute_not_exists(pk)"
    return {"TableName": table, "Item": _item(schedule), "ConditionExpression": is_free}


def set_(table: str, seen: Schedule, target: Schedule) -> dict[str, Any]:
    """Returns the put that replaces a schedule by `target`, in the version that was `seen`.

    It holds the schedule, changes it, or starts it.
    """
    return {
        "TableName": table,
        "Item": _item(replace(target, version=seen.version + 1)),
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


def read_item(item: Mapping[str, Any]) -> Schedule:
    """Returns the schedule in an item."""
    return Schedule(
        tenant=item["tenant"]["S"],
        name=item["name"]["S"],
        definition=Definition(
            task=item["task"]["S"],
            payload=json.loads(item["payload"]["S"]),
            max_attempts=optional_number(item, "max_attempts"),
            cron=optional_text(item, "cron"),
            every_seconds=optional_number(item, "every_seconds"),
            timezone=item["timezone"]["S"],
        ),
        edition=item["edition"]["S"],
        anchor_ms=int(item["anchor"]["N"]),
        next_ms=optional_number(item, "attention_at"),
        made_ms=int(item["made"]["N"]),
        version=int(item["version"]["N"]),
        is_paused=item["paused"]["BOOL"],
    )


def _item(schedule: Schedule) -> dict[str, Any]:
    definition = schedule.definition
    item: dict[str, Any] = {
        **schedule_key(schedule.tenant, schedule.name),
        "tenant": {"S": schedule.tenant},
        "name": {"S": schedule.name},
        "task": {"S": definition.task},
        "payload": {"S": canonical_json(definition.payload)},
        "timezone": {"S": definition.timezone},
        "edition": {"S": schedule.edition},
        "anchor": {"N": str(schedule.anchor_ms)},
        "made": {"N": str(schedule.made_ms)},
        "version": {"N": str(schedule.version)},
        "paused": {"BOOL": schedule.is_paused},
    }
    numbers = {"max_attempts": definition.max_attempts, "every_seconds": definition.every_seconds}
    item |= {name: {"N": str(value)} for name, value in numbers.items() if value is not None}
    if definition.cron is not None:
        item["cron"] = {"S": definition.cron}
    if schedule.next_ms is not None:
        item |= {"due": {"S": DUE}, "attention_at": {"N": str(schedule.next_ms)}}
    return item


def _is_as_seen(seen: Schedule) -> dict[str, Any]:
    is_as_seen = "#version = :seen AND #edition = :edition"
    return {
        "ConditionExpression": is_as_seen,
        "ExpressionAttributeNames": {"#version": "version", "#edition": "edition"},
        "ExpressionAttributeValues": {
            ":seen": {"N": str(seen.version)},
            ":edition": {"S": seen.edition},
        },
    }
