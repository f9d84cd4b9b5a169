"""When a schedule fires: EventBridge's `rate(...)`, `cron(...)` and `at(...)` expressions.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

__all__ = ["ScheduleTimes"]

_EXPRESSION: Final = re.compile(r"(rate|cron|at)\((.*)\)")
_RATE: Final = re.compile(r"([1-9]\d*) (minute|hour|day)(s?)")
_DAY_NUMBER: Final = re.compile(r"(?<![#\d])([1-7])")


@dataclass(frozen=True)
class ScheduleTimes:
    """The times of one expression. Exactly one of `every`, `cron` and `once` is set."""

    every: timedelta | None = None
    cron: str | None = None
    once: datetime | None = None
    zone: str = "UTC"

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
            cron = _cron(inner)
            CronSim(cron, datetime.now(UTC))
        except (ValueError, CronSimError) as problem:
            raise ValueError(f"the schedule {expression!r} is not usable: {problem}") from None
        return cls(cron=cron, zone=zone)

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
        for local in CronSim(self.cron, moment.astimezone(zone).replace(tzinfo=None)):
            due = local.replace(tzinfo=zone).astimezone(UTC)
            is_skipped = due.astimezone(zone).replace(tzinfo=None) != local
            if due > moment and not is_skipped:
                return due
        return None


def _rate(inner: str) -> timedelta:
    match = _RATE.fullmatch(inner)
    if match is None or (match[1] == "1") == bool(match[3]):
        raise ValueError("a rate is a number and minute(s), hour(s) or day(s), singular for 1")
    return timedelta(**{f"{match[2]}s": int(match[1])})


def _cron(inner: str) -> str:
    """Returns EventBridge's six fields as the usual five.

    The year is gone, Sunday is 0 instead of 1, and `?` becomes `*`.
    """
    fields = inner.split()
    if len(fields) != 6:
        raise ValueError(
            "a cron expression has six fields: minutes, hours, day of month, month, day of "
            "week, year"
        )
    minutes, hours, day, month, weekday, year = fields
    if year not in ("*", "?"):
        raise ValueError("a year is not supported locally")
    if "W" in day.upper():
        raise ValueError("W is not supported locally")
    if "?" not in (day, weekday):
        raise ValueError("either day of month or day of week must be ?")
    weekday = _DAY_NUMBER.sub(lambda number: str(int(number[1]) - 1), weekday)
    return " ".join([minutes, hours, day.replace("?", "*"), month, weekday.replace("?", "*")])
