"""Limits on moto: edges, bounds, calls.

References are in test_limit_references.py. `time` is the store's own clock.
"""

from typing import Any

import pytest
from mayfly import limits
from mayfly.aws.dynamodb import DynamoDB, RequestRefused
from mayfly.core.errors import InvalidRequest, StoreUnavailable
from mayfly.jobs import Effects
from mayfly.limits import Algorithm, Limit
from mayfly.limits.errors import QuotaExceeded

from tests.support.counting import counted
from tests.support.fakes import FixedClock
from tests.support.faults import Faults
from tests.support.jobs import new_effects
from tests.support.limiting import EDGE_MS, Limiting

FIXED = Limit("l", 3, 10, Algorithm.FIXED)
SLIDING = Limit("l", 3, 10, Algorithm.SLIDING)
GCRA = Limit("l", 3, 10)
every = pytest.mark.parametrize("limit", [FIXED, SLIDING, GCRA], ids=lambda limit: limit.algorithm)


@pytest.fixture
def store(dynamodb: Any) -> Limiting:
    return Limiting(dynamodb)


# ---------------------------------------------------------------- edges


def test_fixed_window_starts_again_at_its_edge_and_not_a_millisecond_earlier(
    store: Limiting,
) -> None:
    assert [store.takes(FIXED) for _ in range(4)] == [True, True, True, False]
    store.time.now_ms += 9_999
    assert not store.takes(FIXED)
    store.time.now_ms += 1
    assert [store.takes(FIXED) for _ in range(4)] == [True, True, True, False]


def test_sliding_window_admits_more_as_the_last_window_leaves_it(store: Limiting) -> None:
    assert [store.takes(SLIDING) for _ in range(4)] == [True, True, True, False]
    store.time.now_ms += 10_000  # 3 x 10/10
    assert not store.takes(SLIDING)
    store.time.now_ms += 1  # 3 x 9.999/10, rounded down
    assert [store.takes(SLIDING) for _ in range(2)] == [True, False]
    store.time.now_ms += 3_333  # 3 x 6.666/10
    assert [store.takes(SLIDING) for _ in range(2)] == [True, False]


def test_burst_is_admitted_immediately_and_then_one_by_one(store: Limiting) -> None:
    limit = Limit("l", 10, 10, burst=2)
    assert [store.takes(limit) for _ in range(3)] == [True, True, False]
    store.time.now_ms += 999
    assert not store.takes(limit)
    store.time.now_ms += 1
    assert [store.takes(limit) for _ in range(2)] == [True, False]
    store.time.now_ms += 60_000  # no more than the burst is saved up
    assert [store.takes(limit) for _ in range(3)] == [True, True, False]


@every
def test_refused_request_is_admitted_at_its_retry_time_and_not_before(
    store: Limiting, limit: Limit
) -> None:
    for ahead, cost in ((0, 2), (300, 1), (700, 2), (10_000, 3), (1, 1), (4_000, 2)):
        store.time.now_ms += ahead
        decision = limits.take(store, limit, tenant="acme", key="k", cost=cost)
        if decision.is_allowed:
            continue
        now_ms = store.time.now_ms
        store.time.now_ms = now_ms + decision.reset_ms - 1
        assert not store.takes(limit, cost)
        store.time.now_ms += 1
        assert store.takes(limit, cost)
        assert decision.reset_seconds * 1000 >= decision.reset_ms > 0


@every
def test_remaining_share_can_be_taken_and_no_more(store: Limiting, limit: Limit) -> None:
    first = limits.take(store, limit, tenant="acme", key="k")
    assert (first.is_allowed, first.remaining) == (True, 2)
    assert not store.takes(limit, 3)
    second = limits.take(store, limit, tenant="acme", key="k", cost=2)
    assert (second.is_allowed, second.remaining) == (True, 0)
    store.time.now_ms += second.reset_ms
    assert limits.take(store, limit, tenant="acme", key="k").remaining == 2


@pytest.mark.parametrize("key", ["", "x" * 129, "a\nb", "\ud800"])
def test_malformed_key_is_rejected_even_with_fail_open(store: Limiting, key: str) -> None:
    @limits.limited(lambda: store, GCRA, tenant="acme", key=lambda name: name, fail_open=True)
    def greet(name: str) -> str:
        return f"hello {name}"

    with pytest.raises(InvalidRequest, match="key"):
        greet(key)


def test_missing_permission_is_an_error_even_with_fail_open(
    store: Limiting, faults: Faults
) -> None:
    faults.refuse("UpdateItem", "AccessDeniedException")

    @limits.limited(lambda: store, GCRA, tenant="acme", key=lambda: "k", fail_open=True)
    def greet() -> str:
        return "hello"

    with pytest.raises(RequestRefused):
        greet()


def test_job_takes_from_the_window_in_which_it_returns(dynamodb: Any) -> None:
    clock = FixedClock(EDGE_MS)
    jobs = [new_effects(clock) for _ in range(4)]
    for effects in jobs:
        effects.take(FIXED, "ada")
        clock.advance(10)  # each job describes it in a window of its own, and all return in one
    committed = 0
    for effects in jobs:
        try:
            dynamodb.transact_write_items(
                TransactItems=[effect.write for effect in effects.collected()]
            )
            committed += 1
        except dynamodb.exceptions.TransactionCanceledException:
            pass
    assert committed == 3


def test_requests_of_one_limit_and_key_add_up(dynamodb: Any) -> None:
    found = new_effects(lambda: EDGE_MS)
    found.take(FIXED, "ada")
    found.take(FIXED, "ada", 2)
    assert len(found.collected()) == 1
    with pytest.raises(InvalidRequest, match="cost"):
        found.take(FIXED, "ada")


@every
def test_keys_names_and_tenants_have_separate_shares(store: Limiting, limit: Limit) -> None:
    assert store.takes(limit, 3)
    assert not store.takes(limit)
    assert store.takes(limit, 3, key="other")
    assert store.takes(limit, 3, key="k/other")
    assert store.takes(limit, 3, tenant="other")
    assert store.takes(Limit("other", 3, 10, limit.algorithm), 3)


@pytest.mark.parametrize(
    ("limit", "cost", "field"),
    [
        (Limit("a b", 1, 1), 1, "name"),
        (Limit("l", 0, 1), 1, "limit"),
        (Limit("l", 10**9 + 1, 1), 1, "limit"),
        (Limit("l", 1, 0), 1, "period_seconds"),
        (Limit("l", 1, 1, burst=0), 1, "burst"),
        (Limit("l", 1, 1, Algorithm.FIXED, burst=1), 1, "burst"),
        (Limit("l", 1, 366 * 24 * 3600, burst=2), 1, "burst"),
        (Limit("l", 3, 1), -1, "cost"),
        (Limit("l", 3, 1), 1.0, "cost"),
        (Limit("l", 3, 1), True, "cost"),
        (Limit("l", 1.5, 1), 1, "limit"),  # type: ignore[arg-type]
        (Limit("l", 3, 0.5), 1, "period_seconds"),  # type: ignore[arg-type]
        (Limit("l", 3, "1"), 1, "period_seconds"),  # type: ignore[arg-type]
        (Limit("l", 3, 1, burst=2.5), 1, "burst"),  # type: ignore[arg-type]
        (Limit("l", 3, 1, "fixed"), 1, "algorithm"),  # type: ignore[arg-type]
        (Limit("l", 3, 1, "leaky"), 1, "algorithm"),  # type: ignore[arg-type]
        (Limit("l", 3, 1), 4, "cost"),
        (Limit("l", 3, 1, burst=5), 6, "cost"),
    ],
)
def test_invalid_limit_is_rejected(store: Limiting, limit: Limit, cost: int, field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        store.takes(limit, cost)
    with pytest.raises(InvalidRequest, match=field):
        limits.read(store, limit, tenant="acme", key="k", cost=cost)


@pytest.mark.parametrize(
    "limit",
    [Limit("a b", 1, 1), Limit("l", 0, 1), Limit("l", 1, 1.5)],  # type: ignore[arg-type]
    ids=str,
)
def test_decorator_of_an_invalid_limit_is_refused_where_it_is_made(
    store: Limiting, limit: Limit
) -> None:
    with pytest.raises(ValueError, match=r"name|limit|period_seconds"):
        limits.limited(lambda: store, limit, tenant="acme", key=lambda: "k", fail_open=True)


@pytest.mark.parametrize("requests_a_minute", [0, -1, 1.5, 10**9 + 1])
def test_quota_that_no_limit_can_have_is_refused_where_it_is_made(
    store: Limiting, requests_a_minute: int
) -> None:
    with pytest.raises(ValueError, match="requests_a_minute"):
        limits.quota(store, requests_a_minute)


# ---------------------------------------------------------------- looks and resets


@every
def test_look_takes_nothing_and_shows_what_is_left(
    store: Limiting, faults: Faults, limit: Limit
) -> None:
    assert _look(store, limit) == (True, 3, 0)
    store.takes(limit, 2)
    faults.requests.clear()
    assert [_look(store, limit)[:2] for _ in range(3)] == [(True, 1)] * 3
    assert faults.requests == ["GetItem"] * 3
    store.takes(limit)
    allowed, remaining, reset_ms = _look(store, limit)
    assert (allowed, remaining, reset_ms > 0) == (False, 0, True)
    store.time.now_ms += 20_000
    assert _look(store, limit) == (True, 3, 0)


@every
def test_look_sees_what_another_process_has_taken(
    store: Limiting, dynamodb: Any, limit: Limit
) -> None:
    store.takes(limit)
    Limiting(dynamodb, store.time).takes(limit, 2)
    assert _look(store, limit)[:2] == (False, 0)


@every
def test_take_of_nothing_is_a_look(store: Limiting, faults: Faults, limit: Limit) -> None:
    store.takes(limit, 3)
    faults.requests.clear()
    decision = limits.take(store, limit, tenant="acme", key="k", cost=0)
    assert (decision.is_allowed, decision.remaining, faults.requests) == (True, 0, ["GetItem"])
    fewer = Limit(limit.name, 1, limit.period_seconds, limit.algorithm)
    assert not limits.take(store, fewer, tenant="acme", key="k", cost=0).is_allowed


def test_take_of_nothing_from_several_limits_shows_the_tightest(
    store: Limiting, faults: Faults
) -> None:
    limits.take_all(store, [SECOND, DAY], tenant="acme", key="k", cost=2)
    faults.requests.clear()
    decision = limits.take_all(store, [SECOND, DAY], tenant="acme", key="k", cost=0)
    assert (decision.limit.name, decision.remaining) == ("second", 0)
    assert set(faults.requests) == {"GetItem"}


@pytest.mark.parametrize("cost", [0, -1])
def test_job_cannot_take_nothing_or_give_back(cost: int) -> None:
    effects = new_effects(lambda: EDGE_MS)
    effects.take(FIXED, "ada", 2)
    with pytest.raises(InvalidRequest, match="cost"):
        effects.take(FIXED, "ada", cost)


@every
def test_reset_frees_the_whole_limit_of_one_key(store: Limiting, limit: Limit) -> None:
    assert store.takes(limit, 3)
    assert store.takes(limit, 3, key="other")
    assert not store.takes(limit)
    limits.reset(store, limit, tenant="acme", key="k")
    assert store.takes(limit, 3)  # immediately, although this process has just refused
    assert not store.takes(limit)
    assert not store.takes(limit, key="other")
    limits.reset(store, limit, tenant="acme", key="k")
    assert _look(store, limit) == (True, 3, 0)


def test_look_at_a_sliding_window_shows_when_all_of_it_is_free(store: Limiting) -> None:
    store.takes(SLIDING)
    assert _look(store, SLIDING) == (True, 2, 20_000)
    store.time.now_ms += 9_999
    assert _look(store, SLIDING) == (True, 2, 10_001)
    store.time.now_ms += 1  # now it is the last window
    assert _look(store, SLIDING) == (True, 2, 10_000)
    store.time.now_ms += 1  # 0.9999 of one, rounded down
    assert _look(store, SLIDING) == (True, 3, 9_999)
    store.time.now_ms += 9_999
    assert _look(store, SLIDING) == (True, 3, 0)


@every
def test_reset_of_a_limit_that_was_never_used_changes_nothing(
    store: Limiting, limit: Limit
) -> None:
    limits.reset(store, limit, tenant="acme", key="k")
    assert store.takes(limit, 3)


@every
def test_other_processes_see_a_reset_after_a_second(
    store: Limiting, dynamodb: Any, limit: Limit
) -> None:
    """A process may refuse for a second by what it saw last, and admits as if it had seen it."""
    other = Limiting(dynamodb, store.time)
    assert other.takes(limit, 3)
    assert not other.takes(limit)
    limits.reset(store, limit, tenant="acme", key="k")
    store.time.now_ms += 999
    assert not other.takes(limit)
    store.time.now_ms += 1
    assert [other.takes(limit) for _ in range(4)] == [True, True, True, False]


@every
def test_several_limits_see_a_reset_after_a_second(
    store: Limiting, dynamodb: Any, limit: Limit
) -> None:
    other = Limiting(dynamodb, store.time)

    def takes() -> bool:
        return limits.take_all(other, [limit, MANY], tenant="acme", key="k").is_allowed

    assert [takes() for _ in range(4)] == [True, True, True, False]
    limits.reset(store, limit, tenant="acme", key="k")
    assert not takes()
    store.time.now_ms += 1000
    assert [takes() for _ in range(4)] == [True, True, True, False]


@every
def test_refusal_of_a_used_up_limit_costs_a_write_a_second(
    store: Limiting, faults: Faults, limit: Limit
) -> None:
    store.takes(limit, 3)
    store.takes(limit)
    faults.requests.clear()
    for _ in range(10):
        store.time.now_ms += 300
        assert not store.takes(limit)
    assert faults.requests == ["UpdateItem"] * 2


class Slow(Limiting):
    """Limits whose clock moves by more than a second with each call to the store."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self._db = _SlowDynamoDB(client, self.time)


class _SlowDynamoDB(DynamoDB):
    def __init__(self, client: Any, clock: FixedClock) -> None:
        super().__init__(client, lambda attempt: None)
        self._time = clock

    def _call(self, *args: Any, **request: Any) -> Any:
        self._time.now_ms += 1_200
        return super()._call(*args, **request)


@pytest.mark.parametrize("several", [False, True], ids=["one limit", "several"])
@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_used_up_limit_refuses_although_the_store_takes_more_than_a_second(
    dynamodb: Any, algorithm: Algorithm, several: bool
) -> None:
    limit, store = Limit("l", 3, 100_000, algorithm), Slow(dynamodb)
    assert store.takes(limit, 3)
    if several:
        assert not limits.take_all(store, [limit, MANY], tenant="acme", key="k").is_allowed
    else:
        assert not store.takes(limit)


@every
def test_clock_that_steps_back_does_not_prolong_a_refusal(
    store: Limiting, dynamodb: Any, limit: Limit
) -> None:
    store.time.now_ms += 50_000
    store.takes(limit, 3)
    assert not store.takes(limit)
    limits.reset(Limiting(dynamodb, store.time), limit, tenant="acme", key="k")
    store.time.now_ms -= 1
    if limit is not FIXED:  # its window is another one
        assert store.takes(limit)


def _look(store: Limiting, limit: Limit) -> tuple[bool, int, int]:
    decision = limits.read(store, limit, tenant="acme", key="k")
    return decision.is_allowed, decision.remaining, decision.reset_ms


# ---------------------------------------------------------------- clocks, losses


@every
def test_processes_with_clocks_a_minute_apart_admit_no_more_than_the_bound(
    dynamodb: Any, limit: Limit
) -> None:
    """Simulates two processes; the second one's clock is a minute ahead.

    Each takes four times a second for five minutes of real time.
    """
    behind, ahead = (
        Limiting(dynamodb, FixedClock(EDGE_MS)),
        Limiting(dynamodb, FixedClock(EDGE_MS + 60_000)),
    )
    seconds, admitted = 150, 0
    for _ in range(seconds * 2):
        for store in (behind, ahead):
            admitted += store.takes(limit) + store.takes(limit)
            store.time.now_ms += 500
    windows = (seconds + 60) // limit.period_seconds + 1
    bound = {
        Algorithm.FIXED: 3 * windows,
        Algorithm.SLIDING: 3 * windows + windows,
        Algorithm.GCRA: 3 + 3 * (seconds + 60) // 10,
    }
    assert admitted <= bound[limit.algorithm]
    assert admitted >= 0.7 * 3 * seconds / 10


@pytest.mark.parametrize("kind", ["before", "after", "late", "error", "throttle"])
@every
def test_lost_answers_admit_no_more(
    store: Limiting, faults: Faults, limit: Limit, kind: str
) -> None:
    faults.plan = lambda operation, number: kind if number % 3 == 2 else None
    admitted = sum(store.takes(limit) for _ in range(6))
    faults.plan = lambda operation, number: None
    faults.arrive()
    assert 1 <= admitted <= 3
    assert not store.takes(limit) or admitted < 3


# ---------------------------------------------------------------- calls


@every
def test_admission_is_one_write_and_a_known_refusal_is_none(
    store: Limiting, faults: Faults, limit: Limit
) -> None:
    assert [store.takes(limit) for _ in range(3)] == [True] * 3
    assert faults.requests == ["UpdateItem"] * 3
    assert [store.takes(limit) for _ in range(5)] == [False] * 5
    assert faults.requests == ["UpdateItem"] * 3


@every
def test_process_without_a_cached_state_decides_in_two_writes_at_most(
    store: Limiting, dynamodb: Any, faults: Faults, limit: Limit
) -> None:
    store.takes(limit)
    faults.requests.clear()
    assert Limiting(dynamodb, store.time).takes(limit, 2)
    assert len(faults.requests) <= 2
    faults.requests.clear()
    assert not Limiting(dynamodb, store.time).takes(limit)
    assert faults.requests == ["UpdateItem"]


# ---------------------------------------------------------------- several limits at once


MANY = Limit("many", 1000, 10)
SECOND, DAY = Limit("second", 2, 1, Algorithm.FIXED), Limit("day", 3, 86_400, Algorithm.SLIDING)


def test_several_limits_admit_together_or_not_at_all(store: Limiting) -> None:
    def takes(cost: int = 1) -> Any:
        return limits.take_all(store, [SECOND, DAY], tenant="acme", key="k", cost=cost)

    assert [takes().is_allowed for _ in range(3)] == [True, True, False]
    store.time.advance(1)
    refused = takes(2)
    assert (refused.is_allowed, refused.limit.name) == (False, "day")
    assert takes().is_allowed  # the refusals took nothing
    last = takes()
    assert (last.is_allowed, last.limit.name, last.remaining) == (False, "day", 0)


def test_several_limits_are_one_transaction_and_a_read(store: Limiting, faults: Faults) -> None:
    assert limits.take_all(store, [SECOND, DAY, GCRA], tenant="acme", key="k").is_allowed
    assert faults.requests == ["TransactWriteItems", "BatchGetItem"]


@pytest.mark.parametrize("kind", ["conflict", "throttle", "error", "before"])
def test_several_limits_are_retried_after_a_conflict(
    store: Limiting, faults: Faults, kind: str
) -> None:
    faults.on("TransactWriteItems", kind, times=2)
    assert limits.take_all(store, [SECOND, DAY], tenant="acme", key="k").is_allowed
    assert limits.take(store, SECOND, tenant="acme", key="k").remaining == 0


def test_several_limits_need_different_names(store: Limiting) -> None:
    for wrong in ([], [GCRA, GCRA], [FIXED, SLIDING]):
        with pytest.raises(InvalidRequest, match="names"):
            limits.take_all(store, wrong, tenant="acme", key="k")


# ---------------------------------------------------------------- decorator


@pytest.mark.parametrize("fail_open", [True, False])
def test_decorator_admits_as_many_calls_as_the_limit(
    store: Limiting, faults: Faults, fail_open: bool
) -> None:
    def whose(name: str, *, loud: bool = False) -> str:
        return name

    @limits.limited(lambda: store, GCRA, tenant="acme", key=whose, fail_open=fail_open)
    def greet(name: str, *, loud: bool = False) -> str:
        """Greets."""
        return f"hello {name}{'!' * loud}"

    assert [greet("ada"), greet("ada", loud=True), greet("ada")] == [
        "hello ada",
        "hello ada!",
        "hello ada",
    ]
    with pytest.raises(QuotaExceeded) as refusal:
        greet("ada")
    assert (
        refusal.value.policy,
        refusal.value.limit,
        refusal.value.remaining,
        refusal.value.reset_seconds,
    ) == ("l", 3, 0, 4)
    assert greet("grace") == "hello grace"
    assert greet.__doc__ == "Greets."
    faults.refuse("UpdateItem", "ProvisionedThroughputExceededException")
    if fail_open:
        assert greet("lin") == "hello lin"
    else:
        with pytest.raises(StoreUnavailable):
            greet("lin")


# ---------------------------------------------------------------- as an effect of a job


def test_job_takes_from_a_fixed_window_in_its_own_transaction(dynamodb: Any) -> None:
    def effects() -> Effects:
        return new_effects(lambda: EDGE_MS)

    def commit(cost: int) -> None:
        found = effects()
        found.increment("mails")
        found.take(FIXED, "ada", cost)
        dynamodb.transact_write_items(TransactItems=[effect.write for effect in found.collected()])

    commit(2)
    with pytest.raises(
        dynamodb.exceptions.TransactionCanceledException, match="None, ConditionalCheckFailed"
    ):
        commit(2)
    commit(1)
    assert counted(dynamodb, "CountersTable", "mails") == 2
    assert not Limiting(dynamodb).takes(FIXED, key="ada")
    for limit in (GCRA, SLIDING):
        with pytest.raises(InvalidRequest, match="fixed window"):
            effects().take(limit, "ada")
    with pytest.raises(InvalidRequest, match="cost"):
        effects().take(FIXED, "ada", cost=4)
