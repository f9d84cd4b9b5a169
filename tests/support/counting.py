"""A counter store with shards and a clock that a test controls."""

from collections.abc import Callable
from typing import Any

from mayfly.aws.dynamodb import DynamoDB
from mayfly.counters import CounterStore

from tests.support.fakes import FixedClock, Names

__all__ = ["Counting", "counted"]


class Counting(CounterStore):
    """Counters on two clients, the first one without retries."""

    def __init__(
        self,
        adds: Any,
        repeats: Any,
        table: str = "CountersTable",
        *,
        prefix: str = "n",
        pick: Callable[[int], int] = lambda shards: 0,
    ) -> None:
        self.time = FixedClock()
        self.pauses: list[int] = []
        db = DynamoDB(repeats, self.pauses.append)
        super().__init__(
            DynamoDB(adds, self.pauses.append),
            lambda: db,
            table,
            clock=self.time,
            new_nonce=Names(prefix),
            pick=pick,
        )


def counted(client: Any, table: str, name: str, tenant: str = "acme") -> int:
    """Returns the value of a counter."""
    return Counting(client, client, table).read(tenant, name)
