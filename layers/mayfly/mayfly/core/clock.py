"""Clocks: the only module that reads the time.

A clock is a function that returns milliseconds since the epoch, UTC. Rules take `now_ms` as a
value; stores take a clock.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

__all__ = ["Clock", "rfc3339", "system_clock"]

Clock = Callable[[], int]


def system_clock() -> int:
    """Returns milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def rfc3339(at_ms: int) -> str:
    """Returns `at_ms` as RFC 3339, in UTC with milliseconds: `2026-01-31T23:59:59.000Z`."""
    return (
        datetime.fromtimestamp(at_ms / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
