"""Several jobs in one transaction: how they are grouped, and that no failure costs another job."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.authoring.effects import Effect, Effects
from mayfly.jobs.errors import Contended, EffectRefused, StaleWrite
from mayfly.jobs.group_commit import Member, plan
from mayfly.jobs.model import Job, Status
from mayfly.jobs.store import JobStore

from tests.conftest import WORKERS, make_tables
from tests.support.counting import counted
from tests.support.faults import Faults
from tests.support.stage import Stage

NOW = 1_800_000_000_000
_prefixes = (f"group{number}-" for number in itertools.count())


class Bench:
    """Claimed jobs, and what they commit."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.tables = make_tables(client, next(_prefixes), only=WORKERS)
        self.pauses: list[int] = []
        self.store = JobStore(DynamoDB(client, self.pauses.append), self.tables["JobsTable"])
        self.faults = Faults(client, on_moto=False)
        self.sending: list[Any] = []
        self.sent: list[str] = []

    def member(self, name: str, effects: Callable[[Effects], None] | None = None) -> Member:
        self.store.create(Job(name, "acme", "t", None, Status.QUEUED, 3, NOW, "f"))
        job = self.store.claim(
            "acme", name, nonce=f"{self.tables['JobsTable']}-{name}", now_ms=NOW, lease_ms=15_000
        )
        collected = Effects(
            "acme",
            counters_table=self.tables["CountersTable"],
            serialize=_serialize,
            follow_up=lambda *_: [],
            checkpoint=lambda *_: None,
            seconds_left=lambda: 60.0,
            clock=lambda: NOW,
        )
        (effects or (lambda each: each.increment("n")))(collected)
        return Member(
            "acme",
            name,
            job.owner or "",
            self.store.completion(job, result="1", now_ms=NOW),
            collected.collected(),
        )

    def members(self, count: int, effects: Callable[[Effects], None] | None = None) -> list[Member]:
        return [self.member(f"j{number}", effects) for number in range(count)]

    def commit(self, members: list[Member]) -> list[str]:
        self.faults.requests.clear()
        outcomes = [
            type(failure).__name__ if failure else "committed"
            for failure in self.store.commit_many(members)
        ]
        self.sent = list(self.faults.requests)
        return outcomes

    def count(self, name: str = "n") -> int:
        return counted(self.client, self.tables["CountersTable"], name)

    def completed(self) -> list[str]:
        items = self.client.scan(TableName=self.tables["JobsTable"], ConsistentRead=True)["Items"]
        return sorted(item["id"]["S"] for item in items if item["status"]["S"] == "COMPLETED")


def _serialize(value: Any) -> Any:
    from boto3.dynamodb.types import TypeSerializer

    return TypeSerializer().serialize(value)


@pytest.fixture
def bench(embedded: Any) -> Bench:
    return Bench(embedded)


NAMES = [f"j{number}" for number in range(10)]


# ---------------------------------------------------------------- how jobs are grouped


def writes_of(bench: Bench, *effects: Callable[[Effects], None]) -> list[list[int]]:
    """Returns the members' numbers for each transaction of the plan."""
    members = [bench.member(f"j{number}", each) for number, each in enumerate(effects)]
    return [[members.index(member) for member in group.members] for group in plan(members)]


def test_increments_of_one_counter_are_one_write_with_their_sum(bench: Bench) -> None:
    def add(number: int) -> Callable[[Effects], None]:
        return lambda effects: effects.increment("n", number)

    members = [bench.member(f"j{number}", add(number)) for number in range(1, 5)]
    (group,) = plan(members)
    assert len(group.writes) == 5
    assert [write.effect.adds for write in group.writes if write.effect.adds] == [10]
    assert bench.commit(members) == ["committed"] * 4
    assert (bench.count(), bench.sent) == (10, ["TransactWriteItems"])


def condition_on(name: str) -> Callable[[Effects], None]:
    return lambda effects: effects.update(
        "Shelf", {"id": name}, "ADD n :one", values={":one": 1}, condition="attribute_exists(id)"
    )


def test_second_write_to_an_item_is_in_the_next_transaction(bench: Bench) -> None:
    a, b = condition_on("a"), condition_on("b")
    assert writes_of(bench, a, b, a, b, a) == [[0, 1], [2, 3], [4]]


def test_put_and_update_of_one_item_are_recognised_by_the_key_in_the_item(bench: Bench) -> None:
    def put(effects: Effects) -> None:
        effects.put("Shelf", {"id": "a", "n": 1})

    assert writes_of(bench, put, condition_on("a"), condition_on("b")) == [[0, 2], [1]]


def test_increment_never_shares_a_transaction_with_another_write_of_its_counter(
    bench: Bench,
) -> None:
    key = {"pk": "acme/n", "sk": "shard/0"}
    table = bench.tables["CountersTable"]

    def check(effects: Effects) -> None:
        effects.check(table, key, "attribute_exists(pk)")

    add: Callable[[Effects], None] = lambda effects: effects.increment("n")  # noqa: E731
    assert writes_of(bench, add, check, add) == [[0, 2], [1]]


def test_no_transaction_has_more_than_a_hundred_items(bench: Bench) -> None:
    def many(name: str, count: int) -> Callable[[Effects], None]:
        def add(effects: Effects) -> None:
            for each in range(count):
                effects.increment(f"{name}{each}")

        return add

    assert writes_of(bench, *(many(f"c{number}-", 40) for number in range(5)), many("d", 99)) == [
        [0, 1],
        [2, 3],
        [4],
        [5],
    ]


def test_no_transaction_exceeds_the_size_limit_of_dynamodb(bench: Bench) -> None:
    def big(number: int) -> Callable[[Effects], None]:
        return lambda effects: effects.put(
            "Shelf", {"id": str(number), "x": "x" * 300_000, "b": b"x" * 90_000}
        )

    assert [len(group) for group in writes_of(bench, *(big(number) for number in range(12)))] == [
        8,
        4,
    ]


# ---------------------------------------------------------------- members that fail


def test_member_that_lost_its_job_does_not_affect_the_others(bench: Bench) -> None:
    members = bench.members(10)
    bench.store.claim("acme", "j4", nonce="other", now_ms=NOW + 16_000, lease_ms=15_000)
    outcomes = bench.commit(members)
    assert outcomes == ["committed"] * 4 + ["StaleWrite"] + ["committed"] * 5
    assert (bench.count(), bench.completed()) == (9, [name for name in NAMES if name != "j4"])
    assert bench.sent == ["TransactWriteItems"] * 2


def test_members_whose_effects_are_refused_do_not_affect_the_others(bench: Bench) -> None:
    def needs_what_is_not_there(effects: Effects) -> None:
        effects.increment("n")
        effects.check(
            bench.tables["CountersTable"],
            {"pk": "acme/door", "sk": "shard/0"},
            "attribute_exists(pk)",
        )

    members = [
        bench.member(name, needs_what_is_not_there if name in ("j2", "j7") else None)
        for name in NAMES
    ]
    outcomes = bench.commit(members)
    assert [
        name for name, each in zip(NAMES, outcomes, strict=True) if each == "EffectRefused"
    ] == ["j2", "j7"]
    assert (bench.count(), len(bench.completed())) == (8, 8)


def test_member_that_cannot_be_sent_fails_alone(bench: Bench) -> None:
    def malformed(effects: Effects) -> None:
        effects.increment("n")
        effects.update(
            bench.tables["CountersTable"], {"pk": "a", "sk": "b"}, "this is no expression"
        )

    members = [bench.member(name, malformed if name == "j3" else None) for name in NAMES]
    outcomes = bench.commit(members)
    assert [name for name, each in zip(NAMES, outcomes, strict=True) if each != "committed"] == [
        "j3"
    ]
    assert outcomes[3] == "EffectRefused"
    assert (bench.count(), len(bench.completed())) == (9, 9)


def test_members_of_a_refused_shared_increment_are_committed_alone(
    bench: Bench,
) -> None:
    """The sum may leave the range of a number.

    The emulator does not check the range, so the refusal is injected.
    """
    members = bench.members(10)
    bench.faults.cancel("None", "ValidationError", *["None"] * 9)
    assert bench.commit(members) == ["committed"] * 10
    assert (bench.sent, bench.count()) == (["TransactWriteItems"] * 11, 10)


def test_worker_that_lost_its_job_gets_that_error_and_not_the_one_of_its_effects(
    bench: Bench,
) -> None:
    def refused(effects: Effects) -> None:
        effects.check(
            bench.tables["CountersTable"],
            {"pk": "acme/door", "sk": "shard/0"},
            "attribute_exists(pk)",
        )

    member = bench.member("j0", refused)
    bench.store.claim("acme", "j0", nonce="other", now_ms=NOW + 16_000, lease_ms=15_000)
    assert isinstance(bench.store.commit_many([member])[0], StaleWrite)


# ---------------------------------------------------------------- conflicts


def own_counters(bench: Bench) -> list[Member]:
    def add(name: str) -> Callable[[Effects], None]:
        return lambda effects: effects.increment(name)

    return [bench.member(name, add(name)) for name in NAMES]


def reasons_for(members: list[Member], *hit: int) -> list[str]:
    """Returns one reason for each write of a group in which every member has its own counter."""
    return [
        code
        for index in range(len(members))
        for code in ("None", "TransactionConflict" if index in hit else "None")
    ]


def test_members_with_a_conflict_are_retried_alone_and_the_others_do_not_wait(bench: Bench) -> None:
    members = own_counters(bench)
    bench.faults.cancel(*reasons_for(members, 3, 8))
    assert bench.commit(members) == ["committed"] * 10
    # All ten, with conflicts; the other eight, immediately; the two, after a pause.
    assert (bench.sent, bench.pauses) == (["TransactWriteItems"] * 3, [1])
    assert (len(bench.completed()), sum(bench.count(name) for name in NAMES)) == (10, 10)


def test_conflict_on_a_shared_counter_is_retried_by_all_with_a_new_token(
    bench: Bench,
) -> None:
    tokens: list[str] = []
    bench.client.meta.events.register(
        "provide-client-params.dynamodb.TransactWriteItems",
        lambda params, **_: tokens.append(params["ClientRequestToken"]),
    )
    members = bench.members(10)
    bench.faults.cancel("None", "TransactionConflict", *["None"] * 9)
    assert bench.commit(members) == ["committed"] * 10
    assert (len(set(tokens)), bench.pauses, bench.count()) == (2, [1], 10)


def test_endless_conflicts_affect_only_the_members_that_have_them(bench: Bench) -> None:
    members = own_counters(bench)
    hot = {"pk": {"S": "acme/j3"}, "sk": {"S": "shard/0"}}

    def plan(operation: str, number: int) -> str | None:
        items = bench.sending
        keys = [write["Update"]["Key"] for write in items]
        if hot not in keys:
            return None
        bench.faults._reasons = tuple(
            "TransactionConflict" if key == hot else "None" for key in keys
        )
        return "cancel"

    bench.client.meta.events.register(
        "provide-client-params.dynamodb.TransactWriteItems",
        lambda params, **_: setattr(bench, "sending", params["TransactItems"]),
    )
    bench.faults.plan = plan
    outcomes = bench.store.commit_many(members)
    bench.faults.plan = lambda operation, number: None
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 3 + [Contended] + [
        type(None)
    ] * 6
    assert bench.completed() == [name for name in NAMES if name != "j3"]


# ---------------------------------------------------------------- lost answers


@pytest.mark.parametrize("kind", ["before", "after", "throttle", "error"])
def test_call_that_fails_once_commits_every_member_once(bench: Bench, kind: str) -> None:
    members = bench.members(10)
    bench.faults.on("TransactWriteItems", kind)
    assert bench.commit(members) == ["committed"] * 10
    assert (bench.count(), len(bench.completed())) == (10, 10)


@pytest.mark.parametrize(("kind", "counted"), [("before", 0), ("after", 10)])
def test_store_that_does_not_answer_leaves_all_members_to_redelivery(
    bench: Bench, kind: str, counted: int
) -> None:
    members = bench.members(10)
    bench.faults.plan = lambda operation, number: (
        kind if operation == "TransactWriteItems" else None
    )
    assert [
        isinstance(failure, StoreUnavailable) for failure in bench.store.commit_many(members)
    ] == [True] * 10
    bench.faults.plan = lambda operation, number: None
    assert bench.count() == counted


def test_group_whose_answer_was_lost_is_recognised_when_it_is_sent_again(
    bench: Bench,
) -> None:
    """Simulates a retry after ten minutes, when DynamoDB has forgotten the token.

    Each member finds its own completion.
    """
    members = bench.members(3)
    assert bench.commit(members) == ["committed"] * 3
    extra = bench.member("j9")
    assert bench.commit([*members, extra]) == ["committed"] * 4
    assert bench.count() == 4


def test_cancellation_without_a_reason_is_not_retried_forever(bench: Bench) -> None:
    members = bench.members(2)
    bench.faults.cancel("None", "None", "None")
    assert bench.commit(members) == ["StoreUnavailable"] * 2


def test_job_without_effects_costs_one_unit_and_no_transaction(bench: Bench) -> None:
    member = bench.member("j0", lambda effects: None)
    assert (bench.commit([member]), bench.sent) == (["committed"], ["UpdateItem"])
    late = bench.member("j1", lambda effects: None)
    bench.store.claim("acme", "j1", nonce="other", now_ms=NOW + 16_000, lease_ms=15_000)
    assert bench.commit([late]) == ["StaleWrite"]


# ---------------------------------------------------------------- nonces


def test_two_attempts_never_share_a_nonce(embedded: Any) -> None:
    """With a shared nonce, the second attempt would take the first one's completion for its own.

    It would then report effects as applied that are not.
    """
    stage = Stage(embedded, make_tables(embedded, next(_prefixes), only=WORKERS))
    stage.submit()
    first, second = stage.deliver(run=False), stage.deliver(run=False)
    for batch in (first, second):
        batch.run(batch.records[0])
    assert (first.close(), second.close()) == ({}, {})
    (one,), (other,) = (list(batch._deliveries.values()) for batch in (first, second))
    assert one.ownership.job.owner != other.ownership.job.owner
    assert (stage.count(), stage.succeeded) == (1, 1)


def test_items_are_identified_by_table_and_key() -> None:
    a = Effect(
        "a",
        {"Put": {"TableName": "T", "Item": {"pk": {"S": "1"}, "sk": {"S": "1"}, "x": {"N": "1"}}}},
    ).item
    b = Effect(
        "b",
        {"Put": {"TableName": "T", "Item": {"pk": {"S": "1"}, "sk": {"S": "1"}, "x": {"N": "2"}}}},
    ).item
    c = Effect("c", {"Put": {"TableName": "T", "Item": {"pk": {"S": "1"}, "sk": {"S": "2"}}}}).item
    other = Effect(
        "d", {"Put": {"TableName": "U", "Item": {"pk": {"S": "1"}, "sk": {"S": "1"}}}}
    ).item
    assert [a.may_be(effect) for effect in (b, c, other)] == [True, False, False]
    assert EffectRefused("j", "e", "ConditionalCheckFailed").is_malformed is False
