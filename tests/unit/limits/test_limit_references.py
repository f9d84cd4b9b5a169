"""Requests that each algorithm admits, compared with a reference.

The reference is the `limits` package for windows, and exact fractions for GCRA.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter
from mayfly.limits import Algorithm, Limit, read, take

from tests.conftest import make_tables
from tests.support.clients import make_client
from tests.support.fakes import FixedClock
from tests.support.limiting import EDGE_MS, Limiting
from tests.support.mocked import MockedAws


class Gcra:
    """The textbook's GCRA, in exact fractions of milliseconds."""

    def __init__(self, limit: Limit) -> None:
        self.interval = Fraction(limit.period_seconds * 1000, limit.limit)
        self.most = limit.most
        self.until = Fraction(0)

    def __call__(self, now_ms: int, cost: int) -> bool:
        after = max(self.until, Fraction(now_ms)) + cost * self.interval
        if after - now_ms > self.most * self.interval:
            return False
        self.until = after
        return True


class Package:
    """A window of the `limits` package, at a given time."""

    def __init__(self, limit: Limit) -> None:
        kind = {
            Algorithm.FIXED: FixedWindowRateLimiter,
            Algorithm.SLIDING: SlidingWindowCounterRateLimiter,
        }[limit.algorithm]
        self.limiter = kind(MemoryStorage())
        self.item = RateLimitItemPerSecond(limit.limit, limit.period_seconds)

    def __call__(self, now_ms: int, cost: int) -> bool:
        with time_machine.travel(now_ms / 1000, tick=False):
            return bool(self.limiter.hit(self.item, "k", cost=cost))


@pytest.fixture(scope="module")
def world() -> Any:
    """One moto for all examples; each takes another key."""
    with MockedAws():
        client = make_client("dynamodb")
        make_tables(client)
        yield client


#: Pauses in steps of 125 ms: the package computes in floats, which hold these values exactly.
pauses = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 125, 250, 1000, 2500, 5000, 9875, 10_000, 25_000]),
        st.integers(1, 3),
    ),
    max_size=40,
)
examples = settings(
    max_examples=settings().max_examples // 5,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
_KEYS = iter(range(10**9))


@pytest.mark.parametrize("processes", [1, 3])
@given(arrivals=pauses, size=st.integers(3, 6), burst=st.none() | st.integers(3, 8))
@examples
def test_gcra_admits_the_same_requests_as_the_textbook(
    world: Any, processes: int, arrivals: list[tuple[int, int]], size: int, burst: int | None
) -> None:
    # Periods that the limit divides to whole nanoseconds; other intervals are rounded up by less
    # than one nanosecond.
    limit = Limit("l", size, 12 if size != 5 else 10, burst=burst)
    same_as_reference(
        world, limit, Gcra(limit), [(pause, cost) for pause, cost in arrivals], processes
    )


@pytest.mark.parametrize("processes", [1, 3])
@given(arrivals=pauses, size=st.integers(3, 8))
@examples
def test_sliding_window_admits_the_same_requests_as_the_limits_package(
    world: Any, processes: int, arrivals: list[tuple[int, int]], size: int
) -> None:
    limit = Limit("l", size, 10, Algorithm.SLIDING)
    same_as_reference(world, limit, Package(limit), arrivals, processes)


@pytest.mark.parametrize("processes", [1, 3])
@given(
    windows=st.lists(
        st.lists(st.tuples(st.sampled_from([0, 125, 1000]), st.just(1)), max_size=12), max_size=6
    ),
    size=st.integers(3, 8),
)
@examples
def test_fixed_window_admits_the_same_requests_as_the_limits_package(
    world: Any, processes: int, windows: list[list[tuple[int, int]]], size: int
) -> None:
    """The package's windows start with their first request, ours on the clock.

    So a request comes at each start here. The package also counts what it refuses, which makes a
    difference for costs above one.
    """
    limit = Limit("l", size, 20, Algorithm.FIXED)
    arrivals: list[tuple[int, int]] = []
    for window in windows:
        arrivals += [(0, 1), *window, (20_000 - sum(pause for pause, _ in window), 0)]
    same_as_reference(world, limit, Package(limit), arrivals, processes)


def same_as_reference(
    client: Any,
    limit: Limit,
    reference: Callable[[int, int], bool],
    arrivals: list[tuple[int, int]],
    processes: int,
) -> None:
    clock, key = FixedClock(EDGE_MS), f"k{next(_KEYS)}"
    stores = [Limiting(client, clock) for _ in range(processes)]
    watcher = Limiting(client, clock)
    for number, (pause, cost) in enumerate(arrivals):
        clock.now_ms += pause
        if cost:
            look = read(watcher, limit, tenant="acme", key=key, cost=cost)
            made = take(stores[number % processes], limit, tenant="acme", key=key, cost=cost)
            place = (number, clock.now_ms - EDGE_MS)
            assert made.is_allowed == reference(clock.now_ms, cost), place
            assert look.is_allowed == made.is_allowed, place
            if made.is_allowed:  # the numbers of a refusal are those that a process saw last
                assert look.remaining - cost == made.remaining, place
