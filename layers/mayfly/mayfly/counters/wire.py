"""Bodies of the requests for counters."""

from dataclasses import dataclass
from typing import Any, Final

from mayfly.core.errors import InvalidRequest
from mayfly.core.json_input import Fields
from mayfly.counters.model import Count, Step
from mayfly.counters.rules import MAX_BOUND, MAX_SHARDS, MAX_STEP, MAX_TTL_SECONDS

__all__ = ["Increment", "public", "read_creation", "read_increment"]

#: The largest whole number that every reader of JSON has exactly; JavaScript rounds larger ones
#: (RFC 8259, 6; RFC 7493, 2.2).
_EXACT: Final = 2**53 - 1


@dataclass(frozen=True)
class Increment:
    """The body of an increment."""

    step: Step
    approximate: bool


def read_increment(body: Any, *, is_keyed: bool) -> Increment:
    """Reads the body of POST /counters/{name}/increment.

    `is_keyed` is true if the request has an Idempotency-Key. Raises InvalidRequest.
    """
    fields = Fields(body)
    step = Step(
        by=fields.integer("by", -MAX_STEP, MAX_STEP, default=1),
        floor=fields.integer("floor", -MAX_BOUND, MAX_BOUND, default=None),
        ceiling=fields.integer("ceiling", -MAX_BOUND, MAX_BOUND, default=None),
        ttl_seconds=fields.integer("ttl_seconds", 1, MAX_TTL_SECONDS, default=None),
    )
    approximate = fields.boolean("approximate", default=False)
    fields.finish()
    if approximate and (is_keyed or step.floor is not None or step.ceiling is not None):
        raise InvalidRequest(
            "approximate",
            "cannot be used with an Idempotency-Key, a floor or a ceiling: those are exact",
        )
    return Increment(step, approximate)


def read_creation(body: Any) -> int:
    """Reads the body of PUT /counters/{name}: the number of shards. Raises InvalidRequest."""
    fields = Fields(body)
    shards: int = fields.integer("shards", 2, MAX_SHARDS)
    fields.finish()
    return shards


def public(count: Count) -> dict[str, Any]:
    """Returns a counter as callers see it.

    A value that JavaScript would round is there as a text, too.
    """
    body: dict[str, Any] = {"name": count.name, "value": count.value}
    return body if abs(count.value) <= _EXACT else {**body, "value_text": str(count.value)}
