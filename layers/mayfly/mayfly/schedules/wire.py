"""Schedules on the wire: HTTP bodies in, JSON of the API out."""

import re
from functools import cache
from importlib.resources import files
from typing import Any, Final

from mayfly.core.clock import rfc3339
from mayfly.core.errors import InvalidRequest, PayloadTooLarge
from mayfly.core.json_input import NAME, Fields, canonical_json
from mayfly.jobs.rules import MAX_MAX_ATTEMPTS, PAYLOAD_LIMIT, describe
from mayfly.schedules.dialect import LONGEST_SECONDS, check_cron
from mayfly.schedules.model import Definition, Schedule
from mayfly.schedules.rules import UNUSABLE, first_tick

__all__ = ["public", "read_definition"]

_ZONE: Final = re.compile(r"[0-9A-Za-z_+/-]{1,64}")
_UTC: Final = "UTC"


def read_definition(body: Any) -> Definition:
    """Returns the definition in an HTTP body.

    Raises InvalidRequest with the field, or PayloadTooLarge.
    """
    fields = Fields(body)
    definition = Definition(
        task=fields.text("task", pattern=NAME),
        payload=fields.anything("payload", default=None),
        max_attempts=fields.integer("max_attempts", 1, MAX_MAX_ATTEMPTS, default=None),
        cron=fields.text("cron", default=None),
        every_seconds=fields.integer("every_seconds", 1, LONGEST_SECONDS, default=None),
        timezone=fields.text("timezone", pattern=_ZONE, default=None) or _UTC,
    )
    fields.finish()
    if (definition.cron is None) == (definition.every_seconds is None):
        raise InvalidRequest("cron", "give either cron or every_seconds")
    if definition.cron is None and "timezone" in body:
        raise InvalidRequest("timezone", "is only for cron; an interval has no hours")
    size = len(canonical_json(definition.payload).encode())
    if size > PAYLOAD_LIMIT:
        raise PayloadTooLarge("payload", size, PAYLOAD_LIMIT)
    _check_times(definition)
    return definition


def public(schedule: Schedule, now_ms: int) -> dict[str, Any]:
    """Returns the schedule as the API shows it. `next_at` is null while it is paused.

    A schedule whose record cannot be read, or whose ticks cannot be found, has the member `error`
    with the reason, and its `next_at` is null.
    """
    definition = schedule.definition
    timing: dict[str, Any] = {"every_seconds": definition.every_seconds}
    if definition.cron is not None:
        timing = {"cron": definition.cron, "timezone": definition.timezone}
    next_ms, error = None, schedule.error
    if error is None:
        try:
            next_ms = first_tick(definition, schedule.anchor_ms, now_ms)
        except UNUSABLE as problem:
            error = f"the times of this schedule cannot be found: {describe(problem)}"
    if schedule.next_ms is None:
        next_ms = None
    return {
        "name": schedule.name,
        **timing,
        "task": definition.task,
        "payload": definition.payload,
        "max_attempts": definition.max_attempts,
        "paused": schedule.is_paused,
        "next_at": None if next_ms is None else rfc3339(next_ms),
        **({} if error is None else {"error": error}),
    }


def _check_times(definition: Definition) -> None:
    if definition.timezone not in _zones():
        raise InvalidRequest(
            "timezone",
            f"{definition.timezone!r} is not a time zone; use a name such as Europe/Berlin",
        )
    if definition.cron is not None:
        check_cron(definition.cron)


@cache
def _zones() -> frozenset[str]:
    """Returns the zones of IANA's database, as installed with Mayfly.

    They are the same on every machine; those of the system may differ.
    """
    return frozenset((files("tzdata") / "zones").read_text(encoding="ascii").split())
