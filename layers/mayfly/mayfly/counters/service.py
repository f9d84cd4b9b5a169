"""Counters that survive every process: exact, shared, never in memory."""

from collections.abc import Sequence

from mayfly.core.errors import InvalidRequest
from mayfly.counters.model import Count, Step
from mayfly.counters.rules import MAX_SHARDS, check
from mayfly.counters.store import CounterStore

__all__ = ["create_sharded", "delete", "increment", "read", "read_many"]


def increment(
    store: CounterStore,
    *,
    tenant: str,
    name: str,
    by: int = 1,
    floor: int | None = None,
    ceiling: int | None = None,
    ttl_seconds: int | None = None,
    idempotency_key: str | None = None,
    approximate: bool = False,
) -> Count:
    """Adds `by` to a counter, which starts at 0.

    One write. With an `idempotency_key` a transaction and a read, however often it is repeated
    within a day; `approximate` lets the SDK repeat a lost answer, so that it may count twice.
    `floor` and `ceiling` refuse what would leave them. With `ttl_seconds` the counter expires so
    long after this increment.

    Raises InvalidRequest for a name or number that no counter takes, CounterLimit where a bound
    refuses, CounterOutOfRange beyond 38 digits, IdempotencyKeyReused, CounterIsSharded for a bound
    or a time to live of a sharded counter; OutcomeUnknown when the answer was lost and cannot be
    settled, StoreUnavailable when nothing was written, or with a key: repeat it.
    """
    step = Step(by, floor, ceiling, ttl_seconds)
    check(name, step)
    if idempotency_key is not None:
        return Count(name, store.increment_once(tenant, name, step, idempotency_key))
    if approximate:
        return Count(name, store.increment_approximately(tenant, name, step))
    return Count(name, store.increment(tenant, name, step))


def read(store: CounterStore, *, tenant: str, name: str) -> Count:
    """The value of a counter, 0 where there is none. One call. Raises StoreUnavailable."""
    check(name)
    return Count(name, store.read(tenant, name))


def read_many(store: CounterStore, *, tenant: str, names: Sequence[str]) -> list[Count]:
    """The values of counters, in the order of their names: a call for each hundred.

    Raises StoreUnavailable.
    """
    for name in names:
        check(name)
    values = store.read_many(tenant, names)
    return [Count(name, values[name]) for name in names]


def create_sharded(store: CounterStore, *, tenant: str, name: str, shards: int) -> None:
    """Makes a counter of 2 to 100 items, for more than the 1,000 writes a second that DynamoDB
    takes on one. Raises CounterExists.
    """
    check(name)
    if not 2 <= shards <= MAX_SHARDS:
        raise InvalidRequest("shards", f"must be from 2 to {MAX_SHARDS}")
    store.create(tenant, name, shards)


def delete(store: CounterStore, *, tenant: str, name: str) -> None:
    """Deletes a counter, which counts as 0 from then on. Raises StoreUnavailable."""
    check(name)
    store.delete(tenant, name)
