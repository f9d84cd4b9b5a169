"""Clocks: the only module that reads the time.

A clock is a function that returns milliseconds since the epoch, UTC. Rules take `now_ms` as a
value; stores take a clock.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

__all__ = ["Clock", "rfc3339", "system_clock"]

Clock = Callable[[], int]

#: The last second of the year 9999, in milliseconds: RFC 3339 has four digits for the year.
_LAST_MS: Final = 253_402_300_799_000


def system_clock() -> int:
    """Returns milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def rfc3339(at_ms: int) -> str:
    """Returns `at_ms` as RFC 3339, in UTC with milliseconds: `2026-01-31T23:59:59.000Z`.

    A later time than the year 9999 becomes its end, so that one item cannot break a list.
    """
    return (
        datetime.fromtimestamp(min(at_ms, _LAST_MS) / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
