"""The times of a cron expression by a walk over real minutes: slow, and plain enough to check.

It shares no code with the library or with cronsim.
"""

import calendar
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

__all__ = ["changes", "local_minutes", "walk"]

_MINUTE = 60
_HOUR = 3600
_MIDNIGHT = datetime(1970, 1, 1)  # noqa: DTZ001  # a time on a clock has no zone


def changes(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[int]:
    """Yields the hours in which clocks change, in seconds since the epoch."""
    seconds = range(int(start.timestamp()), int(end.timestamp()), _HOUR)
    seen = datetime.fromtimestamp(seconds[0], zone).utcoffset()
    for second in seconds[1:]:
        offset = datetime.fromtimestamp(second, zone).utcoffset()
        if offset != seen:
            yield second - _HOUR
            seen = offset


def local_minutes(zone: ZoneInfo, start: int, end: int) -> list[tuple[int, int]]:
    """Returns each real minute with what clocks show in it, both as minutes since 1970."""
    shown = []
    for second in range(start, end, _MINUTE):
        clock = datetime.fromtimestamp(second, UTC).astimezone(zone).replace(tzinfo=None)
        shown.append((second // _MINUTE, (clock - _MIDNIGHT) // timedelta(minutes=1)))
    return shown


def walk(expression: str, minutes: Sequence[tuple[int, int]], after: int) -> list[int]:
    """Returns the real minutes after `after` at which the expression ticks.

    An expression whose minute or hour begins with a star ticks in each minute that matches. Any
    other ticks once for each matching time that clocks have reached or passed for the first time.
    """
    matches = _matches(expression)
    is_fixed = not any(field.startswith("*") for field in expression.split()[:2])
    if not is_fixed:
        return [minute for minute, shown in minutes if minute > after and matches(shown)]
    ticks, latest = [], minutes[0][1]
    for minute, shown in minutes[1:]:
        if any(matches(reached) for reached in range(latest + 1, shown + 1)) and minute > after:
            ticks.append(minute)
        latest = max(latest, shown)
    return ticks


@cache
def _matches(expression: str) -> Callable[[int], bool]:
    """Returns the test of a local minute."""
    minute, hour, day, month, weekday = expression.split()
    times = frozenset(
        60 * one + other for one in _values(hour, range(24)) for other in _values(minute, range(60))
    )

    @cache
    def is_day(number: int) -> bool:
        today = date(1970, 1, 1) + timedelta(days=number)
        last = calendar.monthrange(today.year, today.month)[1]
        days = [last if one == "L" else int(one) for one in _texts(day, range(1, 32))]
        weekdays = {one % 7 for one in _values(weekday, range(8))}
        is_date, is_weekday = today.day in days, today.isoweekday() % 7 in weekdays
        if not day.startswith("*") and not weekday.startswith("*"):
            fits = is_date or is_weekday
        else:
            fits = is_date and is_weekday
        return fits and today.month in _values(month, range(1, 13))

    return lambda shown: shown % 1440 in times and is_day(shown // 1440)


def _values(field: str, values: range) -> set[int]:
    return {int(one) for one in _texts(field, values)}


def _texts(field: str, values: range) -> Iterator[str]:
    """Yields the values of a field: numbers, ranges, steps, lists, and L."""
    for term in field.split(","):
        base, _, step = term.partition("/")
        if base == "L":
            yield base
            continue
        first, _, last = base.partition("-")
        chosen = values if base == "*" else range(int(first), int(last or first) + 1)
        yield from (str(one) for one in chosen[:: int(step or 1)])
