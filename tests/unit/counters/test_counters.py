"""Counters on moto, with answers lost at the HTTP level. `time` is the store's own clock."""

from typing import Any

import pytest
from mayfly import counters
from mayfly.core.errors import IdempotencyKeyReused, InvalidRequest, StoreUnavailable
from mayfly.counters import CounterStore
from mayfly.counters.errors import (
    CounterExists,
    CounterIsSharded,
    CounterLimit,
    CounterOutOfRange,
    OutcomeUnknown,
)

from tests.support.clients import make_client
from tests.support.counting import Counting
from tests.support.faults import Faults

TOP = 10**38 - 1


@pytest.fixture
def client(tables: dict[str, str]) -> Any:
    """Returns the client that counts, without retries."""
    return make_client("dynamodb", attempts=1)


@pytest.fixture
def store(client: Any, dynamodb: Any) -> Counting:
    return Counting(client, dynamodb)


@pytest.fixture
def lost(client: Any) -> Faults:
    """Faults of the client that counts."""
    return Faults(client)


def add(store: CounterStore, name: str = "hits", tenant: str = "acme", **more: Any) -> int:
    return counters.increment(store, tenant=tenant, name=name, **more).value


def value(store: CounterStore, name: str = "hits", tenant: str = "acme") -> int:
    return counters.read(store, tenant=tenant, name=name).value


# ---------------------------------------------------------------- one call after another


def test_counter_starts_at_zero_and_adds(store: Counting) -> None:
    assert value(store) == 0
    assert [add(store, by=by) for by in (1, 5, -2)] == [1, 6, 4]
    assert value(store) == 4


def test_tenants_and_names_do_not_share_a_counter(store: Counting) -> None:
    add(store)
    assert (value(store, tenant="other"), value(store, "hit"), value(store, "hits.0")) == (0, 0, 0)


def test_increment_and_read_take_one_call_each(
    store: Counting, lost: Faults, faults: Faults
) -> None:
    add(store)
    add(store)
    assert (lost.requests, faults.requests) == (["UpdateItem"] * 2, [])
    value(store)
    assert faults.requests == ["Query"]
    add(store, idempotency_key="k")
    assert faults.requests == ["Query", "TransactWriteItems", "Query"]


@pytest.mark.parametrize(
    ("bounds", "allowed"),
    [({"ceiling": 10}, [10, 9]), ({"floor": 5}, [5, 6]), ({"floor": 5, "ceiling": 9}, [5, 9])],
)
@pytest.mark.parametrize("key", [None, "k"])
def test_increment_ends_within_its_bounds_or_is_refused(
    store: Counting, bounds: dict[str, Any], allowed: list[int], key: str | None
) -> None:
    add(store, by=7)
    for number, target in enumerate([4, 5, 6, 9, 10, 11]):
        before = value(store)
        is_in = bounds.get("floor", 0) <= target <= bounds.get("ceiling", 99)
        call: dict[str, Any] = {
            "by": target - before,
            **bounds,
            **({"idempotency_key": f"{key}{number}"} if key else {}),
        }
        if is_in:
            assert add(store, **call) == target
        else:
            with pytest.raises(CounterLimit):
                add(store, **call)
            assert value(store) == before
    assert set(allowed) <= {4, 5, 6, 9, 10, 11}


@pytest.mark.parametrize("bounds", [{"floor": 2}, {"ceiling": 0}, {"by": -1, "floor": 0}])
@pytest.mark.parametrize("key", [{}, {"idempotency_key": "k"}])
def test_absent_counter_counts_as_zero_for_bounds(
    store: Counting, bounds: dict[str, Any], key: dict[str, Any]
) -> None:
    with pytest.raises(CounterLimit, match="is at 0"):
        add(store, **bounds, **key)
    assert value(store) == 0


def test_refusal_names_the_current_value(store: Counting) -> None:
    add(store, by=9)
    with pytest.raises(CounterLimit, match=r"is at 9; \+2"):
        add(store, by=2, ceiling=10)


@pytest.mark.parametrize("key", [{}, {"idempotency_key": "k"}])
@pytest.mark.parametrize("sign", [1, -1])
def test_counter_holds_38_digits_at_most(
    store: Counting, client: Any, sign: int, key: dict[str, str]
) -> None:
    add(store)
    client.update_item(
        TableName="CountersTable", Key={"pk": {"S": "acme/hits"}, "sk": {"S": "shard/0"}},
        UpdateExpression="SET #v = :v",
        ExpressionAttributeNames={"#v": "value"},
        ExpressionAttributeValues={":v": {"N": str(sign * (TOP - 1))}},
    )  # fmt: skip
    with pytest.raises(CounterOutOfRange):
        add(store, by=2 * sign, **key)
    assert add(store, by=sign) == sign * TOP
    with pytest.raises(CounterOutOfRange):
        add(store, by=sign, approximate=True)
    assert value(store) == sign * TOP


# ---------------------------------------------------------------- time to live


@pytest.mark.parametrize("way", [{}, {"approximate": True}, {"idempotency_key": "k"}])
def test_expired_counter_is_absent_before_ttl_has_deleted_it(
    store: Counting, dynamodb: Any, way: dict[str, Any]
) -> None:
    add(store, by=5, ttl_seconds=60)
    store.time.advance(59)
    assert value(store) == 5
    store.time.advance(1)
    assert value(store) == 0
    assert len(dynamodb.scan(TableName="CountersTable")["Items"]) == 1
    assert add(store, **way) == 1
    store.time.advance(3600)
    assert value(store) == 1  # created again, without a time to live


def test_each_increment_with_a_time_to_live_extends_it(store: Counting) -> None:
    add(store, ttl_seconds=60)
    store.time.advance(50)
    add(store)  # changes no time to live
    add(store, ttl_seconds=60)
    store.time.advance(59)
    assert value(store) == 3
    store.time.advance(1)
    assert add(store, ttl_seconds=5) == 1
    store.time.advance(5)
    assert value(store) == 0


def test_bounds_treat_an_expired_counter_as_zero(store: Counting) -> None:
    add(store, by=5, ttl_seconds=60)
    store.time.advance(60)
    with pytest.raises(CounterLimit, match="is at 0"):
        add(store, by=-1, floor=0)
    assert add(store, by=3, ceiling=3) == 3


def test_two_increments_that_find_the_counter_expired_both_count(
    store: Counting, client: Any, dynamodb: Any
) -> None:
    add(store, by=5, ttl_seconds=60)
    store.time.advance(60)
    other = Counting(client, dynamodb, prefix="other")
    other.time.advance(60)
    real = store._restart  # runs between the refusal and the put
    # An interleaving, not a fake.
    store._restart = lambda *args: (add(other), real(*args))[1]  # type: ignore[method-assign]
    assert add(store) == 2


# ---------------------------------------------------------------- once for each key


def test_key_counts_once_however_often_it_is_sent(store: Counting) -> None:
    assert [add(store, by=2, idempotency_key="k") for _ in range(3)] == [2, 2, 2]
    add(store)
    assert add(store, by=2, idempotency_key="k") == 3  # the value at or after this increment
    assert add(store, by=2, idempotency_key="k2") == 5


@pytest.mark.parametrize("other", [{"by": 3}, {"by": 2, "ceiling": 9}, {"by": 2, "ttl_seconds": 9}])
def test_key_with_another_step_is_rejected(store: Counting, other: dict[str, Any]) -> None:
    add(store, by=2, idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        add(store, idempotency_key="k", **other)
    assert value(store) == 2


def test_key_belongs_to_one_counter_of_one_tenant(store: Counting) -> None:
    assert [
        add(store, *where, idempotency_key="k")
        for where in (("hits", "acme"), ("hits", "other"), ("more", "acme"))
    ] == [1, 1, 1]


def test_key_expires_after_a_day_before_ttl_has_deleted_it(store: Counting) -> None:
    add(store, idempotency_key="k")
    store.time.advance(24 * 3600 - 1)
    assert add(store, idempotency_key="k") == 1
    store.time.advance(1)
    assert add(store, idempotency_key="k") == 2


@pytest.mark.parametrize("kind", ["before", "after", "late", "throttle", "error", "conflict"])
@pytest.mark.parametrize("times", [1, 3])
def test_keyed_increment_that_is_retried_after_a_fault_counts_once(
    store: Counting, faults: Faults, kind: str, times: int
) -> None:
    faults.on("TransactWriteItems", kind, times=times)
    try:
        add(store, idempotency_key="k")
    except StoreUnavailable:
        assert times == 3
    faults.plan = lambda operation, number: None
    faults.arrive()
    assert add(store, idempotency_key="k") == 1


# ---------------------------------------------------------------- lost answers


def test_increment_whose_answer_is_lost_counts_once(store: Counting, lost: Faults) -> None:
    lost.on("UpdateItem", "after")
    assert add(store) == 1
    assert value(store) == 1


def test_increment_that_was_never_sent_has_an_unknown_outcome_and_is_not_retried(
    store: Counting, lost: Faults
) -> None:
    lost.on("UpdateItem", "before")
    with pytest.raises(OutcomeUnknown):
        add(store)
    assert value(store) == 0
    assert lost.requests.count("UpdateItem") == 1


def test_outcome_of_an_increment_is_unknown_if_another_one_followed(
    store: Counting, lost: Faults, faults: Faults
) -> None:
    other = Counting(make_client("dynamodb", attempts=1), make_client("dynamodb"), prefix="other")
    lost.on("UpdateItem", "after")

    def plan(operation: str, number: int) -> None:
        if operation == "GetItem":  # between the lost answer and the read that would settle it
            add(other)

    faults.plan = plan
    with pytest.raises(OutcomeUnknown):
        add(store)
    assert value(store) == 2


def test_increments_without_a_nonce_do_not_make_an_outcome_unknown(
    store: Counting, lost: Faults, faults: Faults
) -> None:
    """Keyed and approximate increments, and those of jobs, keep the nonce of the one before."""
    other = Counting(make_client("dynamodb", attempts=1), make_client("dynamodb"), prefix="other")
    lost.on("UpdateItem", "after")

    def plan(operation: str, number: int) -> None:
        if operation == "GetItem":
            add(other, idempotency_key="k")
            add(other, approximate=True)

    faults.plan = plan
    assert add(store) == 3


def test_refused_increment_has_written_nothing(store: Counting, lost: Faults) -> None:
    lost.on("UpdateItem", "throttle")
    with pytest.raises(StoreUnavailable) as refusal:
        add(store)
    assert not isinstance(refusal.value, OutcomeUnknown)
    assert lost.requests == ["UpdateItem"]
    assert value(store) == 0


def test_server_error_is_settled_by_a_read(store: Counting, lost: Faults, faults: Faults) -> None:
    lost.on("UpdateItem", "error")
    with pytest.raises(OutcomeUnknown):
        add(store)
    assert (lost.requests, faults.requests) == (["UpdateItem"], ["GetItem"])


@pytest.mark.parametrize("mode", ["standard", "adaptive", "legacy"])
def test_plain_add_with_retries_of_the_sdk_counts_twice_in_every_mode(
    tables: dict[str, str], mode: str
) -> None:
    """Shows, as the control, why the client of a counter has its retries switched off."""
    import boto3
    from botocore.config import Config

    retries: Any = {"mode": mode, "total_max_attempts": 3}
    config = Config(retries=retries)
    retrying = boto3.client("dynamodb", config=config)  # noqa: TID251 - as anybody makes one
    Faults(retrying).on("UpdateItem", "after")
    add(Counting(retrying, retrying), approximate=True)
    assert value(Counting(retrying, retrying)) == 2


# ---------------------------------------------------------------- shards


class Turn:
    """Picks one shard after another."""

    def __init__(self) -> None:
        self.next = -1

    def __call__(self, shards: int) -> int:
        self.next = (self.next + 1) % shards
        return self.next


@pytest.fixture
def sharded(client: Any, dynamodb: Any) -> Counting:
    store = Counting(client, dynamodb, pick=Turn())
    counters.create_sharded(store, tenant="acme", name="hits", shards=4)
    return store


def shards(dynamodb: Any) -> list[int]:
    items = dynamodb.scan(TableName="CountersTable")["Items"]
    return [
        int(shard["value"]["N"])
        for shard in sorted(items, key=lambda item: item["sk"]["S"])
        if "shards" in shard
    ]


def test_sharded_counter_spreads_its_steps_and_sums_them(sharded: Counting, dynamodb: Any) -> None:
    assert value(sharded) == 0
    assert [add(sharded, by=by) for by in (1, 2, 3, 4, 5)] == [1, 3, 6, 10, 15]
    assert shards(dynamodb) == [6, 2, 3, 4]


def test_process_that_does_not_know_the_shards_reads_them_in_one_more_call(
    sharded: Counting, client: Any, dynamodb: Any, lost: Faults
) -> None:
    other = Counting(client, dynamodb, prefix="other")
    add(other)
    assert lost.requests == ["UpdateItem", "UpdateItem"]
    add(other)
    assert lost.requests == ["UpdateItem"] * 3


@pytest.mark.parametrize(
    "way",
    [{"floor": 0}, {"ceiling": 9}, {"ttl_seconds": 9}, {"ceiling": 9, "idempotency_key": "k"}],
)
def test_sharded_counter_supports_neither_bounds_nor_time_to_live(
    sharded: Counting, client: Any, dynamodb: Any, way: dict[str, Any]
) -> None:
    add(sharded)  # now it knows the shards
    for store in (sharded, Counting(client, dynamodb, prefix="other")):
        with pytest.raises(CounterIsSharded):
            add(store, **way)
    assert value(sharded) == 1


def test_key_counts_once_across_all_shards(sharded: Counting) -> None:
    assert [add(sharded, idempotency_key="k") for _ in range(3)] == [1, 1, 1]
    assert add(sharded, approximate=True) == 2


def test_lost_answer_of_a_shard_is_settled_by_reading_that_shard(
    sharded: Counting, lost: Faults
) -> None:
    add(sharded)
    lost.on("UpdateItem", "after")
    assert add(sharded) == 2


@pytest.mark.parametrize("shards", [1, 0, -2, 101, 2.5, 4.0, True, "4"])
def test_number_of_shards_that_cannot_be_is_rejected(dynamodb: Any, shards: Any) -> None:
    store = Counting(make_client("dynamodb", attempts=1), dynamodb)
    with pytest.raises(InvalidRequest, match="shards: must be a whole number from 2 to 100"):
        counters.create_sharded(store, tenant="acme", name="hits", shards=shards)


def test_number_of_shards_cannot_be_changed(sharded: Counting) -> None:
    # The same number as before.
    counters.create_sharded(sharded, tenant="acme", name="hits", shards=4)
    with pytest.raises(CounterExists):
        counters.create_sharded(sharded, tenant="acme", name="hits", shards=5)
    add(sharded, "plain")
    with pytest.raises(CounterExists):
        counters.create_sharded(sharded, tenant="acme", name="plain", shards=2)
    assert value(sharded, "plain") == 1


def test_expired_counter_can_be_created_again_with_shards(store: Counting) -> None:
    add(store, by=5, ttl_seconds=60)
    store.time.advance(60)
    counters.create_sharded(store, tenant="acme", name="hits", shards=2)
    assert add(store) == 1


@pytest.mark.parametrize("shards_after", [None, 2, 8])
def test_counter_that_was_created_again_with_other_shards_is_used_as_it_is(
    sharded: Counting, client: Any, dynamodb: Any, shards_after: int | None
) -> None:
    for _ in range(6):
        add(sharded)
    other = Counting(client, dynamodb, prefix="other")
    counters.delete(other, tenant="acme", name="hits")
    assert value(sharded) == 0
    if shards_after:
        counters.create_sharded(other, tenant="acme", name="hits", shards=shards_after)
    for _ in range(9):
        add(sharded)  # still expects four shards
    assert value(other) == 9
    assert all(
        ("shards" in item) == bool(shards_after)
        for item in dynamodb.scan(TableName="CountersTable")["Items"]
    )


def test_sharded_counter_of_the_most_shards_is_created_and_deleted(
    store: Counting, dynamodb: Any, faults: Faults
) -> None:
    counters.create_sharded(store, tenant="acme", name="hits", shards=100)
    assert faults.requests == ["TransactWriteItems"]
    counters.delete(store, tenant="acme", name="hits")
    assert faults.requests == ["TransactWriteItems", "DeleteItem", "TransactWriteItems"]
    assert dynamodb.scan(TableName="CountersTable")["Items"] == []


def test_increment_that_counted_and_whose_sum_cannot_be_read_must_not_be_retried(
    sharded: Counting, faults: Faults
) -> None:
    faults.refuse("Query", "ProvisionedThroughputExceededException")
    with pytest.raises(OutcomeUnknown):
        add(sharded)
    faults.plan = lambda operation, number: None
    assert value(sharded) == 1


def test_two_threads_that_first_read_the_shards_at_once_both_count(
    sharded: Counting, client: Any, dynamodb: Any, lost: Faults
) -> None:
    store = Counting(client, dynamodb, prefix="shared")
    others = [1]

    def meanwhile(operation: str, number: int) -> None:
        if others:
            others.pop()
            # Another thread, which reads the shards before this thread's request arrives.
            add(store)

    lost.plan = meanwhile
    assert add(store) == 2


def test_two_threads_that_find_a_deleted_counter_at_once_both_count(
    sharded: Counting, lost: Faults
) -> None:
    add(sharded)
    counters.delete(
        Counting(make_client("dynamodb"), make_client("dynamodb")), tenant="acme", name="hits"
    )
    others = [1]

    def meanwhile(operation: str, number: int) -> None:
        if others:
            others.pop()
            add(sharded)

    lost.plan = meanwhile
    assert add(sharded) == 2


def test_bounds_are_accepted_again_after_a_counter_lost_its_shards(
    sharded: Counting, client: Any, dynamodb: Any
) -> None:
    add(sharded)
    other = Counting(client, dynamodb, prefix="other")
    counters.delete(other, tenant="acme", name="hits")
    assert add(sharded, ceiling=5) == 1
    assert add(sharded, ceiling=5, idempotency_key="k") == 2


@pytest.mark.parametrize("way", [{}, {"idempotency_key": "k"}])
def test_increment_by_a_process_with_another_clock_is_not_deleted(
    store: Counting, client: Any, dynamodb: Any, way: dict[str, Any]
) -> None:
    add(store, by=5, ttl_seconds=10)
    ahead = Counting(client, dynamodb, prefix="ahead")
    ahead.time.advance(11)
    others = [1]

    def meanwhile(act: Any) -> Any:
        def acting(*args: Any) -> Any:
            if others:
                others.pop()
                add(store, ttl_seconds=100)  # by its clock, the counter has not expired
            return act(*args)

        return acting

    ahead._clear = meanwhile(ahead._clear)  # type: ignore[method-assign]  # an interleaving
    ahead._restart = meanwhile(ahead._restart)  # type: ignore[method-assign]
    add(ahead, **way)
    assert value(store) == 7


# ---------------------------------------------------------------- other rules


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"by": 0.5}, "by"),
        ({"by": True}, "by"),
        ({"by": 10**31}, "by"),
        ({"floor": 10**38}, "floor"),
        ({"ceiling": 1.0}, "ceiling"),
        ({"floor": 2, "ceiling": 1}, "floor"),
        ({"ttl_seconds": 0}, "ttl_seconds"),
    ],
)
def test_invalid_increment_is_rejected_before_it_is_sent(
    store: Counting, lost: Faults, wrong: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest, match=field):
        add(store, **wrong)
    assert lost.requests == []


def test_deleted_counter_is_zero_and_its_keys_are_kept(store: Counting, faults: Faults) -> None:
    add(store, by=5, idempotency_key="k")
    faults.requests.clear()
    counters.delete(store, tenant="acme", name="hits")
    assert faults.requests == ["DeleteItem"]
    assert value(store) == 0
    assert add(store, by=5, idempotency_key="k") == 0  # it was counted, and deleted
    counters.delete(store, tenant="acme", name="never-was")


def test_many_counters_are_read_in_one_call(sharded: Counting, faults: Faults) -> None:
    for name in ("a", "b"):
        add(sharded, name)
    add(sharded, by=3)
    faults.requests.clear()
    read = counters.read_many(sharded, tenant="acme", names=["b", "hits", "absent", "a", "b"])
    assert [(counter.name, counter.value) for counter in read] == [
        ("b", 1),
        ("hits", 3),
        ("absent", 0),
        ("a", 1),
        ("b", 1),
    ]
    assert faults.requests == ["BatchGetItem", "Query"]


def test_health_check_reads_the_table(store: Counting, faults: Faults) -> None:
    store.ping()
    faults.refuse("GetItem", "ProvisionedThroughputExceededException")
    with pytest.raises(StoreUnavailable):
        store.ping()
