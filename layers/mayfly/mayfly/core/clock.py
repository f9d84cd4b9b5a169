"""Clocks: the only module that reads the time.

A clock is a function that returns milliseconds since the epoch, UTC. Rules take `now_ms` as a
value; stores take a clock.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

__all__ = ["Clock", "rfc3339", "system_clock"]

Clock = Callable[[], int]

#: The first and the last millisecond of the years that Python can show: 1 to 9999.
_FIRST_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999


#: On AWS this is the machine's time. `mayfly up` can give the processes of functions a clock that a
#: test moves, as a module of this name, which no package has (`mayfly_local/processes/clock.py`).
_time_ns: Final[Callable[[], int]] = getattr(
    sys.modules.get("mayfly_local_clock"), "time_ns", time.time_ns
)


def system_clock() -> int:
    """Returns milliseconds since the epoch."""
    return _time_ns() // 1_000_000


def rfc3339(at_ms: int) -> str:
    """Returns `at_ms` as RFC 3339, in UTC with milliseconds: `2026-01-31T23:59:59.000Z`.

    A time outside the years 1 to 9999 is shown as the nearest one inside: RFC 3339, 5.6 has four
    digits for a year, and one record with such a time must not make a whole list unreadable.
    """
    seconds, milliseconds = divmod(min(max(at_ms, _FIRST_MS), _LAST_MS), 1000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
