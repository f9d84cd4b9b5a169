"""Counters in DynamoDB: exact, and shared by all processes."""

from collections.abc import Sequence

from mayfly.core.errors import InvalidRequest
from mayfly.counters.model import Count, Step
from mayfly.counters.rules import MAX_SHARDS, check
from mayfly.counters.store import CounterStore

__all__ = ["create_sharded", "delete", "increment", "read", "read_many"]


def increment(
    store: CounterStore,
    name: str,
    *,
    tenant: str,
    by: int = 1,
    floor: int | None = None,
    ceiling: int | None = None,
    ttl_seconds: int | None = None,
    idempotency_key: str | None = None,
    approximate: bool = False,
) -> Count:
    """Adds `by` to a counter, which starts at 0, and returns its value.

    - The increment is one write.
    - With an `idempotency_key` it is a transaction and a read. Repeats within a day count once.
    - With `approximate` the SDK retries after a lost response, so the increment may count twice.
    - The increment is refused if the value would leave `floor` or `ceiling`.
    - With `ttl_seconds` the counter expires that long after this increment.

    Raises:

    - InvalidRequest: the name or a number is invalid.
    - CounterLimit: the value would leave the floor or ceiling.
    - CounterOutOfRange: the value would have more than 38 digits.
    - CounterIsSharded: a sharded counter cannot have a bound or a time to live.
    - IdempotencyKeyReused: the key came before with another step.
    - OutcomeUnknown: the response was lost, and a read did not settle whether it counted.
    - StoreUnavailable: without a key, nothing was written. With a key, the increment may have been
      written: retry with the same key.
    """
    step = Step(by, floor, ceiling, ttl_seconds)
    check(name, step)
    if idempotency_key is not None:
        return Count(name, store.increment_once(tenant, name, step, idempotency_key))
    if approximate:
        return Count(name, store.increment_approximately(tenant, name, step))
    return Count(name, store.increment(tenant, name, step))


def read(store: CounterStore, name: str, *, tenant: str) -> Count:
    """Returns the value of a counter, 0 if there is none, by one call. Raises StoreUnavailable."""
    check(name)
    return Count(name, store.read(tenant, name))


def read_many(store: CounterStore, names: Sequence[str], *, tenant: str) -> list[Count]:
    """Returns the values of counters, in the order of `names`.

    Makes one call for each hundred, and one more for each sharded counter. Raises StoreUnavailable.
    """
    for name in names:
        check(name)
    values = store.read_many(tenant, names)
    return [Count(name, values[name]) for name in names]


def create_sharded(store: CounterStore, name: str, *, tenant: str, shards: int) -> None:
    """Creates a counter with 2 to 100 shards, each an item. Raises CounterExists.

    Shards are for more than 1,000 plain increments a second, the most that DynamoDB takes on one
    item, or for more than 10 a second with idempotency keys, whose transactions conflict.
    """
    check(name)
    is_whole = isinstance(shards, int) and not isinstance(shards, bool)
    if not is_whole or not 2 <= shards <= MAX_SHARDS:
        raise InvalidRequest("shards", f"must be a whole number from 2 to {MAX_SHARDS}")
    store.create(tenant, name, shards)


def delete(store: CounterStore, name: str, *, tenant: str) -> None:
    """Deletes a counter; its value is 0 from then on. Raises StoreUnavailable."""
    check(name)
    store.delete(tenant, name)
