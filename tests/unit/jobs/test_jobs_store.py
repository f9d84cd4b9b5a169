"""Every change of a job's state, on moto: which callers may make it, and which get a conflict."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.authoring.effects import Effect, Effects
from mayfly.jobs.errors import Contended, EffectRefused, JobNotFound, StaleWrite
from mayfly.jobs.model import Job, Outcome, Status
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.rules import RETENTION_SECONDS
from mayfly.jobs.store import ClaimRefused, JobExists, JobStore

from tests.conftest import make_client
from tests.support.completion import complete
from tests.support.counting import counted
from tests.support.fakes import FixedClock
from tests.support.faults import Faults

NOW = 1_800_000_000_000
LEASE = 15_000


def a_job(**changes: Any) -> Job:
    job = Job(
        "j1",
        "acme",
        "counter.add",
        {"name": "n"},
        Status.QUEUED,
        max_attempts=3,
        created_at_ms=NOW,
        fingerprint="f",
    )
    return replace(job, **changes)


@pytest.fixture
def pauses() -> list[int]:
    return []


@pytest.fixture
def store(dynamodb: Any, pauses: list[int]) -> JobStore:
    return JobStore(DynamoDB(dynamodb, pauses.append), "JobsTable")


@pytest.fixture
def job(store: JobStore) -> Job:
    store.create(a_job())
    return a_job()


def claim(store: JobStore, nonce: str = "w1", now_ms: int = NOW, new: Job | None = None) -> Job:
    return store.claim("acme", "j1", nonce=nonce, now_ms=now_ms, lease_ms=LEASE, new=new)


def read(store: JobStore) -> Job:
    return store.read("acme", "j1", now_ms=NOW)


def increments(dynamodb: Any, name: str = "n") -> int:

    return counted(dynamodb, "CountersTable", name)


def one_increment() -> list[Effect]:
    effects = Effects(
        "acme",
        counters_table="CountersTable",
        serialize=dict,
        follow_up=lambda *_: [],
        checkpoint=lambda *_: None,
        seconds_left=lambda: 60.0,
        clock=FixedClock(),
    )
    effects.increment("n")
    return effects.collected()


# ---------------------------------------------------------------- create


def test_created_job_is_read_back_whole(store: JobStore, job: Job) -> None:
    assert read(store) == job


@pytest.mark.parametrize("size", [10, 1022, 1023, 200_000])
def test_payload_of_any_size_is_read_back(store: JobStore, size: int) -> None:
    big = a_job(payload="x" * size)
    store.create(big)
    assert read(store).payload == big.payload
    assert claim(store).payload == big.payload


def test_status_write_does_not_pay_for_a_large_payload(store: JobStore, dynamodb: Any) -> None:
    store.create(a_job(payload="x" * 200_000))
    items = {item["sk"]["S"]: item for item in dynamodb.scan(TableName="JobsTable")["Items"]}
    assert len(str(items["job"])) < 1500
    assert set(items) == {"job", "payload/f"}


def test_create_of_a_taken_id_returns_the_job_that_has_it(store: JobStore, job: Job) -> None:
    with pytest.raises(JobExists) as caught:
        store.create(a_job(fingerprint="other", payload="y" * 5000))
    assert caught.value.job == job


@pytest.mark.parametrize("payload", ["small", "x" * 5000])
def test_create_whose_answer_is_lost_succeeds_on_retry(
    store: JobStore, faults: Faults, payload: str
) -> None:
    faults.on("PutItem" if payload == "small" else "TransactWriteItems", "after")
    store.create(a_job(payload=payload))
    assert read(store).payload == payload


@pytest.mark.parametrize("payload", ["small", "x" * 5000])
def test_expired_job_is_absent_while_its_item_still_exists(
    store: JobStore, dynamodb: Any, payload: str
) -> None:
    store.create(a_job(payload=payload))
    complete(store, claim(store), result="1", effects=[], now_ms=NOW)
    later = NOW + (RETENTION_SECONDS + 1) * 1000
    with pytest.raises(JobNotFound):
        store.read("acme", "j1", now_ms=later)
    store.create(a_job(created_at_ms=later, fingerprint="new", payload=payload + "!"))
    job_read = store.read("acme", "j1", now_ms=later)
    assert (job_read.status, job_read.payload) == (Status.QUEUED, payload + "!")


def test_job_that_has_ended_keeps_its_id_until_it_expires(store: JobStore, job: Job) -> None:
    complete(store, claim(store), result="1", effects=[], now_ms=NOW)
    done = read(store)
    for later in (NOW + 1, NOW + RETENTION_SECONDS * 1000):
        with pytest.raises(JobExists):
            store.create(a_job(created_at_ms=later, fingerprint="new"))
    assert read(store) == done


def test_job_of_another_tenant_does_not_exist(store: JobStore, job: Job) -> None:
    with pytest.raises(JobNotFound):
        store.read("other", "j1", now_ms=NOW)
    with pytest.raises(ClaimRefused) as caught:
        store.claim("other", "j1", nonce="w1", now_ms=NOW, lease_ms=LEASE)
    assert caught.value.job is None


# ---------------------------------------------------------------- claim


def test_claim_takes_the_job_for_the_length_of_the_lease(store: JobStore, job: Job) -> None:
    mine = claim(store)
    assert (mine.status, mine.owner, mine.attempt, mine.fence) == (Status.INPROGRESS, "w1", 1, 1)
    assert mine.lease_until_ms == NOW + LEASE
    assert mine == read(store)


def test_live_lease_excludes_other_workers_and_an_expired_one_does_not(
    store: JobStore, job: Job
) -> None:
    claim(store)
    with pytest.raises(ClaimRefused) as caught:
        claim(store, "w2", NOW + LEASE)
    assert caught.value.job == read(store)
    taken = claim(store, "w2", NOW + LEASE + 1)
    assert (taken.owner, taken.attempt, taken.fence) == ("w2", 2, 2)
    assert [attempt.outcome for attempt in taken.history] == [None, None]


def test_claim_whose_answer_is_lost_is_recognised_by_its_nonce(
    store: JobStore, job: Job, faults: Faults
) -> None:
    faults.on("UpdateItem", "after")
    assert (claim(store).attempt, faults.requests.count("UpdateItem")) == (1, 2)


def test_job_has_no_more_than_its_attempts(store: JobStore, job: Job) -> None:
    for number in range(3):
        claim(store, f"w{number}", NOW + number * (LEASE + 1))
    with pytest.raises(ClaimRefused):
        claim(store, "w4", NOW + 10 * LEASE)


def test_retry_waits_for_its_time(store: JobStore, job: Job) -> None:
    store.fail(claim(store), error="boom", retry_at_ms=NOW + 5000, now_ms=NOW)
    with pytest.raises(ClaimRefused):
        claim(store, "w2", NOW + 4999)
    again = claim(store, "w2", NOW + 5000)
    assert (again.attempt, again.not_before_ms) == (2, None)


@pytest.mark.parametrize("payload", ["small", "x" * 5000])
def test_claim_can_create_the_job_that_a_message_requests(store: JobStore, payload: str) -> None:
    mine = claim(store, new=a_job(payload=payload))
    assert (mine.status, mine.attempt, mine.payload) == (Status.INPROGRESS, 1, payload)
    assert read(store) == mine
    with pytest.raises(ClaimRefused):
        claim(store, "w2", new=a_job(payload=payload))


def test_payload_written_before_a_failed_claim_is_never_used_for_another_request(
    store: JobStore, faults: Faults
) -> None:
    faults.on("UpdateItem", "before", times=9)
    with pytest.raises(StoreUnavailable):
        claim(store, new=a_job(payload="A" * 5000, fingerprint="a"))
    faults.plan = lambda operation, number: None
    assert claim(store, new=a_job(payload="B" * 5000, fingerprint="b")).payload == "B" * 5000


@pytest.mark.parametrize("other", ["small", "x" * 5000])
@pytest.mark.parametrize("payload", ["mine", "y" * 5000])
def test_claim_never_rewrites_an_existing_job(store: JobStore, payload: str, other: str) -> None:
    store.create(a_job(payload=payload))
    with pytest.raises(ClaimRefused):
        claim(store, new=a_job(payload=other, fingerprint="other"))
    assert read(store) == a_job(payload=payload)
    mine = claim(store, new=a_job(payload=payload, task="other", max_attempts=9))
    assert (mine.payload, mine.task, mine.max_attempts) == (payload, "counter.add", 3)


# ---------------------------------------------------------------- commit


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
    other = Effects(
        "acme",
        counters_table="CountersTable",
        serialize=dict,
        follow_up=lambda *_: [],
        checkpoint=lambda *_: None,
        seconds_left=lambda: 60.0,
        clock=FixedClock(),
    )
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


def test_payload_that_cannot_be_read_after_a_claim_costs_no_attempt(
    store: JobStore, faults: Faults
) -> None:
    store.create(a_job(payload="x" * 5000))
    faults.plan = lambda operation, number: "before" if operation == "GetItem" else None
    with pytest.raises(StoreUnavailable, match="read payload"):
        claim(store)
    faults.plan = lambda operation, number: None
    job_after = read(store)
    assert (job_after.status, job_after.attempt, job_after.history) == (Status.RETRY, 0, ())
    assert claim(store, "w2").attempt == 1


def test_payload_that_was_read_before_is_not_read_again_by_a_claim(
    store: JobStore, faults: Faults
) -> None:
    store.create(a_job(payload="x" * 5000))
    job_before = read(store)
    faults.requests.clear()
    mine = store.claim("acme", "j1", nonce="w1", now_ms=NOW, lease_ms=LEASE, seen=job_before)
    assert (mine.payload, faults.requests) == ("x" * 5000, ["UpdateItem"])


# ---------------------------------------------------------------- every write without an answer

Write = Callable[[JobStore, JobOperations], object]


def held(store: JobStore) -> Job:
    return store.read("acme", "j1", now_ms=NOW)


WRITES: dict[str, tuple[str, Write, Write]] = {
    # name: (its call, the preparation of the job, the write itself)
    "create": ("PutItem", lambda store, ops: None, lambda store, ops: store.create(a_job(id="j2"))),
    "claim": ("UpdateItem", lambda store, ops: None, lambda store, ops: claim(store)),
    "renew": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: store.renew([held(store)], now_ms=NOW + 1, lease_ms=LEASE),
    ),
    "commit": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: complete(store, held(store), result="1", effects=[], now_ms=NOW),
    ),
    "commit with effects": (
        "TransactWriteItems",
        lambda store, ops: claim(store),
        lambda store, ops: complete(
            store, held(store), result="1", effects=one_increment(), now_ms=NOW
        ),
    ),
    "release": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: store.fail(held(store), error="e", retry_at_ms=NOW, now_ms=NOW),
    ),
    "release for good": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: store.fail(held(store), error="e", retry_at_ms=None, now_ms=NOW),
    ),
    "bury": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: store.bury(held(store), now_ms=NOW),
    ),
    "cancel": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: ops.cancel("acme", "j1", now_ms=NOW),
    ),
    "redrive": (
        "UpdateItem",
        lambda store, ops: store.fail(claim(store), error="e", retry_at_ms=None, now_ms=NOW),
        lambda store, ops: ops.redrive("acme", "j1", now_ms=NOW),
    ),
    "resend": (
        "UpdateItem",
        lambda store, ops: None,
        lambda store, ops: ops.resend("acme", "j1", now_ms=NOW),
    ),
}


@pytest.fixture
def operations(dynamodb: Any) -> JobOperations:
    return JobOperations(JobStore(DynamoDB(dynamodb, lambda attempt: None), "JobsTable"))


def everything(dynamodb: Any) -> list[Any]:
    return sorted(
        (
            item
            for table in ("JobsTable", "CountersTable")
            for item in dynamodb.scan(TableName=table)["Items"]
        ),
        key=str,
    )


@pytest.mark.parametrize("name", WRITES)
def test_write_whose_answer_is_lost_is_made_once(
    store: JobStore, operations: JobOperations, job: Job, faults: Faults, dynamodb: Any, name: str
) -> None:
    call, prepare, write = WRITES[name]
    prepare(store, operations)
    faults.on(call, "after")
    write(store, operations)
    after_one_lost_answer = everything(dynamodb)
    for item in after_one_lost_answer:
        table = "CountersTable" if "value" in item else "JobsTable"
        dynamodb.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
    store.create(a_job())
    prepare(store, operations)
    write(store, operations)
    assert after_one_lost_answer == everything(dynamodb)


@pytest.mark.parametrize("name", WRITES)
def test_write_that_never_arrives_changes_nothing_and_raises_an_error(
    store: JobStore, operations: JobOperations, job: Job, faults: Faults, dynamodb: Any, name: str
) -> None:
    call, prepare, write = WRITES[name]
    prepare(store, operations)
    before = everything(dynamodb)
    faults.plan = lambda operation, number: "before" if operation == call else None
    with pytest.raises(StoreUnavailable):
        write(store, operations)
    faults.plan = lambda operation, number: None
    assert everything(dynamodb) == before


# ---------------------------------------------------------------- failures and burials


def test_failure_records_the_attempt_and_frees_the_job(store: JobStore, job: Job) -> None:
    store.fail(claim(store), error="boom", retry_at_ms=NOW + 1, now_ms=NOW)
    released = read(store)
    assert (released.status, released.not_before_ms, released.expires_at_s) == (
        Status.RETRY,
        NOW + 1,
        None,
    )
    assert (released.history[0].outcome, released.history[0].error) == (Outcome.FAILED, "boom")


def test_failure_without_a_retry_time_ends_the_job(store: JobStore, job: Job) -> None:
    store.fail(claim(store), error="boom", retry_at_ms=None, now_ms=NOW)
    ended = read(store)
    assert (ended.status, ended.error) == (Status.DEAD, "boom")
    assert ended.expires_at_s is not None
    with pytest.raises(ClaimRefused):
        claim(store, "w2", NOW + 10 * LEASE)


def test_failure_of_a_lost_job_is_refused(store: JobStore, job: Job) -> None:
    late = claim(store)
    taken = claim(store, "w2", NOW + LEASE + 1)
    with pytest.raises(StaleWrite):
        store.fail(late, error="boom", retry_at_ms=NOW, now_ms=NOW)
    assert read(store) == taken


def test_failure_whose_answer_is_lost_succeeds_on_retry(
    store: JobStore, job: Job, faults: Faults
) -> None:
    mine = claim(store)
    faults.on("UpdateItem", "after")
    store.fail(mine, error="boom", retry_at_ms=NOW, now_ms=NOW)
    assert read(store).status is Status.RETRY


def test_job_is_buried_only_in_the_state_that_was_read(store: JobStore, job: Job) -> None:
    stale = claim(store)
    taken = claim(store, "w2", NOW + LEASE + 1)
    with pytest.raises(StaleWrite):
        store.bury(stale, now_ms=NOW)
    assert store.renew([taken], now_ms=NOW + LEASE + 2, lease_ms=LEASE) == [None]
    with pytest.raises(StaleWrite):
        store.bury(taken, now_ms=NOW)
    taken = read(store)
    store.bury(taken, now_ms=NOW)
    job_after = read(store)
    assert (job_after.status, job_after.history[-1].outcome) == (Status.DEAD, Outcome.INTERRUPTED)
    assert job_after.error == "attempt 2 of 3 was interrupted: its process died"


@pytest.mark.parametrize("operation", ["PutItem", "GetItem", "UpdateItem"])
@pytest.mark.parametrize("kind", ["before", "throttle", "error"])
def test_store_that_does_not_answer_is_named_in_the_error(
    job: Job, operation: str, kind: str
) -> None:
    client = make_client("dynamodb", attempts=1)
    faults, store = Faults(client), JobStore(DynamoDB(client, lambda attempt: None), "JobsTable")
    calls: dict[str, Callable[[], object]] = {
        "PutItem": lambda: store.create(a_job(id="j2")),
        "GetItem": lambda: read(store),
        "UpdateItem": lambda: claim(store),
    }
    faults.plan = lambda name, number: kind if name == operation else None
    with pytest.raises(StoreUnavailable):
        calls[operation]()
