"""Keys of counters, and the bounds of their numbers."""

import hashlib
from typing import Final

from mayfly.core.errors import InvalidRequest
from mayfly.core.ids import key
from mayfly.core.json_input import NAME, NAME_PROBLEM, canonical_json
from mayfly.counters.model import Step

__all__ = [
    "ADVISED_TRIES",
    "KEY_RETENTION_SECONDS",
    "LIMIT",
    "MAX_BOUND",
    "MAX_SHARDS",
    "MAX_STEP",
    "MAX_TTL_SECONDS",
    "SHARD",
    "SHARDS",
    "check",
    "fingerprint",
    "key_partition",
    "partition",
    "room",
    "shard",
]

#: The largest absolute value of a counter: DynamoDB numbers are exact to 38 digits.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
LIMIT: Final = 10**38 - 1
#: The largest absolute step of one increment.
MAX_STEP: Final = 10**30
#: The largest absolute floor and ceiling. It keeps numbers in conditions within 38 digits.
MAX_BOUND: Final = 10**37
#: Tries of one increment after which the counter's log line advises shards. If a fifth of all tries
#: meet a conflict, one increment of 125 needs as many.
ADVISED_TRIES: Final = 4
#: The most shards: they are created, and deleted, in one transaction, which takes 100 items.
MAX_SHARDS: Final = 100
#: Time for which an idempotency key is kept. It must be longer than clients retry.
KEY_RETENTION_SECONDS: Final = 24 * 3600
#: The longest time to live of a counter.
MAX_TTL_SECONDS: Final = 10 * 365 * 24 * 3600

#: Prefix of the sort keys of a counter's shards.
SHARDS: Final = "shard/"
#: Sort key of a counter's first shard, and of the only item of a counter without shards.
SHARD: Final = key("shard", "0")


def partition(tenant: str, name: str) -> str:
    """Returns the partition key of a counter."""
    return key(tenant, name)


def shard(number: int) -> str:
    """Returns the sort key of a shard."""
    return key("shard", str(number))


def key_partition(tenant: str, name: str, idempotency_key: str) -> str:
    """Returns the partition key of the record of an idempotency key.

    Each record has a partition of its own, so that DynamoDB can spread them. The key is hashed, so
    it may have any characters and any length.
    """
    return key(tenant, "key", name, hashlib.sha256(idempotency_key.encode()).hexdigest())


def fingerprint(step: Step) -> str:
    """Returns a hash that distinguishes requests with the same idempotency key."""
    return hashlib.sha256(canonical_json(vars(step)).encode()).hexdigest()


def room(step: Step) -> tuple[int, int]:
    """Returns the least and the greatest value to which a step may be added.

    From these values the result is within the step's bounds, and within 38 digits.
    """
    least = -LIMIT if step.floor is None else step.floor
    most = LIMIT if step.ceiling is None else step.ceiling
    return max(-LIMIT, least - step.by), min(LIMIT, most - step.by)


def check(name: str, step: Step = Step()) -> None:  # noqa: B008 - a constant
    """Raises InvalidRequest if the name or the step is invalid."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidRequest("name", NAME_PROBLEM)
    for field, bound in (
        ("by", MAX_STEP),
        ("floor", MAX_BOUND),
        ("ceiling", MAX_BOUND),
        ("ttl_seconds", MAX_TTL_SECONDS),
    ):
        value = getattr(step, field)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or not -bound <= value <= bound
        ):
            raise InvalidRequest(field, f"must be a whole number from -{bound} to {bound}")
    if step.ttl_seconds is not None and step.ttl_seconds < 1:
        raise InvalidRequest("ttl_seconds", "must be at least 1")
    if step.floor is not None and step.ceiling is not None and step.floor > step.ceiling:
        raise InvalidRequest("floor", "must not be above the ceiling")
