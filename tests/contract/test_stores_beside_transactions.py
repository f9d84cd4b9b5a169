"""Stores of the library while transactions hold their items, on a real emulator.

In real time, with production's clients. `pytest -s` prints the figures.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, Final

import pytest
import requests
from mayfly import counters, resources
from mayfly.aws.dynamodb import DynamoDB, longest_pause
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import new_nonce
from mayfly.counters import CounterStore
from mayfly.counters.model import Step
from mayfly.counters.writes import add
from mayfly.jobs.items import new_items
from mayfly.jobs.store import Claim, JobStore

from mayfly_local.iam.transactions import TRANSACTION_SECONDS
from mayfly_testing.stack import emulator, wait_until
from tests.conftest import make_tables
from tests.support.clients import make_client
from tests.support.fakes import FixedClock, Names
from tests.support.jobs import LEASE, NOW, a_job

#: For how long a requested transaction holds an item, in milliseconds: much longer than a call
#: takes, and much shorter than eight tries.
HELD_MS: Final = 150
_PREFIXES: Final = (f"beside{number}-" for number in count())


def pause(attempt: int) -> None:
    """Waits for the middle of production's random pauses."""
    threading.Event().wait(longest_pause(attempt) / 2)


class Store:
    """An emulator in which a transaction takes as long as on AWS."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.tables = make_tables(make_client("dynamodb"), next(_PREFIXES), streams=False)

    def control(self, path: str, body: Any = None) -> Any:
        reply = requests.request(
            "GET" if body is None else "POST", f"{self.endpoint}/_mayfly/{path}", json=body,
            headers={"Authorization": "Bearer people"}, timeout=10,
        )  # fmt: skip
        assert reply.ok, reply.text
        return reply.json()

    def hold(self, operation: str, request: Mapping[str, Any]) -> None:
        """Lets another transaction hold the item of a request."""
        body = {"operation": operation, "request": request, "milliseconds": HELD_MS}
        assert self.control("hold", body) == {"items": 1}

    def met(self) -> dict[str, int]:
        """Returns how many calls have met a transaction, by operation."""
        report = self.control("transactions")
        names = {*report["met"], *report["requested"]}
        return {
            name: report["met"].get(name, 0) + report["requested"].get(name, 0) for name in names
        }


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("beside")
    with emulator(folder, transaction_seconds=TRANSACTION_SECONDS) as found:
        yield found


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return Store(endpoint)


def hold_counter(store: Store, name: str) -> None:
    request = add(store.tables["CountersTable"], "acme", name, Step(1), nonce=None, now_ms=NOW)
    store.hold("UpdateItem", request)


def test_increments_with_and_without_a_key_on_one_counter_are_counted_once(store: Store) -> None:
    """Eight callers. A refused increment does not count, and an acknowledged one counts once."""
    deployed = resources.counter_store({"COUNTERS_TABLE": store.tables["CountersTable"]})

    def call(number: int) -> bool:
        key = new_nonce() if number % 4 == 0 else None
        try:
            counters.increment(deployed, "hits", tenant="acme", idempotency_key=key)
        except StoreUnavailable:
            return False
        return True

    before = store.met()
    with ThreadPoolExecutor(8) as threads:
        acknowledged = sum(threads.map(call, range(160)))
    met = {name: number - before.get(name, 0) for name, number in store.met().items()}
    print(  # noqa: T201  # shown by pytest -s
        f"\n{acknowledged} of 160 increments acknowledged; met a transaction: {met}"
    )
    assert counters.read(deployed, "hits", tenant="acme").value == acknowledged
    assert acknowledged > 100
    assert met["UpdateItem"] > 0
    assert met["TransactWriteItems"] > 0


class Impatient(DynamoDB):
    """The adapter without its retries: it has time for none."""

    def pause(self, attempt: int) -> bool:
        """Says that there is no time."""
        return False


def counters_by(store: Store, adapter: Callable[..., DynamoDB]) -> CounterStore:
    """Returns counters whose adapter is of this class."""
    db = adapter(make_client("dynamodb", attempts=1), pause, sends_once=True)
    return CounterStore(
        db, lambda: db, store.tables["CountersTable"],
        clock=FixedClock(NOW), new_nonce=Names("n"), pick=lambda shards: 0,
    )  # fmt: skip


@pytest.mark.parametrize("key", [None, "k"], ids=["plain", "with a key"])
def test_increment_that_meets_a_transaction_is_counted_after_it(
    store: Store, key: str | None
) -> None:
    made, before = counters_by(store, DynamoDB), sum(store.met().values())
    for number in range(1, 6):
        hold_counter(store, "hits")
        repeat_key = key and f"{key}{number}"
        answer = counters.increment(made, "hits", tenant="acme", idempotency_key=repeat_key)
        assert answer.value == number
    assert sum(store.met().values()) > before


@pytest.mark.parametrize("key", [None, "k"], ids=["plain", "with a key"])
def test_library_that_does_not_repeat_after_a_conflict_is_caught(
    store: Store, key: str | None
) -> None:
    """The test above is able to fail: without retries, an increment is refused."""
    made, refused = counters_by(store, Impatient), 0
    for number in range(5):
        hold_counter(store, "hits")
        repeat_key = key and f"{key}{number}"
        try:
            counters.increment(made, "hits", tenant="acme", idempotency_key=repeat_key)
        except StoreUnavailable:
            refused += 1
    assert refused > 0


def test_jobs_of_a_batch_are_claimed_while_one_of_them_is_in_a_transaction(store: Store) -> None:
    db = DynamoDB(make_client("dynamodb"), pause)
    jobs = JobStore(db, store.tables["JobsTable"], clock=FixedClock(NOW), new_id=Names("id"))
    made = [a_job(id=name) for name in ("j1", "j2", "j3")]
    for job in made:
        for item in new_items(job):
            db.put("write", TableName=jobs.table, Item=item)
    (held,) = new_items(made[1])
    store.hold("PutItem", {"TableName": jobs.table, "Item": held})
    claims = [Claim(job, "w1") for job in made]
    claimed = jobs.claim_many(claims, now_ms=NOW, lease_ms=LEASE)
    assert [job is not None for job in claimed] == [True, False, True]
    # A worker claims the one that is left by the full condition, which repeats until it is free.
    assert jobs.claim("acme", "j2", nonce="w1", now_ms=NOW, lease_ms=LEASE).owner == "w1"
    wait_until(lambda: not store.control("transactions")["held"], 10)
