"""The body of a take."""

from dataclasses import dataclass
from typing import Any

from mayfly.core.errors import InvalidRequest
from mayfly.core.json_input import Fields
from mayfly.limits.model import Algorithm, Limit
from mayfly.limits.rules import MAX_LIMIT, MAX_PERIOD_SECONDS, check

__all__ = ["Take", "read_take"]


@dataclass(frozen=True)
class Take:
    """A request to a limit, for `cost` from the share of `key`."""

    limit: Limit
    key: str
    cost: int


def read_take(name: str, body: Any) -> Take:
    """Reads the body of POST /limits/{name}/take. Raises InvalidRequest."""
    fields = Fields(body)
    subject = fields.text("key")
    algorithm = fields.text("algorithm")
    if algorithm not in list(Algorithm):
        raise InvalidRequest("algorithm", f"must be one of {', '.join(Algorithm)}")
    limit = Limit(
        name=name,
        algorithm=Algorithm(algorithm),
        limit=fields.integer("limit", 1, MAX_LIMIT),
        period_seconds=fields.integer("period_seconds", 1, MAX_PERIOD_SECONDS),
        burst=fields.integer("burst", 1, MAX_LIMIT, default=None),
    )
    cost = fields.integer("cost", 1, MAX_LIMIT, default=1)
    fields.finish()
    check(limit, subject, cost)
    return Take(limit, subject, cost)
