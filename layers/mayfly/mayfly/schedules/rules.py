"""The ticks of a schedule, and the ticks that get a job now.

No I/O, no clock.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Final

from mayfly.core.ids import derived_id
from mayfly.schedules.cron import times_after
from mayfly.schedules.model import Definition, HandOut, Schedule

__all__ = [
    "AHEAD_MS",
    "LATE_MS",
    "UNUSABLE",
    "first_tick",
    "hand_out",
    "handed_out_after",
    "job_id",
    "ticks_after",
]

#: Jobs of ticks are made this long before their time, and wait on the queue. It is longer than the
#: pause between two sweeps.
AHEAD_MS: Final = 90_000
#: Ticks that are late by more than this were missed, and get one job together. Until then, each
#: gets its own.
LATE_MS: Final = 300_000

#: Errors of a schedule whose ticks cannot be found. For example, its time zone no longer exists, or
#: is now a folder of zones.
UNUSABLE: Final = (
    ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError,
)  # fmt: skip

#: A cron expression ticks at whole minutes.
_MINUTE_MS: Final = 60_000
#: Ticks of a cron expression have jobs for at most this time ahead: the clocks were set back since.
_SET_BACK_MS: Final = 2 * 3600 * 1000
#: The most missed ticks that are counted.
_COUNTED: Final = 1000
_DAY_MS: Final = 24 * 3600 * 1000


def ticks_after(definition: Definition, anchor_ms: int, after_ms: int) -> Iterator[int]:
    """Yields the ticks after a moment, each later than the one before.

    Ticks of an interval are whole steps from the anchor. Ticks of a cron expression are its times
    in its zone (`mayfly.schedules.cron`); they end if it matches no time for 50 years. Raises an
    error of UNUSABLE.
    """
    if definition.every_seconds is not None:
        if definition.every_seconds < 1:
            raise ValueError(f"an interval of {definition.every_seconds} s does not grow")
        step = definition.every_seconds * 1000
        at_ms = anchor_ms + max(1, (after_ms - anchor_ms) // step + 1) * step
        while True:
            yield at_ms
            at_ms += step
    if definition.cron is None:
        raise ValueError("it has neither a cron expression nor an interval")
    for at_s in times_after(definition.cron, definition.timezone, after_ms // 1000):
        yield at_s * 1000


def first_tick(definition: Definition, anchor_ms: int, after_ms: int) -> int:
    """Returns the first tick after a moment.

    Raises ValueError if there is none, and other errors of UNUSABLE.
    """
    tick = next(ticks_after(definition, anchor_ms, after_ms), None)
    if tick is None:
        raise _never(definition)
    return tick


def hand_out(schedule: Schedule, now_ms: int, limit: int) -> HandOut | None:
    """Returns the ticks to make jobs of now, None if there are none.

    These are up to `limit` ticks that come within AHEAD_MS or have passed.

    ::

        late by up to LATE_MS    every tick gets its job      --+--+--+--now--+--+--
        later: an outage         the last tick before now gets a job, with the number of missed ones

    `next_ms` is later than all of them. Raises ValueError if no tick follows.
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
    raise _never(schedule.definition)


def handed_out_after(schedule: Schedule, now_ms: int) -> list[int]:
    """Returns the ticks after `now_ms` that have jobs already.

    If the ticks cannot be found, these are all minutes in which a cron expression may have ticked.
    Jobs are made for AHEAD_MS; twice that allows for clocks that differ.
    """
    try:
        ticks = ticks_after(schedule.definition, schedule.anchor_ms, now_ms)
        # A damaged record may name any time.
        ahead_ms = 2 * AHEAD_MS if schedule.definition.cron is None else _SET_BACK_MS
        last_ms = min(schedule.made_ms, now_ms + ahead_ms)
        return list(takewhile(lambda tick: tick <= last_ms, ticks))
    except UNUSABLE:
        last_ms = min(schedule.made_ms, now_ms + 2 * AHEAD_MS)
        return list(range((now_ms // _MINUTE_MS + 1) * _MINUTE_MS, last_ms + 1, _MINUTE_MS))


def job_id(schedule: Schedule, tick_ms: int) -> str:
    """Returns the id of a tick's job; it is the same however often the job is made."""
    return derived_id("tick", schedule.tenant, schedule.name, schedule.edition, str(tick_ms))


def _never(definition: Definition) -> ValueError:
    return ValueError(f"the cron expression {definition.cron!r} matches no time in 50 years")


def _last_tick(schedule: Schedule, now_ms: int, first_ms: int) -> int:
    """Returns the last tick up to `now_ms`, at least `first_ms`."""
    definition = schedule.definition
    if definition.every_seconds is not None:
        step = definition.every_seconds * 1000
        return schedule.anchor_ms + (now_ms - schedule.anchor_ms) // step * step
    span = _DAY_MS
    while True:
        after_ms = max(first_ms, now_ms - span)
        ticks = takewhile(
            lambda tick: tick <= now_ms, ticks_after(definition, schedule.anchor_ms, after_ms)
        )
        if last := deque(ticks, maxlen=1):
            return last[0]
        if after_ms == first_ms:
            return first_ms
        span *= 4
