"""The times of a cron expression in a time zone.

cronsim reads the expression and finds the local times that match it, without a zone. This module
finds the moments at which clocks show them.

::

    forward   local  01:58 01:59|03:00 03:01      02:30 is skipped: it ticks at 03:00
    back      local  02:58 02:59|02:00 02:01      02:30 is repeated: it ticks before the change

The rule is that of Debian's cron (https://manpages.debian.org/cron, "Notes"). An expression for
fixed times of the day, one whose minute and hour do not begin with a star, ticks once for each of
them. Any other counts real minutes: it ticks at each minute whose local time matches.

No I/O, no clock.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim

__all__ = ["times_after"]

#: Local times are seconds since this moment, on the clocks of the zone.
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  # clocks show no zone
_SECOND: Final = timedelta(seconds=1)
#: Seconds of a day. Python's offsets from UTC are shorter (`datetime.tzinfo.utcoffset`).
_DAY: Final = 24 * 3600


def times_after(expression: str, timezone: str, after_s: int) -> Iterator[int]:
    """Yields the times of a cron expression after a moment, in seconds since the epoch.

    `timezone` is a name of the IANA database. The times end only if no local time matches for 50
    years (cronsim).

    They grow, and each step ends, whatever clocks do. The moments from `after_s` on are cut into
    periods in which the offset from UTC is constant. Periods follow each other without overlap, and
    a time is yielded only in its period and if it is later than the last one. So times grow even if
    local times go back. A period is at most a day long, and local times within it grow by a second
    at least (`_matches` checks this), so a period ends. Moments between two periods are left out
    only if no local time of theirs matches.

    Raises KeyError (ZoneInfoNotFoundError) or ValueError if the zone is unknown, ValueError if
    cronsim goes back.
    """
    zone = ZoneInfo(timezone)
    is_fixed = not any(field.startswith("*") for field in expression.split()[:2])
    # The latest local time that clocks have shown. Offsets are shorter than a day, so clocks of
    # more than two days ago showed an earlier time than clocks do now.
    shown = max(
        end + offset - 1 for _, end, offset in _periods(zone, after_s - 2 * _DAY, after_s + 1)
    )
    last, position = after_s, after_s + 1
    while True:
        end_of_day = position + _DAY
        for start, end, offset in _periods(zone, position, end_of_day):
            for local in _matches(expression, shown if is_fixed else start + offset - 1):
                if local >= end + offset:
                    break
                at = max(local - offset, start)  # a skipped time ticks at the change
                if at > last:  # several skipped times are one tick
                    last = at
                    yield at
            shown = max(shown, end + offset - 1)
        # All later clocks show more than `end_of_day - _DAY`, and clocks until `following - _DAY`
        # show less than `following`: none of them shows a time that matches.
        following = next(_matches(expression, end_of_day - _DAY), None)
        if following is None:
            return
        position = max(end_of_day, following - _DAY)


def _matches(expression: str, after: int) -> Iterator[int]:
    """Yields the local times after a local time that match, in order."""
    for moment in CronSim(expression, _EPOCH + after * _SECOND):
        local = (moment - _EPOCH) // _SECOND
        if local <= after:
            raise ValueError(f"times of the cron expression {expression!r} go back")
        after = local
        yield local


def _periods(zone: ZoneInfo, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields periods of a constant offset, in order: start, end (exclusive), offset, in seconds.

    Together they are the time from `start` to `end`, a day or two. No zone changes its clocks there
    and back within that time.
    """
    while start < end:
        offset, change = _offset(zone, start), end
        if _offset(zone, end - 1) != offset:
            change = _change(zone, start, end - 1)
        yield start, change, offset
        start = change


def _change(zone: ZoneInfo, before: int, after: int) -> int:
    """Returns the first moment with another offset than `before`, by bisection up to `after`."""
    offset = _offset(zone, before)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(zone, middle) == offset:
            before = middle
        else:
            after = middle
    return after


def _offset(zone: ZoneInfo, moment: int) -> int:
    """Returns local time minus UTC at a moment, in seconds."""
    offset = datetime.fromtimestamp(moment, zone).utcoffset()
    assert offset is not None
    return offset // _SECOND
