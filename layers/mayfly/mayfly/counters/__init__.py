"""Counters that survive every process: exact, shared, never in memory."""

from mayfly.counters.model import Count
from mayfly.counters.rules import MAX_STEP
from mayfly.counters.store import CounterStore

__all__ = ["MAX_STEP", "Count", "CounterStore", "increment", "read"]


def increment(store: CounterStore, *, tenant: str, name: str, by: int = 1) -> Count:
    """Adds `by` to a counter, which starts at 0.

    Raises OutcomeUnknown when the answer was lost and cannot be settled, StoreUnavailable when nothing was written.
    """
    return Count(name, store.increment(tenant, name, by))


def read(store: CounterStore, *, tenant: str, name: str) -> Count:
    """The value of a counter, 0 where there is none. Raises StoreUnavailable."""
    return Count(name, store.read(tenant, name))
