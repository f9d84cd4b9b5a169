"""Counters on moto, with answers lost at the HTTP seam."""

from typing import Any

import pytest
from mayfly import counters
from mayfly.counters import CounterStore
from mayfly.errors import CounterOutOfRange, OutcomeUnknown, StoreUnavailable

from tests.conftest import make_client
from tests.fakes import Names
from tests.faults import Faults


@pytest.fixture
def client(tables: dict[str, str]) -> Any:
    return make_client("dynamodb", attempts=1)


@pytest.fixture
def store(client: Any) -> CounterStore:
    return CounterStore(client, "CountersTable", Names())


@pytest.fixture
def lost(client: Any) -> Faults:
    return Faults(client)


def test_a_counter_starts_at_zero_and_adds(store: CounterStore) -> None:
    assert counters.read(store, tenant="a", name="hits").value == 0
    assert [counters.increment(store, tenant="a", name="hits", by=by).value for by in (1, 5, -2)] == [1, 6, 4]
    assert counters.read(store, tenant="a", name="hits").value == 4


def test_tenants_do_not_share_a_counter(store: CounterStore) -> None:
    counters.increment(store, tenant="a", name="hits")
    assert counters.read(store, tenant="b", name="hits").value == 0


def test_an_increment_whose_answer_is_lost_counts_once(store: CounterStore, lost: Faults) -> None:
    lost.on("UpdateItem", "after")
    assert counters.increment(store, tenant="a", name="hits").value == 1
    assert counters.read(store, tenant="a", name="hits").value == 1


def test_an_increment_that_never_left_is_unknown_and_not_repeated(store: CounterStore, lost: Faults) -> None:
    lost.on("UpdateItem", "before")
    with pytest.raises(OutcomeUnknown):
        counters.increment(store, tenant="a", name="hits")
    assert counters.read(store, tenant="a", name="hits").value == 0
    assert lost.requests.count("UpdateItem") == 1


def test_an_increment_cannot_be_settled_once_another_one_followed(store: CounterStore, lost: Faults) -> None:
    other = CounterStore(make_client("dynamodb", attempts=1), "CountersTable", Names("other"))

    def plan(operation: str, number: int) -> str | None:
        if operation == "GetItem":  # between the lost answer and the read that would settle it
            other.increment("a", "hits", 1)
        return "after" if operation == "UpdateItem" else None

    lost.plan = plan
    with pytest.raises(OutcomeUnknown):
        counters.increment(store, tenant="a", name="hits")
    lost.plan = lambda operation, number: None
    assert counters.read(store, tenant="a", name="hits").value == 2


def test_a_refused_increment_is_certain_to_have_written_nothing(store: CounterStore, lost: Faults) -> None:
    lost.on("UpdateItem", "throttle")
    with pytest.raises(StoreUnavailable):
        counters.increment(store, tenant="a", name="hits")
    assert lost.requests == ["UpdateItem"]
    assert counters.read(store, tenant="a", name="hits").value == 0


def test_a_server_error_is_settled_by_reading(store: CounterStore, lost: Faults) -> None:
    lost.on("UpdateItem", "error")
    with pytest.raises(OutcomeUnknown):
        counters.increment(store, tenant="a", name="hits")
    assert lost.requests == ["UpdateItem", "GetItem"]


def test_a_plain_add_under_sdk_retries_counts_twice(tables: dict[str, str]) -> None:
    """The control: the reason why the client of a counter has its retries off."""
    retrying = make_client("dynamodb", attempts=3)
    Faults(retrying).on("UpdateItem", "after")
    assert CounterStore(retrying, "CountersTable", Names()).increment("a", "hits", 1) == 2


def test_more_than_38_digits_are_refused(store: CounterStore, lost: Faults, client: Any) -> None:
    # moto takes any number of digits; DynamoDB answers with this error.
    def refuse(operation: str, number: int) -> str | None:
        return "validation" if operation == "UpdateItem" else None

    from tests import faults

    faults._REFUSALS["validation"] = (400, "ValidationException", "{}")
    lost.plan = refuse
    with pytest.raises(CounterOutOfRange):
        counters.increment(store, tenant="a", name="hits", by=10**30)
