"""Commits of a job with its effects, on moto: everything is written, or nothing."""

from typing import Any

import pytest
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.authoring.effects import Effect
from mayfly.jobs.errors import Contended, EffectRefused, StaleWrite
from mayfly.jobs.model import Job, Outcome, Status
from mayfly.jobs.rules import RETENTION_SECONDS
from mayfly.jobs.store import JobStore

from tests.support.completion import complete
from tests.support.faults import Faults
from tests.support.jobs import LEASE, NOW, claim, increments, new_effects, one_increment, read


def test_commit_ends_the_job_with_its_effects(store: JobStore, job: Job, dynamodb: Any) -> None:
    complete(store, claim(store), result='{"ok":true}', effects=one_increment(), now_ms=NOW + 9)
    done = read(store)
    assert (done.status, done.result, done.lease_until_ms) == (Status.COMPLETED, {"ok": True}, None)
    assert (done.history[0].outcome, done.history[0].ended_at_ms) == (Outcome.SUCCEEDED, NOW + 9)
    assert done.expires_at_s == NOW // 1000 + RETENTION_SECONDS
    assert increments(dynamodb) == 1


@pytest.mark.parametrize("effects", [[], one_increment()], ids=["no effects", "one effect"])
def test_commit_of_a_lost_job_is_refused(
    store: JobStore, job: Job, dynamodb: Any, effects: list[Effect]
) -> None:
    late = claim(store)
    taken = claim(store, "w2", NOW + LEASE + 1)
    with pytest.raises(StaleWrite, match="now: w2"):
        complete(store, late, result="1", effects=effects, now_ms=NOW)
    assert read(store) == taken
    assert increments(dynamodb) == 0


@pytest.mark.parametrize("effects", [[], one_increment()], ids=["no effects", "one effect"])
def test_commit_of_an_ended_job_is_refused(
    store: JobStore, job: Job, dynamodb: Any, effects: list[Effect]
) -> None:
    late = claim(store)
    complete(store, claim(store, "w2", NOW + LEASE + 1), result="2", effects=effects, now_ms=NOW)
    counted = increments(dynamodb)
    with pytest.raises(StaleWrite, match="has ended"):
        complete(store, late, result="1", effects=effects, now_ms=NOW)
    assert read(store).result == 2
    assert increments(dynamodb) == counted


@pytest.mark.parametrize("effects", [[], one_increment()], ids=["no effects", "one effect"])
def test_commit_whose_answer_is_lost_succeeds_on_retry(
    store: JobStore, job: Job, faults: Faults, dynamodb: Any, effects: list[Effect]
) -> None:
    mine = claim(store)
    faults.on("TransactWriteItems" if effects else "UpdateItem", "after")
    complete(store, mine, result="1", effects=effects, now_ms=NOW)
    assert read(store).status is Status.COMPLETED
    assert increments(dynamodb) == len(effects)


def test_commit_after_a_conflict_is_retried_with_a_new_token(
    store: JobStore, job: Job, faults: Faults, dynamodb: Any, pauses: list[int]
) -> None:
    tokens = []
    dynamodb.meta.events.register(
        "provide-client-params.dynamodb.TransactWriteItems",
        lambda params, **_: tokens.append(params["ClientRequestToken"]),
    )
    mine = claim(store)
    faults.on("TransactWriteItems", "conflict", times=3)
    complete(store, mine, result="1", effects=one_increment(), now_ms=NOW)
    assert pauses == [1, 2, 3]
    assert len(set(tokens)) == 4
    assert increments(dynamodb) == 1


def test_endless_conflicts_leave_the_job_to_redelivery(
    store: JobStore, job: Job, faults: Faults, dynamodb: Any
) -> None:
    mine = claim(store)
    faults.plan = lambda operation, number: (
        "conflict" if operation == "TransactWriteItems" else None
    )
    with pytest.raises(Contended, match="6 times in a row"):
        complete(store, mine, result="1", effects=one_increment(), now_ms=NOW)
    assert read(store) == mine
    assert increments(dynamodb) == 0


def test_commit_of_unknown_outcome_raises_an_error_that_states_it(
    store: JobStore, job: Job, faults: Faults, dynamodb: Any
) -> None:
    mine = claim(store)
    faults.plan = lambda operation, number: "before" if operation == "TransactWriteItems" else None
    with pytest.raises(StoreUnavailable, match="commit"):
        complete(store, mine, result="1", effects=one_increment(), now_ms=NOW)
    assert read(store) == mine


def test_refused_effect_is_named_and_nothing_is_applied(
    store: JobStore, job: Job, dynamodb: Any
) -> None:
    mine = claim(store)
    refused = {
        "Update": {
            **one_increment()[0].write["Update"],
            "ConditionExpression": "attribute_exists(pk)",
        }
    }
    other = new_effects()
    other.increment("m")
    with pytest.raises(EffectRefused, match="the effect floor was refused"):
        complete(
            store,
            mine,
            result="1",
            effects=[*other.collected(), Effect("floor", refused)],
            now_ms=NOW,
        )
    assert read(store) == mine
    assert (increments(dynamodb), increments(dynamodb, "m")) == (0, 0)


@pytest.mark.parametrize(
    "reasons",
    [
        ("TransactionConflict", "None"),
        ("None", "TransactionConflict"),
        ("TransactionConflict", "TransactionConflict"),
        ("ThrottlingError", "None"),
        ("None", "ProvisionedThroughputExceeded"),
    ],
)
def test_commit_cancelled_for_load_or_conflict_is_retried(
    store: JobStore,
    job: Job,
    faults: Faults,
    dynamodb: Any,
    pauses: list[int],
    reasons: tuple[str, str],
) -> None:
    mine = claim(store)
    faults.cancel(*reasons)
    complete(store, mine, result="1", effects=one_increment(), now_ms=NOW)
    assert (read(store).status, increments(dynamodb), pauses) == (Status.COMPLETED, 1, [1])


@pytest.mark.parametrize(
    ("reasons", "error", "says"),
    [
        (
            ("None", "ConditionalCheckFailed"),
            EffectRefused,
            "the effect increment 'n' was refused (ConditionalCheckFailed)",
        ),
        (
            ("None", "ItemCollectionSizeLimitExceeded"),
            EffectRefused,
            "the effect increment 'n' was refused (ItemCollection",
        ),
        (
            ("None", "ValidationError"),
            EffectRefused,
            "the effect increment 'n' was refused (ValidationError)",
        ),
        (
            ("TransactionConflict", "ConditionalCheckFailed"),
            EffectRefused,
            "the effect increment 'n'",
        ),
        (
            ("ValidationError", "None"),
            EffectRefused,
            "record of the job itself was refused (ValidationError)",
        ),
        (
            ("ItemCollectionSizeLimitExceeded", "None"),
            EffectRefused,
            "record of the job itself was refused (ItemColl",
        ),
        (("ConditionalCheckFailed", "None"), StaleWrite, "the job's record is gone"),
        (
            ("ConditionalCheckFailed", "ConditionalCheckFailed"),
            StaleWrite,
            "the job's record is gone",
        ),
    ],
)
def test_commit_cancelled_for_another_reason_names_it_and_writes_nothing(
    store: JobStore,
    job: Job,
    faults: Faults,
    dynamodb: Any,
    reasons: tuple[str, str],
    error: type[Exception],
    says: str,
) -> None:
    mine = claim(store)
    faults.cancel(*reasons)
    with pytest.raises(error) as caught:
        complete(store, mine, result="1", effects=one_increment(), now_ms=NOW)
    assert says in str(caught.value)
    assert (read(store), increments(dynamodb)) == (mine, 0)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ValidationException", EffectRefused),
        ("AccessDeniedException", EffectRefused),
        ("ResourceNotFoundException", EffectRefused),
        ("IdempotentParameterMismatchException", StoreUnavailable),
        ("TransactionInProgressException", StoreUnavailable),
        ("RequestLimitExceeded", StoreUnavailable),
    ],
)
def test_rejected_commit_is_final_only_if_every_retry_would_be_rejected(
    store: JobStore, job: Job, faults: Faults, code: str, error: type[Exception]
) -> None:
    mine = claim(store)
    faults.refuse("TransactWriteItems", code)
    with pytest.raises(error):
        complete(store, mine, result="1", effects=one_increment(), now_ms=NOW)
    faults.plan = lambda operation, number: None
    assert read(store) == mine
