"""Where a counter lives, which numbers it takes, and what may be asked of it."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from mayfly.core.errors import InvalidRequest
from mayfly.core.ids import key
from mayfly.core.json_input import NAME, Fields, canonical_json
from mayfly.counters.model import Step

__all__ = [
    "KEY_RETENTION_SECONDS",
    "LIMIT",
    "MAX_SHARDS",
    "MAX_STEP",
    "SHARD",
    "SHARDS",
    "Increment",
    "check",
    "fingerprint",
    "key_partition",
    "partition",
    "read_creation",
    "read_increment",
    "room",
    "shard",
]

#: The largest value of a counter, positive or negative: DynamoDB numbers are exact to 38 digits.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
LIMIT: Final = 10**38 - 1
#: The largest step of one increment.
MAX_STEP: Final = 10**30
#: The largest floor and ceiling, so that what is compared has 38 digits, too.
_MAX_BOUND: Final = 10**37
#: Shards are made, and deleted, in one transaction, which takes a hundred items.
MAX_SHARDS: Final = 100
#: How long an idempotency key is remembered. Longer than the client that repeats with it lives.
KEY_RETENTION_SECONDS: Final = 24 * 3600
_MAX_TTL_SECONDS: Final = 10 * 365 * 24 * 3600

#: What the sort keys of a counter's shards start with.
SHARDS: Final = "shard/"
#: Sort key of the item that holds the value of an unsharded counter, and of the first shard of
#: another one.
SHARD: Final = key("shard", "0")


@dataclass(frozen=True)
class Increment:
    """The body of an increment."""

    step: Step
    approximate: bool


def partition(tenant: str, name: str) -> str:
    """The partition key of a counter."""
    return key(tenant, name)


def shard(number: int) -> str:
    """The sort key of a shard."""
    return key("shard", str(number))


def key_partition(tenant: str, name: str, idempotency_key: str) -> str:
    """The partition in which it is remembered that an increment was made: one of its own, so that
    keys spread over all of DynamoDB's.

    Any key fits: it is hashed.
    """
    return key(tenant, "key", name, hashlib.sha256(idempotency_key.encode()).hexdigest())


def fingerprint(step: Step) -> str:
    """What tells one request under an idempotency key from another."""
    return hashlib.sha256(canonical_json(vars(step)).encode()).hexdigest()


def room(step: Step) -> tuple[int, int]:
    """The values from which a step stays within its bounds, and within 38 digits: the least and the
    most.
    """
    least = -LIMIT if step.floor is None else step.floor
    most = LIMIT if step.ceiling is None else step.ceiling
    return max(-LIMIT, least - step.by), min(LIMIT, most - step.by)


def check(name: str, step: Step = Step()) -> None:  # noqa: B008 - a constant
    """Raises InvalidRequest for a name, or a step, that no counter takes."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidRequest("name", f"must match {NAME.pattern}")
    for field, bound in (
        ("by", MAX_STEP),
        ("floor", _MAX_BOUND),
        ("ceiling", _MAX_BOUND),
        ("ttl_seconds", _MAX_TTL_SECONDS),
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


def read_increment(body: Any, *, is_keyed: bool) -> Increment:
    """The body of POST /counters/{name}/increment. Raises InvalidRequest."""
    fields = Fields(body)
    step = Step(
        by=fields.integer("by", -MAX_STEP, MAX_STEP, default=1),
        floor=fields.integer("floor", -_MAX_BOUND, _MAX_BOUND, default=None),
        ceiling=fields.integer("ceiling", -_MAX_BOUND, _MAX_BOUND, default=None),
        ttl_seconds=fields.integer("ttl_seconds", 1, _MAX_TTL_SECONDS, default=None),
    )
    approximate = fields.boolean("approximate", default=False)
    fields.finish()
    if approximate and (is_keyed or step.floor is not None or step.ceiling is not None):
        raise InvalidRequest(
            "approximate",
            "goes with neither an Idempotency-Key nor a floor or ceiling: those are exact",
        )
    return Increment(step, approximate)


def read_creation(body: Any) -> int:
    """The number of shards in the body of PUT /counters/{name}. Raises InvalidRequest."""
    fields = Fields(body)
    shards: int = fields.integer("shards", 2, MAX_SHARDS)
    fields.finish()
    return shards
