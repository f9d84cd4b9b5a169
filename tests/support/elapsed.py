"""The time that a call takes on a machine that has other work, too."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["seconds_of"]

_Result = TypeVar("_Result")
#: The thread's nanoseconds on a processor, and those in which it waited for one.
#: https://www.kernel.org/doc/html/latest/scheduler/sched-stats.html
_STATISTICS = Path("/proc/thread-self/schedstat")


def seconds_of(act: Callable[[], _Result]) -> tuple[float, _Result]:
    """Calls a function, and returns the seconds that it took, and its result.

    Time in which this thread waited for a processor does not count, if the system has the figure.
    """
    started, waited = time.monotonic(), _waited()
    result = act()
    return time.monotonic() - started - (_waited() - waited), result


def _waited() -> float:
    return int(_STATISTICS.read_text().split()[1]) / 1e9 if _STATISTICS.exists() else 0.0
