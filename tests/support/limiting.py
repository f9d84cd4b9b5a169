"""A limit store with a clock that a test controls."""

from typing import Any

from mayfly import limits
from mayfly.aws.dynamodb import DynamoDB
from mayfly.limits import Limit, LimitStore

from tests.support.fakes import FixedClock

__all__ = ["EDGE_MS", "Limiting"]

#: An edge of every window that tests use.
EDGE_MS = 1_800_000_000_000


class Limiting(LimitStore):
    """Limits on a client, by their own clock."""

    def __init__(self, client: Any, clock: FixedClock | None = None) -> None:
        self.time = clock or FixedClock(EDGE_MS)
        super().__init__(DynamoDB(client, lambda attempt: None), "CountersTable", clock=self.time)

    def takes(self, limit: Limit, cost: int = 1, key: str = "k", tenant: str = "acme") -> bool:
        return limits.take(self, limit, tenant=tenant, key=key, cost=cost).is_allowed
