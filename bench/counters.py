"""Counting under load: whether increments count exactly once, and the cost of each verb."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import boto3
from mayfly import counters, resources

from bench.meter import metered
from bench.processes import PROCESSES, THREADS, Ground, ground

QUESTION = (
    "do 16 threads in 4 processes count exactly, with every increment sent twice and a "
    "tenth of all answers lost, and what does each verb cost?"
)
EACH = 500
LOSE = 0.1


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns the counters' values, and calls and units by verb."""
    figures: dict[str, Any] = {}
    with ground() as store:
        figures |= (
            keyed(store, EACH, lose=0)
            | keyed(store, EACH, lose=LOSE)
            | unkeyed(store, EACH, lose=LOSE)
        )
        figures |= _costs(say, store)
    return figures


def keyed(store: Ground, each: int, *, lose: float) -> dict[str, Any]:
    """Returns a counter's value after every thread has sent each increment twice with a key."""
    name = f"keyed-{lose}"
    done = store.hammer(mode="keyed", name=name, each=each, lose=lose)
    what = f"keyed, each sent twice, {lose:.0%} of answers lost"
    return {
        f"{what}: expected": each * PROCESSES * THREADS,
        f"{what}: value": counters.read(store.counters(), tenant="t", name=name).value,
        f"{what}: calls that failed and were repeated": sum(thread["failed"] for thread in done),
    }


def unkeyed(store: Ground, each: int, *, lose: float) -> dict[str, Any]:
    """Returns the outcomes of increments without a key, and the counter's value."""
    name = f"unkeyed-{lose}"
    total: Counter[str] = Counter()
    for thread in store.hammer(mode="unkeyed", name=name, each=each, lose=lose):
        total.update(thread)
    what = f"unkeyed, {lose:.0%} of answers lost"
    return {
        f"{what}: sent": each * PROCESSES * THREADS,
        **{
            f"{what}: {outcome}": total[outcome]
            for outcome in ("acknowledged", "settled", "unknown", "refused")
        },
        f"{what}: value": counters.read(store.counters(), tenant="t", name=name).value,
    }


def _costs(say: Callable[[str], None], store: Ground) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with metered() as cost:
        own = resources.counter_store(store.env)
        counters.create_sharded(own, tenant="t", name="sharded", shards=16)
        counters.increment(own, tenant="t", name="sharded")  # The process now knows the shards.
        verbs: list[tuple[str, Callable[[], Any]]] = [
            ("increment", lambda: counters.increment(own, tenant="t", name="plain")),
            (
                "increment with a ceiling",
                lambda: counters.increment(own, tenant="t", name="plain", ceiling=9),
            ),
            (
                "increment, approximate",
                lambda: counters.increment(own, tenant="t", name="plain", approximate=True),
            ),
            (
                "increment with a key",
                lambda: counters.increment(own, tenant="t", name="plain", idempotency_key="k"),
            ),
            (
                "the same key again",
                lambda: counters.increment(own, tenant="t", name="plain", idempotency_key="k"),
            ),
            ("read", lambda: counters.read(own, tenant="t", name="plain")),
            (
                "read 50",
                lambda: counters.read_many(
                    own, tenant="t", names=[f"n{number}" for number in range(50)]
                ),
            ),
            ("increment of 16 shards", lambda: counters.increment(own, tenant="t", name="sharded")),
            ("read of 16 shards", lambda: counters.read(own, tenant="t", name="sharded")),
            ("delete", lambda: counters.delete(own, tenant="t", name="plain")),
        ]
        for verb, act in verbs:
            cost.reset()
            act()
            figures |= {
                f"{verb}: calls": sum(cost.calls.values()),
                f"{verb}: write units": cost.write_units,
            }
            say(
                f"{verb}: {', '.join(f'{count} {call}' for call, count in cost.calls.items())}; "
                f"{cost.read_units:g} read, {cost.write_units:g} write"
            )
    boto3.DEFAULT_SESSION = None
    return figures
