"""Limits under sixteen threads: whether they hold, how much they admit, and the cost of a take."""

from collections.abc import Callable
from typing import Any

import boto3
from mayfly import limits, resources
from mayfly.limits import Algorithm, Limit

from bench.meter import metered
from bench.processes import Ground, ground

QUESTION = (
    "do limits hold under 16 threads in 4 processes for 10 seconds, how much of what "
    "they allow is admitted, and what does a take cost?"
)
SECONDS = 10
#: Admissions in a second, and at once for GCRA. Sixteen threads compete for each one, with sixteen
#: writes of one item.
LIMIT, BURST = 40, 10


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns admissions relative to the bounds, and calls and units of a take."""
    figures: dict[str, Any] = {}
    with ground() as store:
        for algorithm in Algorithm:
            figures |= hammered(store, algorithm, SECONDS)
        figures |= _costs(say, store)
    return figures


def hammered(store: Ground, algorithm: Algorithm, seconds: float) -> dict[str, Any]:
    """Returns how the admissions compare with the bound.

    `most of its bound` above 1 would be a broken limit.
    """
    burst = BURST if algorithm is Algorithm.GCRA else None
    done = store.hammer(
        mode="limit",
        name=algorithm,
        algorithm=algorithm,
        limit=LIMIT,
        period_seconds=1,
        burst=burst,
        seconds=seconds,
    )
    times = sorted(time for thread in done for time in thread["admitted"])
    most, share = (
        _spaced(times) if burst else _windows(times, is_sliding=algorithm is Algorithm.SLIDING)
    )
    return {
        f"{algorithm}: admitted": len(times),
        f"{algorithm}: refused": sum(thread["refused"] for thread in done),
        f"{algorithm}: most of its bound": round(most, 4),
        f"{algorithm}: part of what it allows that was admitted": round(share, 4),
    }


def _spaced(times: list[int]) -> tuple[float, float]:
    """Returns two ratios for GCRA.

    The first is the tightest interval between two admissions, relative to burst + time x rate. The
    second is the whole run relative to that bound.
    """
    rate = LIMIT / 1000
    tightest = max(
        (end - start + 1) / (BURST + (times[end] - times[start]) * rate)
        for start in range(len(times))
        for end in range(start, len(times))
    )
    return tightest, len(times) / (BURST + (times[-1] - times[0]) * rate)


def _windows(times: list[int], *, is_sliding: bool) -> tuple[float, float]:
    """Returns two ratios for the window algorithms.

    The first is the fullest window, or the fullest stretch across a window's edge, relative to the
    bound. The second is the whole windows relative to the limit.
    """
    windows: dict[int, list[int]] = {}
    for time in times:
        windows.setdefault(time // 1000, []).append(time)
    most = max(len(window_times) / LIMIT for window_times in windows.values())
    if is_sliding:
        for window, within in windows.items():
            before = len(windows.get(window - 1, []))
            for count, time in enumerate(within, 1):
                elapsed = time - window * 1000
                most = max(
                    most,
                    (before + count) / (LIMIT * (1 + elapsed / 1000) + 1),
                    (before * (1000 - elapsed) // 1000 + count) / LIMIT,
                )
    whole = sorted(windows)[1:-1]
    return most, sum(len(windows[window]) for window in whole) / (LIMIT * len(whole))


def _costs(say: Callable[[str], None], store: Ground) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with metered() as cost:
        for algorithm in Algorithm:
            warm, cold = resources.limit_store(store.env), resources.limit_store(store.env)
            limit = Limit("cost", 3, 3600, algorithm)

            def note(what: str, take_from: Any, limit: Limit = limit) -> None:
                cost.reset()
                limits.take(take_from, limit, tenant="t", key="k")
                name = f"{limit.algorithm}: {what}"
                figures[f"{name}: calls"], figures[f"{name}: write units"] = (
                    sum(cost.calls.values()),
                    cost.write_units,
                )
                say(f"{name}: {sum(cost.calls.values())} calls, {cost.write_units:g} write units")

            note("admitted, the first of all", warm)
            note("admitted, in a process that has seen it", warm)
            note("admitted, in a process that has not", cold)
            note("refused, in a process that has not seen it full", warm)
            note("refused again", warm)
    boto3.DEFAULT_SESSION = None
    return figures
