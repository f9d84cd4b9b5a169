"""When a schedule fires: EventBridge's `rate(...)`, `cron(...)` and `at(...)` expressions.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

__all__ = ["ScheduleTimes", "UnsupportedSchedule"]

_EXPRESSION: Final = re.compile(r"(rate|cron|at)\((.*)\)")
_RATE: Final = re.compile(r"([1-9]\d*) (minute|hour|day)(s?)")
#: https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html#cron-based
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2199
_DAY_NUMBER: Final = re.compile(r"(?<![#\d])([1-7])")


class UnsupportedSchedule(ValueError):
    """A valid expression whose times are not found here."""


@dataclass(frozen=True)
class ScheduleTimes:
    """The times of one expression. Exactly one of `every`, `cron` and `once` is set.

    `years` are the years of a cron expression, or None for all.
    """

    every: timedelta | None = None
    cron: str | None = None
    once: datetime | None = None
    zone: str = "UTC"
    years: frozenset[int] | None = None

    @classmethod
    def parse(cls, expression: str, zone: str = "UTC") -> "ScheduleTimes":
        """Parses an expression. Raises ValueError that names the expression and its error."""
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{zone!r} is not a time zone") from None
        match = _EXPRESSION.fullmatch(expression)
        if match is None:
            raise ValueError(f"the schedule {expression!r} is not rate(...), cron(...) or at(...)")
        kind, inner = match.groups()
        try:
            if kind == "rate":
                return cls(every=_rate(inner), zone=zone)
            if kind == "at":
                return cls(
                    once=datetime.fromisoformat(inner).replace(tzinfo=ZoneInfo(zone)), zone=zone
                )
            cron, years = _cron(inner)
            CronSim(cron, datetime.now(UTC))
        except UnsupportedSchedule as problem:
            raise UnsupportedSchedule(
                f"the schedule {expression!r} is not usable: {problem}"
            ) from None
        except (ValueError, CronSimError) as problem:
            raise ValueError(f"the schedule {expression!r} is not usable: {problem}") from None
        return cls(cron=cron, zone=zone, years=years)

    def after(self, moment: datetime) -> datetime | None:
        """Returns the first time after `moment` (aware), or None if there is none.

        A rate counts from `moment`. If clocks are set forward, a skipped time is left out. If they
        are set back, a repeated time comes once, before the change
        (https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html, "Daylight
        savings time on EventBridge Scheduler"). cronsim sees times without a zone only, since in a
        zone it may go back.
        """
        if self.every is not None:
            return moment + self.every
        if self.once is not None:
            return self.once if self.once > moment else None
        assert self.cron is not None
        zone = ZoneInfo(self.zone)
        start: datetime | None = moment.astimezone(zone).replace(tzinfo=None)
        if self.years is not None and start is not None:
            start = _in_years(start, self.years)
        if start is None:
            return None
        for local in CronSim(self.cron, start):
            if self.years is not None and local.year not in self.years:
                return self._in_a_later_year(local)
            due = local.replace(tzinfo=zone).astimezone(UTC)
            is_skipped = due.astimezone(zone).replace(tzinfo=None) != local
            if due > moment and not is_skipped:
                return due
        return None

    def _in_a_later_year(self, local: datetime) -> datetime | None:
        assert self.years is not None
        end = datetime(local.year, 1, 1)  # noqa: DTZ001 - local time
        later = _in_years(end, self.years)
        return None if later is None else self.after(later.replace(tzinfo=ZoneInfo(self.zone)))


def _in_years(moment: datetime, years: frozenset[int]) -> datetime | None:
    """Returns the moment, or the last one before the next year of `years`; None if none is left."""
    later = [year for year in years if year >= moment.year]
    if not later:
        return None
    if min(later) == moment.year:
        return moment
    return datetime(min(later), 1, 1) - timedelta(minutes=1)  # noqa: DTZ001 - local time


def _years(field: str) -> frozenset[int] | None:
    """Returns the years of a field, or None for every year. Raises ValueError."""
    if field in ("*", "?"):
        return None
    years: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        start = _FIRST_YEAR if first == "*" else int(first)
        end = int(last) if dash else _LAST_YEAR if step or first == "*" else start
        years |= {*range(start, end + 1, int(step or 1))}
    if not years or min(years) < _FIRST_YEAR or max(years) > _LAST_YEAR:
        raise ValueError(f"the year {field} is not from {_FIRST_YEAR} to {_LAST_YEAR}")
    return frozenset(years)


def _rate(inner: str) -> timedelta:
    match = _RATE.fullmatch(inner)
    if match is None or (match[1] == "1") == bool(match[3]):
        raise ValueError("a rate is a number and minute(s), hour(s) or day(s), singular for 1")
    return timedelta(**{f"{match[2]}s": int(match[1])})


def _cron(inner: str) -> tuple[str, frozenset[int] | None]:
    """Returns EventBridge's six fields as the usual five, and the years.

    Sunday is 0 instead of 1, and `?` becomes `*`.
    """
    # AWS reads a field as a list of values, in which an empty value at the end counts for nothing.
    fields = [field.rstrip(",") for field in inner.split()]
    if len(fields) != 6:
        raise ValueError(
            "a cron expression has six fields: minutes, hours, day of month, month, day of "
            "week, year"
        )
    minutes, hours, day, month, weekday, year = fields
    if "W" in day.upper():
        raise UnsupportedSchedule("W is not supported locally")
    if "?" not in (day, weekday):
        raise ValueError("either day of month or day of week must be ?")
    weekday = _DAY_NUMBER.sub(lambda number: str(int(number[1]) - 1), weekday)
    fields = [minutes, hours, day.replace("?", "*"), month, weekday.replace("?", "*")]
    return " ".join(fields), _years(year)
