"""Jobs that run without a claim, staged and committed together, on the emulator."""

import itertools
import threading
from typing import Any

import pytest
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.authoring.outcomes import Permanent
from mayfly.jobs.errors import LeaseHeld
from mayfly.jobs.model import Job, Outcome, Status, Submission, Wake
from mayfly.jobs.rules import job_id_for, public_status

from bench.meter import Cost, metered
from tests.conftest import WORKERS, make_tables
from tests.support.clients import make_client
from tests.support.fakes import Context
from tests.support.faults import Faults
from tests.support.stage import Stage, a_record

_prefixes = (f"optimistic{number}-" for number in itertools.count())
NAMES = [f"j{number}" for number in range(10)]


@pytest.fixture
def faults(embedded: Any) -> Faults:
    return Faults(embedded, on_moto=False)


@pytest.fixture
def stage(embedded: Any) -> Stage:
    return Stage(embedded, make_tables(embedded, next(_prefixes), only=WORKERS))


def submit_all(stage: Stage, **changes: Any) -> list[Wake]:
    for name in NAMES:
        stage.submit(id=name, **changes)
    return [Wake("acme", name) for name in NAMES]


def failures(reply: dict[str, Any]) -> list[str]:
    return sorted(failure["itemIdentifier"] for failure in reply["batchItemFailures"])


def statuses(stage: Stage) -> set[Status]:
    return {stage.job(name).status for name in NAMES}


def open_batch(stage: Stage, *messages: Wake) -> None:
    stage.batch = stage.runner.open(
        [a_record(message, f"m{index}") for index, message in enumerate(messages)], Context()
    )
    stage.batch.prepare()


# ---------------------------------------------------------------- cost in store calls and units


@pytest.fixture
def metered_stage(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with metered() as cost:
        client = make_client("dynamodb")
        yield Stage(client, make_tables(client, next(_prefixes), only=WORKERS)), cost


@pytest.mark.parametrize(
    ("exclusive", "own_counters", "is_submitted", "calls", "write_units"),
    [
        (False, False, True, 2, 2.2),
        (False, True, True, 2, 4.0),
        (False, False, False, 2, 2.2),
        (False, True, False, 2, 4.0),
        (True, False, True, 3, 3.2),
        (True, True, True, 3, 5.0),
        (True, False, False, 3, 3.2),
    ],
)
def test_batch_of_ten_costs_these_store_calls_and_units(
    metered_stage: tuple[Stage, Cost],
    exclusive: bool,
    own_counters: bool,
    is_submitted: bool,
    calls: int,
    write_units: float,
) -> None:
    """Excludes the visibility call; a read costs a fifth of a write."""
    stage, cost = metered_stage
    stage.declare(exclusive=exclusive)
    stage.body = lambda job, effects: effects.increment(f"n-{job.id}" if own_counters else "n")
    messages = (
        submit_all(stage) if is_submitted else [Submission("t", number) for number in range(10)]
    )
    cost.reset()
    assert failures(stage.handle(*messages)) == []
    measured = (sum(cost.calls.values()), round(cost.write_units / 10, 2), cost.read_units / 10)
    assert measured == (calls, write_units, 1.0), cost.calls


# ---------------------------------------------------------------- the records that remain


def test_unclaimed_job_leaves_the_same_record_as_a_claimed_one(stage: Stage) -> None:
    records = []
    for exclusive in (False, True):
        stage.declare(exclusive=exclusive)
        stage.submit(id=f"x{exclusive}", payload={"x": 1})
        stage.handle(Wake("acme", f"x{exclusive}"))
        records.append({**vars(stage.job(f"x{exclusive}")), "id": "", "owner": ""})
        records.append({**vars(stage.ran[-1]), "id": "", "owner": ""})
    assert (records[0], records[1]) == (records[2], records[3])


@pytest.mark.parametrize("payload", [1, "x" * 5000])
def test_job_that_a_message_requests_is_created_by_its_commit(stage: Stage, payload: Any) -> None:
    assert failures(stage.handle(Submission("t", payload))) == []
    job = stage.job(stage.ran[0].id)
    assert (job.status, job.payload, job.attempt, job.fence, len(job.history)) == (
        Status.COMPLETED,
        payload,
        1,
        1,
        1,
    )


@pytest.mark.parametrize("is_new", [True, False])
def test_failure_is_recorded_and_the_other_jobs_are_done(stage: Stage, is_new: bool) -> None:
    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.payload == "bad":
            raise RuntimeError("boom")
        if job.payload == "never":
            raise Permanent("no")

    stage.body = body
    payloads = ["good", "bad", "good", "never", "good"]
    if not is_new:
        for number, payload in enumerate(payloads):
            stage.submit(id=f"j{number}", payload=payload)
    reply = stage.handle(
        *(
            Submission("t", each) if is_new else Wake("acme", f"j{number}")
            for number, each in enumerate(payloads)
        )
    )
    assert failures(reply) == ["m1"]
    assert stage.visible.asked[-1] == pytest.approx({"r-m1": 1.0}, abs=0.5)
    jobs = {job.payload: stage.job(job.id) for job in stage.ran}
    bad, never = jobs["bad"], jobs["never"]
    assert (bad.status, bad.attempt, bad.history[0].error) == (
        Status.RETRY,
        1,
        "RuntimeError: boom",
    )
    assert (never.status, never.error, never.expires_at_s is not None) == (
        Status.DEAD,
        "Permanent: no",
        True,
    )
    assert [
        job.id
        for job in stage.operations.list(
            "acme", Status.DEAD, limit=9, after=None, now_ms=stage.clock()
        ).jobs
    ] == [never.id]
    assert stage.count() == 3


def test_all_copies_of_a_message_return_if_its_commit_fails(stage: Stage, faults: Faults) -> None:
    stage.submit()
    faults.plan = lambda operation, number: (
        "before" if operation in ("TransactWriteItems", "UpdateItem") else None
    )
    assert failures(stage.handle(*[Wake("acme", "j1")] * 3)) == ["m0", "m1", "m2"]
    assert len(stage.ran) == 1


# ---------------------------------------------------------------- durability


@pytest.mark.parametrize("kind", ["before", "after", "throttle", "error"])
@pytest.mark.parametrize("times", [1, 99])
def test_record_reported_as_done_is_durable(
    stage: Stage, faults: Faults, kind: str, times: int
) -> None:
    messages = submit_all(stage)
    faults.on("TransactWriteItems", kind, times=times)
    failed = failures(stage.handle(*messages))
    faults.plan = lambda operation, number: None
    done = [name for number, name in enumerate(NAMES) if f"m{number}" not in failed]
    assert [stage.job(name).status for name in done] == [Status.COMPLETED] * len(done)
    assert len(done) == (10 if times == 1 else 0)
    stage.clock.advance(16)
    assert failures(stage.handle(*messages, receives=2)) == []
    assert (statuses(stage), stage.count()) == ({Status.COMPLETED}, 10)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("kind", ["before", "after", "conflict"])
def test_job_that_fills_its_transaction_is_durable_too(
    stage: Stage, faults: Faults, kind: str, exclusive: bool
) -> None:
    """Its commit runs while it is being staged, and the outcome of that commit must be kept."""

    def body(job: Job, effects: Any) -> None:
        for number in range(99):
            effects.increment(f"{job.id}-{number}")

    stage.body = body
    stage.declare(exclusive=exclusive)
    for name in NAMES[:2]:
        stage.submit(id=name)
    messages = [Wake("acme", name) for name in NAMES[:2]]
    faults.plan = lambda operation, number: kind if operation == "TransactWriteItems" else None
    assert failures(stage.handle(*messages)) == ["m0", "m1"]
    faults.plan = lambda operation, number: None
    stage.clock.advance(16)
    assert failures(stage.handle(*messages, receives=2)) == []
    assert {stage.job(name).status for name in NAMES[:2]} == {Status.COMPLETED}


def test_effect_that_cannot_be_serialized_fails_its_own_job_alone(stage: Stage) -> None:
    messages = submit_all(stage)

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.id == "j3":
            effects.check("T", {"id": "x"}, object())

    stage.body = body
    assert failures(stage.handle(*messages)) == []
    assert (stage.count(), stage.job("j3").status) == (9, Status.DEAD)
    assert "condition: must be a text, not object" in str(stage.job("j3").error)


def test_request_that_cannot_be_serialized_fails_with_a_known_outcome(stage: Stage) -> None:
    from mayfly.aws.dynamodb import DynamoDB, RequestRefused

    with pytest.raises(RequestRefused):
        DynamoDB(stage.client, lambda attempt: None).put(
            "try", TableName="T", Item={"id": {"N": object()}}
        )


def test_process_that_dies_with_staged_records_has_applied_nothing(stage: Stage) -> None:
    messages = submit_all(stage)
    open_batch(stage, *messages)
    for record in stage.batch.records:
        stage.batch.run(record)
    assert (stage.count(), statuses(stage)) == (0, {Status.QUEUED})  # the process is killed here
    stage.clock.advance(15)
    assert failures(stage.handle(*messages, receives=2)) == []
    assert (stage.count(), statuses(stage)) == (10, {Status.COMPLETED})


def test_unforeseen_failure_of_the_commit_reports_no_record_as_done(stage: Stage) -> None:
    messages = submit_all(stage)

    def broken(members: Any) -> Any:
        raise ZeroDivisionError

    stage.store.commit_many = broken  # type: ignore[method-assign]  # as a bug would
    with pytest.raises(ZeroDivisionError):
        stage.handle(*messages)  # Lambda treats the exception as the failure of every record


def test_staged_records_return_if_a_heartbeat_fails_in_an_unforeseen_way(stage: Stage) -> None:
    open_batch(stage, *submit_all(stage))
    stage.batch.run(stage.batch.records[0])
    commit, stage.clock.now_ms = stage.store.commit_many, stage.clock.now_ms + 60

    def broken(members: Any) -> Any:
        stage.store.commit_many = commit  # type: ignore[method-assign]  # works again
        raise ZeroDivisionError

    stage.store.commit_many = broken  # type: ignore[method-assign]  # as a bug would
    with pytest.raises(ZeroDivisionError):
        stage.batch.beat()
    stage.batch.run(stage.batch.records[1])
    late = stage.batch.close()
    assert ([type(late[name]) for name in late], list(late), stage.count()) == (
        [LeaseHeld],
        ["m0"],
        1,
    )


# ---------------------------------------------------------------- another worker was faster


def test_two_workers_that_run_one_job_at_once_commit_it_once(stage: Stage) -> None:
    messages = submit_all(stage)
    open_batch(stage, *messages)
    first = stage.batch
    open_batch(stage, *messages)
    for batch in (first, stage.batch):
        for record in batch.records:
            batch.run(record)
    assert (first.close(), stage.batch.close()) == ({}, {})
    assert (len(stage.ran), stage.count(), stage.succeeded) == (20, 10, 10)
    assert {len(stage.job(name).history) for name in NAMES} == {1}


def test_two_workers_that_create_one_job_at_once_commit_it_once(stage: Stage) -> None:
    record = a_record(Submission("t", 1), "m0")
    batches = [stage.runner.open([record], Context()) for _ in range(2)]
    for batch in batches:
        batch.prepare()
    for batch in batches:
        batch.run(record)
    assert [batch.close() for batch in batches] == [{}, {}]
    assert (len(stage.ran), stage.count(), stage.succeeded, stage.job(stage.ran[0].id).attempt) == (
        2,
        1,
        1,
        1,
    )


def test_message_with_the_key_of_a_waiting_job_and_another_body_runs_nothing(
    stage: Stage,
) -> None:
    name = job_id_for("acme", "k", otherwise="")
    stage.submit(id=name, payload="A")
    assert failures(stage.handle(Submission("t", "B", idempotency_key="k"))) == []
    assert (stage.ran, stage.job(name).status, stage.job(name).payload) == ([], Status.QUEUED, "A")
    (kept,) = stage.operations.unreadable(now_ms=stage.clock())
    assert "with another body" in kept.problem


def test_job_cancelled_after_the_read_stays_cancelled_and_the_others_are_done(
    stage: Stage,
) -> None:
    messages = submit_all(stage)

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.id == "j4":
            stage.operations.cancel("acme", "j4", now_ms=stage.clock())

    stage.body = body
    assert failures(stage.handle(*messages)) == []
    assert (stage.job("j4").status, stage.count()) == (Status.CANCELLED, 9)


def test_job_claimed_after_the_read_is_left_to_its_claimer(stage: Stage) -> None:
    messages = submit_all(stage)

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.id == "j4":
            stage.store.claim("acme", "j4", nonce="other", now_ms=stage.clock(), lease_ms=15_000)

    stage.body = body
    assert failures(stage.handle(*messages)) == ["m4"]
    assert (stage.job("j4").owner, stage.job("j4").attempt, stage.count()) == ("other", 1, 9)


def test_failure_of_a_job_that_another_worker_has_done_changes_nothing(stage: Stage) -> None:
    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        if len(stage.ran) == 1:
            stage.handle(Wake("acme", "j1"))
            raise RuntimeError("late")

    stage.body = body
    stage.submit()
    assert failures(stage.handle(Wake("acme", "j1"))) == []
    assert (stage.job().status, len(stage.job().history), stage.count()) == (Status.COMPLETED, 1, 1)


# ---------------------------------------------------------------- when records are committed


def test_record_that_waited_fifty_milliseconds_is_committed_before_the_next_job(
    stage: Stage,
) -> None:
    messages = submit_all(stage)
    committed: list[int] = []

    def body(job: Job, effects: Any) -> None:
        committed.append(stage.count())
        effects.increment("n")
        stage.clock.now_ms += 20

    stage.body = body
    stage.handle(*messages)
    assert committed == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]
    assert stage.count() == 10


def test_full_transaction_is_committed_immediately(stage: Stage, faults: Faults) -> None:
    messages = submit_all(stage)

    def body(job: Job, effects: Any) -> None:
        for number in range(40):
            effects.increment(f"{job.id}-{number}")

    stage.body = body
    faults.requests.clear()
    stage.handle(*messages)
    # The third record makes 123 items, so two transactions are sent: one for the first two records,
    # one for the third. The next records repeat this.
    assert faults.requests.count("TransactWriteItems") == 7
    assert statuses(stage) == {Status.COMPLETED}


def test_heartbeat_commits_records_that_wait_behind_a_slow_job(stage: Stage) -> None:
    messages = submit_all(stage)
    statuses_seen = []

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        if len(stage.ran) == 3:
            stage.clock.advance(5)
            stage.batch.beat()
            statuses_seen.append(stage.count())

    stage.body = body
    open_batch(stage, *messages)
    for record in stage.batch.records:
        stage.batch.run(record)
    assert (stage.batch.close(), statuses_seen, stage.count()) == ({}, [2], 10)


def test_no_record_waits_while_a_redelivered_job_runs(stage: Stage) -> None:
    """The redelivered job may be the one that kills the process."""
    for name in ("old", "new"):
        stage.submit(id=name)
    statuses_seen = []

    def body(job: Job, effects: Any) -> None:
        statuses_seen.append((job.id, stage.count()))
        effects.increment("n")

    stage.body = body
    stage.handle_records(
        [stage._raw(Wake("acme", "old"), "m0", 2), stage._raw(Wake("acme", "new"), "m1", 1)]
    )
    assert (statuses_seen, stage.count()) == ([("new", 0), ("old", 1)], 2)


# ---------------------------------------------------------------- late claims


def run_long(stage: Stage, during: Any) -> dict[str, Exception]:
    """Runs j1 alone; after five seconds a heartbeat comes, and then `during`."""

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        stage.clock.advance(5)
        stage.batch.beat()
        during(effects)

    stage.body = body
    open_batch(stage, Wake("acme", "j1"))
    stage.batch.run(stage.batch.records[0])
    return dict(stage.batch.close())


def test_job_that_takes_a_third_of_the_lease_is_claimed_and_shown_as_running(stage: Stage) -> None:
    stage.submit()
    statuses_seen: list[Any] = []

    def during(effects: Any) -> None:
        job = stage.job()
        statuses_seen.append(
            (public_status(job, stage.clock()), job.attempt, job.fence, job.lease_until_ms)
        )
        stage.clock.advance(5)
        stage.batch.beat()  # renews the lease
        statuses_seen.append(stage.job().lease_until_ms)

    assert run_long(stage, during) == {}
    start = stage.clock() - 10_000
    assert statuses_seen == [("running", 1, 1, start + 20_000), start + 25_000]
    done = stage.job()
    assert (done.status, done.attempt, done.fence, len(done.history), stage.count()) == (
        Status.COMPLETED,
        1,
        1,
        1,
        1,
    )
    assert (done.history[0].started_at_ms, done.history[0].outcome) == (start, Outcome.SUCCEEDED)


def test_long_job_that_fails_with_conflicts_only_keeps_its_attempt(
    stage: Stage, faults: Faults
) -> None:
    stage.submit(max_attempts=1)

    def during(effects: Any) -> None:
        faults.plan = lambda operation, number: (
            "conflict" if operation == "TransactWriteItems" else None
        )

    late = run_long(stage, during)
    assert [type(failure) for failure in late.values()] == [LeaseHeld]
    assert (stage.job().status, stage.job().attempt, stage.job().history) == (Status.RETRY, 0, ())


def test_close_waits_for_a_commit_in_progress(stage: Stage) -> None:
    stage.submit()
    open_batch(stage, Wake("acme", "j1"))
    stage.batch.run(stage.batch.records[0])
    commit, has_begun = stage.store.commit_many, threading.Event()

    def slowly(members: Any) -> Any:
        has_begun.set()
        threading.Event().wait(0.2)
        return commit(members)

    stage.store.commit_many = slowly  # type: ignore[method-assign]  # plays a slow store
    beat = threading.Thread(target=stage.batch.commits.commit)
    beat.start()
    has_begun.wait(5)
    assert (stage.batch.close(), stage.job().status) == ({}, Status.COMPLETED)
    beat.join()


def test_redelivered_message_finds_the_late_claim(stage: Stage) -> None:
    stage.submit()

    def during(effects: Any) -> None:
        with pytest.raises(LeaseHeld):
            stage.deliver(Wake("acme", "j1"), receives=2)

    assert run_long(stage, during) == {}
    assert (len(stage.ran), stage.count()) == (1, 1)


@pytest.mark.parametrize("kind", ["before", "after"])
def test_late_claim_of_unknown_outcome_does_not_block_its_own_commit(
    stage: Stage, faults: Faults, kind: str
) -> None:
    stage.submit()
    faults.plan = lambda operation, number: kind if operation == "UpdateItem" else None

    def during(effects: Any) -> None:
        faults.plan = lambda operation, number: None
        assert stage.job().status is (Status.INPROGRESS if kind == "after" else Status.QUEUED)

    assert run_long(stage, during) == {}
    assert (stage.job().status, stage.job().attempt, len(stage.job().history), stage.count()) == (
        Status.COMPLETED,
        1,
        1,
        1,
    )


def test_late_claim_that_lost_its_job_stops_the_task_at_its_checkpoint(stage: Stage) -> None:
    stage.submit()

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        stage.store.claim("acme", "j1", nonce="other", now_ms=stage.clock(), lease_ms=15_000)
        effects.checkpoint()  # the worker has not noticed yet
        stage.batch.beat()
        effects.checkpoint()
        raise AssertionError("past the checkpoint")

    stage.body = body
    open_batch(stage, Wake("acme", "j1"))
    with pytest.raises(LeaseHeld):
        stage.batch.run(stage.batch.records[0])
    assert (stage.job().owner, stage.job().attempt, stage.count()) == ("other", 1, 0)


def test_long_job_that_a_message_requests_can_be_read_while_it_runs(stage: Stage) -> None:
    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        stage.clock.advance(5)
        stage.batch.beat()
        assert public_status(stage.job(job.id), stage.clock()) == "running"

    stage.body = body
    stage.batch = stage.runner.open([a_record(Submission("t", 1), "m0")], Context())
    stage.batch.prepare()
    stage.batch.run(stage.batch.records[0])
    assert stage.batch.close() == {}
    assert (stage.job(stage.ran[0].id).status, stage.count()) == (Status.COMPLETED, 1)


def test_failure_after_a_late_claim_counts_as_one_attempt(stage: Stage) -> None:
    stage.submit()

    def fail(effects: Any) -> None:
        raise RuntimeError("boom")

    with pytest.raises(LeaseHeld):
        run_long(stage, fail)
    job = stage.job()
    assert (job.status, job.attempt, job.fence, [attempt.error for attempt in job.history]) == (
        Status.RETRY,
        1,
        1,
        ["RuntimeError: boom"],
    )


# ---------------------------------------------------------------- when a job is claimed


@pytest.mark.parametrize(
    ("receives", "options", "is_claimed"),
    [(1, {}, False), (2, {}, True), (1, {"exclusive": True}, True), (2, {"exclusive": True}, True)],
)
def test_only_first_receives_of_ordinary_tasks_run_unclaimed(
    stage: Stage, receives: int, options: dict[str, Any], is_claimed: bool
) -> None:
    stage.declare(**options)
    stage.submit()
    statuses_seen = []
    stage.body = lambda job, effects: statuses_seen.append(stage.job().status)
    stage.handle(Wake("acme", "j1"), receives=receives)
    assert statuses_seen == [Status.INPROGRESS if is_claimed else Status.QUEUED]


def test_batch_that_cannot_be_read_is_claimed_job_by_job(stage: Stage, faults: Faults) -> None:
    messages = submit_all(stage)
    faults.plan = lambda operation, number: "before" if operation == "BatchGetItem" else None
    assert failures(stage.handle(*messages)) == []
    assert (stage.count(), statuses(stage)) == (10, {Status.COMPLETED})


def test_job_that_was_not_read_is_not_treated_as_absent(stage: Stage, faults: Faults) -> None:
    faults.plan = lambda operation, number: "before" if operation == "BatchGetItem" else None
    with pytest.raises(StoreUnavailable):
        stage.store.read_many([("acme", "j1")])
