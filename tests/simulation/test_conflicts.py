"""Plain increments of an item on which other writers' transactions run."""

import random  # noqa: TID251  # a simulation that can be repeated
from typing import Any

import pytest
from mayfly import counters
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import StoreUnavailable
from mayfly.counters import CounterStore

from bench import conflicts as bench_conflicts
from tests.support.clients import make_client
from tests.support.fakes import FixedClock, Names
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
    """Ten increments a second, for a virtual minute, and for ten with --load-seconds 100.

    `pytest -s` prints the figures.
    """
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
    increments, longest, refused = 10 * 6 * load_seconds, 0.0, 0
    for number in range(increments):
        began = time.now = max(time.now, number * 100.0)
        try:
            counters.increment(store, "hits", tenant="acme")
        except StoreUnavailable:
            refused += 1
        longest = max(longest, time.now - began)
    faults.plan = lambda operation, number: None
    value = counters.read(store, "hits", tenant="acme").value
    print(  # noqa: T201  # shown by pytest -s
        f"\n{increments} plain increments in {time.now / 1000:.0f} virtual s: refused {refused}, "
        f"counted {value}; {met} requests met a transaction; the slowest took {longest:.0f} ms"
    )
    assert (refused, value) == (0, increments)
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
        with pytest.raises(StoreUnavailable, match="transactions held the item in every try"):
            write(db)
    assert pauses == list(range(1, min(conflicts, 7) + 1))
    assert faults.requests.count(operation) == min(conflicts + 1, 8)


@pytest.mark.parametrize("is_keyed", [True, False], ids=["keyed", "plain"])
@pytest.mark.parametrize(("rate", "shards"), [(10, 1), (30, 1), (40, 4)])
def test_tries_meet_as_many_conflicts_as_the_model_of_the_page_says(
    is_keyed: bool, rate: int, shards: int
) -> None:
    figures = bench_conflicts.run(is_keyed, rate, shards, increments=4000)
    expected = bench_conflicts.share_in_conflict(rate, shards)
    assert figures["tries in conflict"] == pytest.approx(expected, rel=0.15)
    refused = 4000 * expected**bench_conflicts.TRIES
    assert refused / 2 - 4 <= figures["refused"] <= refused * 2 + 4


# ---------------------------------------------------------------- advice to shard


ADVICE = "counter 'hits' of tenant 'acme' should be sharded"


@pytest.fixture
def once(tables: dict[str, str]) -> Any:
    """A client that sends each request once."""
    return make_client("dynamodb", attempts=1)


@pytest.fixture
def met(once: Any) -> Faults:
    """The faults of that client."""
    return Faults(once)


@pytest.fixture
def hot(once: Any, met: Faults) -> CounterStore:
    """Counters whose requests a test makes meet conflicts."""
    db = DynamoDB(once, lambda attempt: None, sends_once=True)
    return CounterStore(
        db, lambda: db, "CountersTable",
        clock=FixedClock(), new_nonce=Names("n"), pick=lambda shards: 0,
    )  # fmt: skip


@pytest.mark.parametrize(("conflicts", "is_advised"), [(0, False), (2, False), (3, True)])
@pytest.mark.parametrize(
    ("key", "operation"), [(None, "UpdateItem"), ("k", "TransactWriteItems")], ids=["plain", "key"]
)
def test_counter_says_that_it_should_be_sharded_after_four_tries(
    hot: CounterStore, met: Faults, caplog: pytest.LogCaptureFixture,
    key: str | None, operation: str, conflicts: int, is_advised: bool,
) -> None:  # fmt: skip
    met.on(operation, "conflict", times=conflicts)
    counters.increment(hot, "hits", tenant="acme", idempotency_key=key)
    assert (ADVICE in caplog.text) == is_advised


@pytest.mark.parametrize(
    ("key", "fault", "says"),
    [
        (None, "conflict", "needed 8 tries"),
        (None, "throttle", "was given up"),
        ("k", "conflict", "was given up"),
        ("k", "throttle", "was given up"),
    ],
    ids=["plain in conflict", "plain throttled", "key in conflict", "key throttled"],
)
def test_counter_says_so_when_it_refuses_an_increment(
    hot: CounterStore,
    met: Faults,
    caplog: pytest.LogCaptureFixture,
    key: str | None,
    fault: str,
    says: str,
) -> None:
    met.plan = lambda operation, number: fault
    with pytest.raises(StoreUnavailable):
        counters.increment(hot, "hits", tenant="acme", idempotency_key=key)
    assert f"{ADVICE}: an increment met other writers" in caplog.text
    assert says in caplog.text


def test_counter_says_nothing_of_shards_when_its_table_is_missing(
    hot: CounterStore, once: Any, caplog: pytest.LogCaptureFixture
) -> None:
    once.delete_table(TableName="CountersTable")
    with pytest.raises(StoreUnavailable):
        counters.increment(hot, "hits", tenant="acme")
    assert ADVICE not in caplog.text


def test_throttled_increment_is_repeated_and_counted_once(hot: CounterStore, met: Faults) -> None:
    met.on("UpdateItem", "throttle", times=2)
    assert counters.increment(hot, "hits", tenant="acme").value == 1
    met.on("UpdateItem", "throttle", times=3)
    with pytest.raises(StoreUnavailable):
        counters.increment(hot, "hits", tenant="acme")
    assert counters.read(hot, "hits", tenant="acme").value == 1


def test_advice_comes_once_a_minute_from_a_process(
    dynamodb: Any, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FixedClock()
    db = DynamoDB(dynamodb, lambda attempt: None)
    store = CounterStore(
        db, lambda: db, "CountersTable", clock=clock, new_nonce=Names("n"), pick=lambda shards: 0
    )
    for _ in range(130):
        faults.on("UpdateItem", "conflict", times=5)
        counters.increment(store, "hits", tenant="acme")
        clock.advance(1)
    assert caplog.text.count(ADVICE) == 3
