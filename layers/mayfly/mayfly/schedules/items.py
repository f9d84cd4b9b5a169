"""Schedules as DynamoDB items, in the jobs table."""

import json
from collections.abc import Mapping
from typing import Any, Final

from mayfly.aws.errors import NewerFormat
from mayfly.aws.items import UNREADABLE, check_format, optional_number, optional_text, stamp
from mayfly.core.ids import key
from mayfly.core.json_input import canonical_json
from mayfly.jobs.rules import describe
from mayfly.jobs.shards import partition as due_partition
from mayfly.schedules.model import Definition, Schedule

__all__ = [
    "DUE",
    "partition",
    "read_any",
    "read_listed",
    "read_schedule",
    "schedule_item",
    "schedule_key",
    "tenant_and_name",
]

#: Active schedules, by their next tick, as a kind of the jobs table's index `due`.
DUE: Final = "schedules"


def partition(tenant: str) -> str:
    """Returns the partition with a tenant's schedules."""
    return key(tenant, "schedules")


def schedule_key(tenant: str, name: str) -> dict[str, Any]:
    """Returns the primary key of a schedule."""
    return {"pk": {"S": partition(tenant)}, "sk": {"S": key("schedule", name)}}


def tenant_and_name(item: Mapping[str, Any]) -> tuple[str, str]:
    """Returns tenant and name of a schedule, by its key. Neither of them has a slash."""
    return item["pk"]["S"].partition("/")[0], item["sk"]["S"].partition("/")[2]


def read_schedule(item: Mapping[str, Any]) -> Schedule:
    """Returns the schedule in an item. Raises NewerFormat, or an error of UNREADABLE."""
    check_format("schedule", item)
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


def read_any(item: Mapping[str, Any]) -> Schedule:
    """Returns the schedule in an item; one with an `error` if it cannot be read.

    Raises NewerFormat: this release must neither replace nor delete what a later one has written.
    """
    try:
        return read_schedule(item)
    except NewerFormat:
        raise
    except UNREADABLE as problem:
        return _unreadable(item, problem)


def read_listed(item: Mapping[str, Any]) -> Schedule:
    """Returns the schedule in an item of a list; one with an `error` if it cannot be read.

    So it does not hide the others. That of a later release is shown with that reason.
    """
    try:
        return read_any(item)
    except NewerFormat as problem:
        return _unreadable(item, problem)


def _unreadable(item: Mapping[str, Any], problem: Exception) -> Schedule:
    """Returns what is certain of a schedule whose record cannot be read."""
    tenant, name = tenant_and_name(item)
    return Schedule(
        tenant,
        name,
        Definition("", None, None, None, None, ""),
        edition=_text(item, "edition"),
        anchor_ms=0,
        next_ms=None,
        made_ms=_whole(item, "made"),
        version=_whole(item, "version"),
        is_paused=item.get("paused") == {"BOOL": True},
        error=f"the record of this schedule cannot be read: {describe(problem)}",
        stored={name: item[name] for name in ("edition", "version") if name in item},
    )


def _text(item: Mapping[str, Any], name: str) -> str:
    value: str = item.get(name, {}).get("S", "")
    return value


def _whole(item: Mapping[str, Any], name: str) -> int:
    text: str = item.get(name, {}).get("N", "0")
    return int(text) if text.isdecimal() else 0


def schedule_item(schedule: Schedule, *, due_shards: int = 1) -> dict[str, Any]:
    """Returns the item of a schedule.

    `due_shards` is the number of shards of the `due` index over which schedules are spread.
    """
    definition = schedule.definition
    item: dict[str, Any] = {
        **schedule_key(schedule.tenant, schedule.name),
        **stamp("schedule"),
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
        item |= {
            "due": {
                "S": due_partition(DUE, schedule_key(schedule.tenant, schedule.name), due_shards)
            },
            "attention_at": {"N": str(schedule.next_ms)},
        }
    return item
