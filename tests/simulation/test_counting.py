"""Exact counts under load: 16 threads in 4 processes on the emulator.

`python -m bench counters limits` does the same at full size.
"""

from collections.abc import Iterator

import pytest
from mayfly.limits import Algorithm

from bench import counters, limits
from bench.processes import Ground, ground

THREADS = 16
EACH = 24
#: Increments of each thread that are all sent twice.
TWICE = 12


@pytest.fixture(scope="module")
def store() -> Iterator[Ground]:
    with ground() as found:
        yield found


@pytest.mark.parametrize("lose", [0, 0.1])
def test_keyed_increments_that_are_all_sent_twice_count_exactly(store: Ground, lose: float) -> None:
    found = counters.keyed(store, TWICE, lose=lose)
    assert [value for what, value in found.items() if what.endswith((": expected", ": value"))] == [
        THREADS * TWICE
    ] * 2


def test_unkeyed_increments_with_lost_answers_count_once_or_raise_outcome_unknown(
    store: Ground,
) -> None:
    found = {
        what.rpartition(": ")[2]: value
        for what, value in counters.unkeyed(store, EACH, lose=0.1).items()
    }
    known = found["acknowledged"] + found["settled"]
    assert known + found["unknown"] + found["refused"] == found["sent"] == THREADS * EACH
    assert known <= found["value"] <= known + found["unknown"]
    assert found["settled"] + found["unknown"] >= THREADS * EACH * 0.04  # answers were lost


@pytest.mark.soak
@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_limit_under_load_keeps_its_bound(
    store: Ground, algorithm: Algorithm, load_seconds: int
) -> None:
    # On a machine that is busy otherwise, it takes longer until a limit refuses anything.
    for seconds in (max(2, load_seconds / 10), 5, 10):  # two windows at least
        found = limits.hammered(store, algorithm, seconds)
        assert found[f"{algorithm}: most of its bound"] <= 1
        # The admitted share depends on the machine's speed; the benchmark reports it.
        if found[f"{algorithm}: admitted"] > 40 and found[f"{algorithm}: refused"] > 100:
            return
    raise AssertionError(f"the limit has hardly refused anything: {found}")
