"""Plain increments of an item on which other writers' transactions run."""

import random  # noqa: TID251  # a simulation that can be repeated
from typing import Any

import pytest
from mayfly import counters
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import StoreUnavailable
from mayfly.counters import CounterStore

from tests.support.clients import make_client
from tests.support.fakes import Names
from tests.support.faults import Faults

#: Milliseconds between two transactions on the item, and for which each holds it.
EVERY_MS, HELD_MS = 100.0, 20.0


class Time:
    """Virtual milliseconds. Transactions begin with random gaps, and hold the item for a while."""

    def __init__(self, source: random.Random) -> None:
        self.now = 0.0
        self._source = source
        self._begins = [0.0]

    def pause(self, attempt: int) -> None:
        """Waits before a try, as production does."""
        self.now += self._source.uniform(0, 20 * 2**attempt)

    def is_held(self) -> bool:
        """Returns whether a transaction holds the item now. A request takes 5 ms."""
        self.now += 5
        while self._begins[-1] <= self.now:
            gap = max(HELD_MS, self._source.expovariate(1 / EVERY_MS))
            self._begins = [*self._begins[-1:], self._begins[-1] + gap]
        return self.now - self._begins[0] < HELD_MS


def test_increments_beside_ten_commits_a_second_are_all_counted_once(
    tables: dict[str, str], load_seconds: int
) -> None:
    """Ten increments a second, for six virtual seconds times `--load-seconds`."""
    source = random.Random(19)
    time, client = Time(source), make_client("dynamodb", attempts=1)
    faults = Faults(client)
    met = 0

    def plan(operation: str, number: int) -> str | None:
        nonlocal met
        is_held = operation == "UpdateItem" and time.is_held()
        met += is_held
        return "conflict" if is_held else None

    db = DynamoDB(client, time.pause)
    store = CounterStore(
        db, lambda: db, tables["CountersTable"],
        clock=lambda: 1_800_000_000_000, new_nonce=Names("n"), pick=lambda shards: 0,
    )  # fmt: skip
    faults.plan = plan
    increments = 10 * 6 * load_seconds
    for number in range(increments):
        time.now = max(time.now, number * 100.0)
        counters.increment(store, "hits", tenant="acme")
    faults.plan = lambda operation, number: None
    assert counters.read(store, "hits", tenant="acme").value == increments
    assert met > increments / 20


KEY = {"pk": {"S": "acme/a"}, "sk": {"S": "shard/0"}}
ITEM = {**KEY, "n": {"N": "1"}}
WRITES: dict[str, tuple[str, Any]] = {
    "put": ("PutItem", lambda db: db.put("write", TableName="CountersTable", Item=ITEM)),
    "update": (
        "UpdateItem",
        lambda db: db.update(
            "write", TableName="CountersTable", Key=KEY, UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        ),
    ),
    "delete": ("DeleteItem", lambda db: db.delete("write", TableName="CountersTable", Key=KEY)),
}  # fmt: skip


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize(("conflicts", "is_written"), [(1, True), (7, True), (8, False)])
def test_plain_write_that_meets_transactions_is_repeated_and_ends(
    dynamodb: Any, faults: Faults, verb: str, conflicts: int, is_written: bool
) -> None:
    operation, write = WRITES[verb]
    pauses: list[int] = []
    faults.on(operation, "conflict", times=conflicts)
    db = DynamoDB(dynamodb, pauses.append)
    if is_written:
        write(db)
    else:
        with pytest.raises(StoreUnavailable, match="transactions held the item 8 times"):
            write(db)
    assert pauses == list(range(1, min(conflicts, 7) + 1))
    assert faults.requests.count(operation) == min(conflicts + 1, 8)
