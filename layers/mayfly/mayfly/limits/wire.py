"""The body of a take, and the query of a read and of a reset."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mayfly.core.errors import InvalidRequest
from mayfly.core.json_input import Fields
from mayfly.limits.model import Algorithm, Limit
from mayfly.limits.rules import MAX_LIMIT, MAX_PERIOD_SECONDS, check

__all__ = ["Take", "read_query", "read_take"]

#: Members of a take, which are parameters in a query.
_MEMBERS: Final = ("key", "algorithm", "limit", "period_seconds", "burst", "cost")
_NUMBERS: Final = {"limit", "period_seconds", "burst", "cost"}
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True)
class Take:
    """A request about a limit, for `cost` from the share of `key`."""

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
    cost = fields.integer("cost", 0, MAX_LIMIT, default=1)
    fields.finish()
    check(limit, subject, cost)
    return Take(limit, subject, cost)


def read_query(name: str, parameter: Callable[[str], str | None]) -> Take:
    """Reads the query of GET and DELETE /limits/{name}: the members of a take as parameters.

    `parameter` returns the text of a parameter, None if it is missing. Raises InvalidRequest.
    """
    texts = {member: parameter(member) for member in _MEMBERS}
    return read_take(
        name,
        {
            member: int(text) if member in _NUMBERS and _WHOLE.fullmatch(text) else text
            for member, text in texts.items()
            if text is not None
        },
    )
