"""The dialect of cron expressions: what is refused, and what to write instead.

It is that of crontab(5) of Debian's cron, with `L`, `LW`, `5L`, `1#2` and `5/15` of cronsim. Other
programs have shorthands that mean nothing here, and forms that would mean something else.

No I/O, no clock.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim, CronSimError

from mayfly.core.errors import InvalidRequest

__all__ = ["LONGEST_SECONDS", "check_cron"]

_LONGEST: Final = 120
#: The longest interval between ticks: a year.
LONGEST_SECONDS: Final = 365 * 24 * 3600
_OTHER_CHARACTER: Final = re.compile(r"[^0-9A-Za-z*,/# -]")
_CALL: Final = re.compile(r"\s*(cron|rate|at)\s*\((.*)\)?\s*", re.IGNORECASE | re.DOTALL)
_SHORTHANDS: Final = {
    "@annually": "0 0 1 1 *",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@midnight": "0 0 * * *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@yearly": "0 0 1 1 *",
}
_MONTHS: Final = (
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
)  # fmt: skip
_WEEKDAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_TERM: Final = re.compile(r"(?P<first>\*|\w+)(-(?P<last>\w+))?(/(?P<step>\d{1,9}))?", re.ASCII)
#: The most values that an error lists; longer ranges are written as two.
_LISTED: Final = 12


@dataclass(frozen=True)
class _Field:
    """A field: the values that it may have, their names, its other forms, and a value's seconds.

    `count` is the number of its values: both 0 and 7 are Sunday.
    """

    name: str
    low: int
    high: int
    count: int
    names: tuple[str, ...] = ()
    other_forms: re.Pattern[str] | None = None
    described: str = ""
    unit: tuple[str, int] | None = None

    def value(self, text: str) -> int:
        """Returns the value of a number or a name. Raises InvalidRequest."""
        if text in self.names:
            return self.low + self.names.index(text)
        value = int(text) if text.isdigit() and len(text) < 10 else None
        if value is None or not self.low <= value <= self.high:
            raise InvalidRequest("cron", f"{text[:20]!r} in the {self.name} is not {self.allowed}")
        return value

    @property
    def allowed(self) -> str:
        """Returns the description of its values."""
        names = f", {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"{self.low} to {self.high}{names}{self.described}"


_FIELDS: Final = (
    _Field("minute", 0, 59, 60, unit=("minutes", 60)),
    _Field("hour", 0, 23, 24, unit=("hours", 3600)),
    _Field(
        "day of month",
        1,
        31,
        31,
        other_forms=re.compile("LW?"),
        described=", L (the last day) or LW (the last weekday)",
        unit=("days", 24 * 3600),
    ),
    _Field("month", 1, 12, 12, _MONTHS),
    _Field(
        "day of week",
        0,
        7,
        7,
        _WEEKDAYS,
        other_forms=re.compile(r"[0-7]L|([0-7]|[A-Z]{3})#[1-5]"),
        described=", 5L (the last Friday) or 1#2 (the second Monday)",
    ),
)


def check_cron(expression: str) -> None:
    """Raises InvalidRequest if an expression is not of the dialect, or never matches a time."""
    _check_form(expression)
    for field, text in zip(_FIELDS, expression.upper().split(), strict=True):
        for term in text.split(","):
            _check_term(field, term)
    try:
        next(CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, ValueError) as problem:
        raise InvalidRequest("cron", f"is not a cron expression ({problem})") from None
    except StopIteration:
        raise InvalidRequest("cron", "never matches a time") from None


def _check_form(expression: str) -> None:
    """Checks everything but the terms of the fields."""
    if len(expression) > _LONGEST:
        raise InvalidRequest("cron", f"must have up to {_LONGEST} characters")
    if expression.strip().startswith("@"):
        raise _shorthand(expression.strip())
    if call := _CALL.fullmatch(expression):
        raise _call(call[1].lower(), call[2].removesuffix(")"))
    if "?" in expression:
        raise InvalidRequest("cron", f"? is not supported; write {_plain(expression)!r}")
    if other := _OTHER_CHARACTER.search(expression):
        raise InvalidRequest(
            "cron",
            f"must not have {other[0]!r}; its characters are digits, letters, spaces and * , - / #",
        )
    if (count := len(expression.split())) != len(_FIELDS):
        raise InvalidRequest(
            "cron",
            f"must have five fields, not {count}: minute, hour, day of month, month, day of week; "
            "seconds and years are not supported",
        )


def _check_term(field: _Field, term: str) -> None:
    if field.other_forms and field.other_forms.fullmatch(term.partition("/")[0]):
        return
    parts = _TERM.fullmatch(term)
    if parts is None or (parts["first"] == "*" and parts["last"]):
        raise InvalidRequest(
            "cron",
            f"{term[:20]!r} in the {field.name} is not a value, a range such as 1-5, or a step "
            f"such as */2; values are {field.allowed}",
        )
    count = field.count
    if parts["first"] != "*":
        first = field.value(parts["first"])
        last = first if parts["last"] is None else field.value(parts["last"])
        if last < first:
            raise _wrapping(field, parts["first"], parts["last"], parts["step"])
        if parts["last"] is not None:
            count = last - first + 1
    if parts["step"] is not None and not 1 <= int(parts["step"]) <= count:
        raise _step(field, term, int(parts["step"]), count)


def _shorthand(text: str) -> InvalidRequest:
    name = text.lower()
    if name in _SHORTHANDS:
        return InvalidRequest("cron", f"{name} is not supported; write {_SHORTHANDS[name]!r}")
    if name.startswith("@every"):
        return InvalidRequest("cron", '@every is not supported; give "every_seconds" instead')
    return InvalidRequest(
        "cron", "shorthands that begin with @ are not supported; write five fields: '0 0 * * *'"
    )


def _call(kind: str, inner: str) -> InvalidRequest:
    """Returns the refusal of EventBridge's `cron(...)`, `rate(...)` and `at(...)`.

    EventBridge counts days of the week from 1 (Sunday), so numbers of days are not repeated.
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
    """
    if kind == "rate":
        return InvalidRequest("cron", 'rate(...) is not supported; give "every_seconds" instead')
    if kind == "at":
        return InvalidRequest("cron", 'at(...) is not supported; submit a job with "run_at"')
    fields = _plain(inner).split()[: len(_FIELDS)]
    is_plain = len(fields) == len(_FIELDS) and not re.search(r"\d", fields[-1])
    return InvalidRequest(
        "cron",
        "cron(...) is EventBridge's form; write its first five fields"
        + (f": {' '.join(fields)!r}" if is_plain else ", days of the week by name, * instead of ?"),
    )


def _plain(expression: str) -> str:
    return expression.replace("?", "*")


def _wrapping(field: _Field, first: str, last: str, step: str | None) -> InvalidRequest:
    """Returns the refusal of a range that wraps around the end of its field: `FRI-MON`, `22-2`."""
    low, high = field.value(first), field.value(last)
    span = (high - low) % field.count
    numbers = [
        field.low + (low - field.low + distance) % field.count
        for distance in range(0, span + 1, max(1, int(step or 1)))
    ]
    has_names = {first, last} & set(field.names)
    texts = [field.names[number - field.low] if has_names else str(number) for number in numbers]
    if len(texts) <= _LISTED or step is not None:
        better = ",".join(texts)
    else:
        end = field.low + field.count - 1
        better = f"{low}-{end},{field.low}-{high}"
    return InvalidRequest(
        "cron",
        f"the range {first}-{last} in the {field.name} must not wrap around; write {better}",
    )


def _step(field: _Field, term: str, step: int, count: int) -> InvalidRequest:
    if step < 1:
        return InvalidRequest(
            "cron", f"the step of {term[:20]!r} in the {field.name} must be 1 or more"
        )
    advice = ""
    unit, seconds = field.unit or ("", 0)
    if 0 < step * seconds <= LONGEST_SECONDS:
        advice = f'; for every {step} {unit} give "every_seconds": {step * seconds} instead of cron'
    return InvalidRequest(
        "cron",
        f"the step {step} of {term[:20]!r} in the {field.name} is above the number of its values, "
        f"{count}{advice}",
    )
