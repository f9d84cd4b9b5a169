"""When a schedule ticks, and what is to be done about ticks that come or were missed.

No I/O, no clock.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from itertools import islice, takewhile
from typing import Any, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from mayfly.core.clock import rfc3339
from mayfly.core.errors import InvalidRequest, PayloadTooLarge
from mayfly.core.ids import derived_id
from mayfly.core.json_input import NAME, Fields, canonical_json
from mayfly.jobs.rules import MAX_MAX_ATTEMPTS, PAYLOAD_LIMIT
from mayfly.schedules.model import Definition, HandOut, Schedule

__all__ = [
    "AHEAD_MS",
    "LATE_MS",
    "first_tick",
    "hand_out",
    "handed_out_after",
    "job_id",
    "public",
    "read_definition",
    "ticks_after",
]

#: Jobs of ticks are made this long before their time, and wait on the queue: longer than the pause
#: between two sweeps.
AHEAD_MS: Final = 90_000
#: Ticks that are later than this were missed, and get one job together; up to it, each still gets
#: its own.
LATE_MS: Final = 300_000

_UTC: Final = "UTC"
_CRON: Final = re.compile(r"[0-9A-Za-z*,/# -]{1,120}")
_ZONE: Final = re.compile(r"[0-9A-Za-z_+/-]{1,64}")
_LONGEST_SECONDS: Final = 365 * 24 * 3600
#: Missed ticks are counted up to this.
_COUNTED: Final = 1000


def read_definition(body: Any) -> Definition:
    """A definition from an HTTP body.

    Raises InvalidRequest naming the field, or PayloadTooLarge.
    """
    fields = Fields(body)
    definition = Definition(
        task=fields.text("task", pattern=NAME),
        payload=fields.anything("payload", default=None),
        max_attempts=fields.integer("max_attempts", 1, MAX_MAX_ATTEMPTS, default=None),
        cron=fields.text("cron", pattern=_CRON, default=None),
        every_seconds=fields.integer("every_seconds", 1, _LONGEST_SECONDS, default=None),
        timezone=fields.text("timezone", pattern=_ZONE, default=None) or _UTC,
    )
    fields.finish()
    if (definition.cron is None) == (definition.every_seconds is None):
        raise InvalidRequest("cron", "give either cron or every_seconds")
    if definition.cron is None and "timezone" in body:
        raise InvalidRequest("timezone", "goes with cron; an interval knows no hours")
    size = len(canonical_json(definition.payload).encode())
    if size > PAYLOAD_LIMIT:
        raise PayloadTooLarge("payload", size, PAYLOAD_LIMIT)
    _check_times(definition)
    return definition


def ticks_after(definition: Definition, anchor_ms: int, after_ms: int) -> Iterator[int]:
    """The ticks after a moment, in order: of an interval those that are whole steps from the
    anchor, of a cron expression its times in its zone. Where clocks are set forward, a time that is
    skipped comes right after the gap; where they are set back, a time of the hour that comes twice
    ticks once, as in Debian's cron (cronsim)."""
    if definition.every_seconds is not None:
        step = definition.every_seconds * 1000
        at_ms = anchor_ms + max(1, (after_ms - anchor_ms) // step + 1) * step
        while True:
            yield at_ms
            at_ms += step
    assert definition.cron is not None
    moment = datetime.fromtimestamp(after_ms // 1000, UTC).astimezone(ZoneInfo(definition.timezone))
    for found in CronSim(definition.cron, moment):
        at_ms = int(found.timestamp() * 1000)
        if at_ms > after_ms:  # in an hour that comes twice, a time may belong to its first coming
            yield at_ms


def first_tick(definition: Definition, anchor_ms: int, after_ms: int) -> int:
    """The first tick after a moment."""
    return next(ticks_after(definition, anchor_ms, after_ms))


def hand_out(schedule: Schedule, now_ms: int, limit: int) -> HandOut | None:
    """What to make jobs of now: up to `limit` ticks that come within AHEAD_MS or have passed, None
    where there are none.

    ::

        late by up to LATE_MS    every tick gets its job         --+--+--+--now--+--+--
        later: an outage         the last one before now gets a job, which says how many were missed before it
    """
    first = schedule.next_ms
    if first is None or first > now_ms + AHEAD_MS:
        return None
    missed = 0
    if first < now_ms - LATE_MS:
        later = takewhile(
            lambda tick: tick <= now_ms, ticks_after(schedule.definition, schedule.anchor_ms, first)
        )
        passed = [first, *islice(later, _COUNTED)]
        missed = len(passed) - 1
        first = passed[-1] if missed < _COUNTED else _last_tick(schedule, now_ms, first)
        limit = 1
    following = ticks_after(schedule.definition, schedule.anchor_ms, first)
    ticks = [first]
    for tick in following:
        if tick > now_ms + AHEAD_MS or len(ticks) == limit:
            return HandOut(tuple(ticks), missed, tick)
        ticks.append(tick)
    raise AssertionError("ticks never end")


def handed_out_after(schedule: Schedule, now_ms: int) -> list[int]:
    """The ticks after `now_ms` that have jobs already."""
    ticks = ticks_after(schedule.definition, schedule.anchor_ms, now_ms)
    return list(takewhile(lambda tick: tick <= schedule.made_ms, ticks))


def job_id(schedule: Schedule, tick_ms: int) -> str:
    """The id of a tick's job: whoever makes it, and however often, it is one."""
    return derived_id("tick", schedule.tenant, schedule.name, schedule.edition, str(tick_ms))


def public(schedule: Schedule, now_ms: int) -> dict[str, Any]:
    """The schedule as the API shows it. `next_at` is null while it is paused."""
    definition = schedule.definition
    timing: dict[str, Any] = {"every_seconds": definition.every_seconds}
    if definition.cron is not None:
        timing = {"cron": definition.cron, "timezone": definition.timezone}
    is_running = schedule.next_ms is not None
    return {
        "name": schedule.name,
        **timing,
        "task": definition.task,
        "payload": definition.payload,
        "max_attempts": definition.max_attempts,
        "paused": schedule.is_paused,
        "next_at": rfc3339(first_tick(definition, schedule.anchor_ms, now_ms))
        if is_running
        else None,
    }


def _last_tick(schedule: Schedule, now_ms: int, first_ms: int) -> int:
    """The last tick up to `now_ms`, at least `first_ms`."""
    definition = schedule.definition
    if definition.every_seconds is not None:
        step = definition.every_seconds * 1000
        return schedule.anchor_ms + (now_ms - schedule.anchor_ms) // step * step
    assert definition.cron is not None
    moment = datetime.fromtimestamp(now_ms // 1000 + 1, UTC).astimezone(
        ZoneInfo(definition.timezone)
    )
    found = next(CronSim(definition.cron, moment, reverse=True), None)
    return first_ms if found is None else max(first_ms, int(found.timestamp() * 1000))


def _check_times(definition: Definition) -> None:
    if definition.timezone not in _zones():
        raise InvalidRequest(
            "timezone",
            f"{definition.timezone!r} is no time zone; take a name such as Europe/Berlin",
        )
    if definition.cron is None:
        return
    try:
        if len(definition.cron.split()) != 5 or not definition.cron.isascii():
            raise CronSimError(
                "it must have five fields: minute, hour, day of month, month, day of week"
            )
        next(CronSim(definition.cron, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, ValueError) as problem:
        raise InvalidRequest("cron", f"is no cron expression ({problem})") from None
    except StopIteration:
        raise InvalidRequest("cron", "never comes") from None


@cache
def _zones() -> frozenset[str]:
    """The zones of IANA's database, as every machine has them that runs this; the system's own may
    be others.
    """
    return frozenset((files("tzdata") / "zones").read_text(encoding="ascii").split())
