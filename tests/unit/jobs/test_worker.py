"""A message's way through a worker, on moto.

Powertools' idempotency works on the job's own record.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.authoring.outcomes import Permanent, Retry
from mayfly.jobs.errors import LeaseHeld
from mayfly.jobs.model import Job, Status, Submission, Wake
from mayfly.jobs.worker.failures import JobFailed

from tests.support.faults import Faults
from tests.support.stage import Stage


@pytest.fixture(params=["optimistic", "exclusive"])
def stage(request: pytest.FixtureRequest, dynamodb: Any) -> Stage:
    """Returns a worker whose task runs unclaimed, or one whose task is claimed.

    Most tests run with both.
    """
    return Stage(dynamodb, exclusive=request.param == "exclusive")


@pytest.fixture
def claiming(dynamodb: Any) -> Stage:
    """Returns a worker that claims each job before it runs."""
    return Stage(dynamodb, exclusive=True)


def test_job_runs_and_its_effect_counts(stage: Stage) -> None:
    stage.submit()
    stage.run()
    assert (stage.job().status, stage.count()) == (Status.COMPLETED, 1)


def test_second_delivery_of_a_done_job_runs_nothing(stage: Stage) -> None:
    stage.submit()
    stage.run()
    stage.run()
    assert (len(stage.ran), stage.count()) == (1, 1)


def test_return_value_of_the_task_is_the_result(stage: Stage) -> None:
    stage.body = lambda job, effects: {"b": [1, "ü"], "a": None}
    stage.submit()
    stage.run()
    assert stage.job().result == {"b": [1, "ü"], "a": None}


def test_duplicate_message_returns_after_the_lease(claiming: Stage) -> None:
    def meet(job: Job, effects: Any) -> None:
        claiming.clock.advance(5)
        with pytest.raises(LeaseHeld) as caught:
            claiming.deliver()
        assert caught.value.seconds == 10 + 1
        effects.increment("n")

    claiming.body = meet
    claiming.submit()
    claiming.run()
    assert (len(claiming.ran), claiming.count(), claiming.job().attempt) == (1, 1, 1)


def test_failure_is_retried_with_growing_pauses_until_no_attempt_is_left(
    stage: Stage,
) -> None:
    def fail(job: Job, effects: Any) -> None:
        effects.increment("n")
        raise RuntimeError("boom")

    stage.body = fail
    stage.submit()
    for pause in (1.0, 2.0):
        with pytest.raises(JobFailed) as caught:
            stage.run()
        assert caught.value.seconds == pause
        assert stage.job().status is Status.RETRY
        stage.clock.advance(pause)
    stage.run()  # the last attempt: the message is deleted
    dead = stage.job()
    assert (dead.status, dead.attempt, dead.error, stage.count()) == (
        Status.DEAD,
        3,
        "RuntimeError: boom",
        0,
    )
    assert [attempt.error for attempt in dead.history] == ["RuntimeError: boom"] * 3
    stage.run()
    assert len(stage.ran) == 3


def test_early_retry_waits_for_its_time(stage: Stage) -> None:
    def fail(job: Job, effects: Any) -> None:
        raise Retry("busy", after_seconds=30)

    stage.body = fail
    stage.submit()
    with pytest.raises(JobFailed) as caught:
        stage.run()
    assert caught.value.seconds == 30
    stage.clock.advance(10)
    with pytest.raises(LeaseHeld) as early:
        stage.run()
    assert (early.value.seconds, len(stage.ran)) == (20 + 1, 1)


def test_retry_far_in_the_future_waits_in_the_table_for_a_sweep(
    stage: Stage, dynamodb: Any
) -> None:
    """A job must not depend for long on its message.

    SQS can hide a message for 12 hours from its receive, and deletes it after the retention period.
    """
    days = 5 * 86_400

    def fail(job: Job, effects: Any) -> None:
        if job.attempt == 1:
            raise Retry("next week", after_seconds=days)
        effects.increment("n")

    stage.body = fail
    stage.submit()
    stage.run()  # the message is deleted
    waiting = stage.job()
    assert (waiting.status, waiting.not_before_ms, len(waiting.history)) == (
        Status.SCHEDULED,
        stage.clock() + days * 1000,
        1,
    )
    listed = stage.operations.list(
        "acme", Status.SCHEDULED, limit=9, after=None, now_ms=stage.clock()
    )
    assert [job.id for job in listed.jobs] == ["j1"]
    stage.clock.advance(days - 60)
    assert stage.operations.release_due(before_ms=stage.clock() + 90_000, limit=9) == 1
    stage.clock.advance(60)
    stage.run()
    assert (stage.job().status, stage.job().attempt, stage.count()) == (Status.COMPLETED, 2, 1)


def test_commit_that_fails_with_conflicts_only_costs_no_attempt(
    stage: Stage, faults: Faults
) -> None:
    stage.submit(max_attempts=1)
    faults.plan = lambda operation, number: (
        "conflict" if operation == "TransactWriteItems" else None
    )
    with pytest.raises(LeaseHeld) as caught:
        stage.run()
    assert caught.value.seconds == 2
    assert (stage.job().attempt, stage.job().history, stage.count()) == (0, (), 0)
    faults.plan = lambda operation, number: None
    stage.run(receives=2)
    assert (stage.job().status, stage.job().attempt, stage.count()) == (Status.COMPLETED, 1, 1)


@pytest.mark.parametrize("adds", [True, False])
def test_result_is_stored_in_as_many_bytes_as_were_counted(stage: Stage, adds: bool) -> None:
    """Powertools' own JSON would take six bytes for each of these letters."""

    def body(job: Job, effects: Any) -> str:
        if adds:
            effects.increment("n")
        return "é" * 120_000

    stage.body = body
    stage.submit()
    stage.run()
    assert (stage.job().status, stage.job().result) == (Status.COMPLETED, "é" * 120_000)


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
def test_effect_without_permission_or_table_is_retried(
    stage: Stage, faults: Faults, code: str
) -> None:
    stage.submit()
    faults.refuse("TransactWriteItems", code)
    with pytest.raises(JobFailed):
        stage.run()
    faults.plan = lambda operation, number: None
    assert (
        stage.job().status,
        code in str(stage.job().history[0].error)
        or "injected" in str(stage.job().history[0].error),
    ) == (
        Status.RETRY,
        True,
    )


def raiser(error: Exception) -> Callable[[Job, Any], None]:
    def fail(job: Job, effects: Any) -> None:
        effects.increment("n")
        raise error

    return fail


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (raiser(Permanent("no such card")), "Permanent: no such card"),
        (lambda job, effects: "x" * 300_000, "ResultTooLarge: the result has 300002 bytes"),
        (
            lambda job, effects: [effects.increment(f"c{n}") for n in range(100)],
            "TooManyEffects: the task collected 100 effects, the limit is 99",
        ),
    ],
)
def test_effect_that_can_never_succeed_ends_the_job_at_once_without_effects(
    stage: Stage, body: Any, reason: str
) -> None:
    stage.body = body
    stage.submit()
    stage.run()
    dead = stage.job()
    assert (dead.status, dead.attempt, stage.count()) == (Status.DEAD, 1, 0)
    assert str(dead.error).startswith(reason)


def test_ninety_nine_effects_fit_into_one_commit(stage: Stage) -> None:
    stage.body = lambda job, effects: [effects.increment(f"c{n}") for n in range(99)] and None
    stage.submit()
    stage.run()
    assert stage.job().status is Status.COMPLETED


def test_result_that_is_not_json_fails_the_attempt(stage: Stage) -> None:
    stage.body = lambda job, effects: object()
    stage.submit()
    with pytest.raises(JobFailed):
        stage.run()
    assert "not JSON serializable" in str(stage.job().error or stage.job().history[0].error)


def test_job_of_an_unknown_task_is_dead_and_its_error_lists_known_tasks(stage: Stage) -> None:
    stage.submit(task="unheard.of")
    stage.run()
    assert (stage.job().status, stage.job().error) == (
        Status.DEAD,
        "UnknownTask: no task is called 'unheard.of'; known tasks: t",
    )


def test_job_whose_last_attempt_was_interrupted_is_buried_with_that_reason(stage: Stage) -> None:
    stage.submit(max_attempts=1)
    stage.store.claim("acme", "j1", nonce="died", now_ms=stage.clock(), lease_ms=15_000)
    stage.clock.advance(15.001)
    stage.run()
    dead = stage.job()
    assert (dead.status, dead.attempt, len(stage.ran)) == (Status.DEAD, 1, 0)
    assert dead.error == "attempt 1 of 1 was interrupted: its process died"


def test_interrupted_job_runs_again_after_its_lease(stage: Stage) -> None:
    stage.submit()
    stage.store.claim("acme", "j1", nonce="died", now_ms=stage.clock(), lease_ms=15_000)
    stage.clock.advance(15.001)
    stage.run()
    assert (stage.job().status, stage.job().attempt, stage.count()) == (Status.COMPLETED, 2, 1)


def test_worker_that_lost_its_job_changes_nothing(claiming: Stage) -> None:
    def overtaken(job: Job, effects: Any) -> dict[str, int]:
        effects.increment("n")
        if job.attempt == 1:
            claiming.clock.advance(31)
            claiming.deliver()
        return {"attempt": job.attempt}

    claiming.body = overtaken
    claiming.submit()
    claiming.run()
    assert (claiming.job().result, claiming.count()) == ({"attempt": 2}, 1)


def test_worker_that_lost_its_job_to_a_live_worker_leaves_the_message_on_the_queue(
    claiming: Stage,
) -> None:
    def overtaken(job: Job, effects: Any) -> None:
        effects.increment("n")
        claiming.clock.advance(16)
        claiming.store.claim("acme", "j1", nonce="other", now_ms=claiming.clock(), lease_ms=15_000)

    claiming.body = overtaken
    claiming.submit()
    with pytest.raises(LeaseHeld):
        claiming.run()
    assert (claiming.job().owner, claiming.count()) == ("other", 0)


def test_late_failure_does_not_change_a_job_that_has_succeeded(claiming: Stage) -> None:
    def overtaken(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.attempt == 1:
            claiming.clock.advance(31)
            claiming.deliver()
            raise RuntimeError("late")

    claiming.body = overtaken
    claiming.submit()
    claiming.run()
    assert (claiming.job().status, claiming.count()) == (Status.COMPLETED, 1)


# ---------------------------------------------------------------- leases of long jobs


def test_heartbeat_renews_the_lease_of_a_running_job(claiming: Stage) -> None:
    def long(job: Job, effects: Any) -> None:
        for _ in range(4):
            claiming.clock.advance(10)
            claiming.batch.beat()
            assert claiming.job().lease_until_ms == claiming.clock() + 15_000
            with pytest.raises(LeaseHeld):
                claiming.deliver()
        effects.increment("n")

    claiming.body = long
    claiming.submit()
    claiming.run()
    assert (claiming.job().status, claiming.job().attempt, claiming.count()) == (
        Status.COMPLETED,
        1,
        1,
    )
    claiming.batch.beat()  # no job is running: no lease is renewed
    assert claiming.job().lease_until_ms is None


def test_task_that_lost_its_job_stops_at_its_next_checkpoint(claiming: Stage) -> None:
    reached = []

    def overtaken(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.attempt == 1:
            claiming.clock.advance(31)
            claiming.deliver()
            effects.checkpoint()  # the worker has not noticed yet
            claiming.batch.beat()
            effects.checkpoint()
            reached.append("past the checkpoint")

    claiming.body = overtaken
    claiming.submit()
    claiming.run()
    assert (claiming.job().status, claiming.job().attempt, claiming.count(), reached) == (
        Status.COMPLETED,
        2,
        1,
        [],
    )


def test_heartbeat_without_an_answer_is_made_up_for_by_the_next_one(
    claiming: Stage, faults: Faults
) -> None:
    def long(job: Job, effects: Any) -> None:
        faults.plan = lambda operation, number: "before"
        claiming.batch.beat()
        faults.plan = lambda operation, number: None
        claiming.clock.advance(5)
        claiming.batch.beat()
        effects.checkpoint()
        assert claiming.job().lease_until_ms == claiming.clock() + 15_000

    claiming.body = long
    claiming.submit()
    claiming.run()
    assert claiming.job().status is Status.COMPLETED


# ---------------------------------------------------------------- messages that request a job


def test_message_of_a_producer_creates_and_runs_its_job(stage: Stage) -> None:
    stage.run(Submission("t", {"x": 1}))
    (job,) = stage.ran
    stored = stage.job(job.id)
    assert (stored.status, stored.payload, stored.max_attempts, stage.count()) == (
        Status.COMPLETED,
        {"x": 1},
        3,
        1,
    )


def test_redelivered_message_is_one_job_and_two_messages_are_two(stage: Stage) -> None:
    for message_id in ("m1", "m1", "m2"):
        stage.run(Submission("t", None), message_id)
    assert stage.count() == 2


def test_messages_with_one_idempotency_key_are_one_job(stage: Stage) -> None:
    for message_id in ("m1", "m2"):
        stage.run(Submission("t", None, idempotency_key="k"), message_id)
    stage.run(Submission("t", None, idempotency_key="other"), "m1")
    assert stage.count() == 2


def test_idempotency_key_with_another_body_is_rejected_and_changes_nothing(stage: Stage) -> None:
    stage.run(Submission("t", "A", idempotency_key="k"), "m1")
    stage.run(Submission("t", "B" * 5000, idempotency_key="k"), "m2")
    (kept,) = stage.operations.unreadable(now_ms=stage.clock())
    assert (kept.message_id, "with another body" in kept.problem) == ("m2", True)
    assert [job.payload for job in stage.ran] == ["A"]
    assert stage.job(stage.ran[0].id).payload == "A"


def test_idempotency_key_can_be_used_again_after_its_job_expired(stage: Stage) -> None:
    stage.run(Submission("t", None, idempotency_key="k"), "m1")
    stage.clock.advance(31 * 24 * 3600)
    stage.run(Submission("t", None, idempotency_key="k"), "m2")
    assert stage.count() == 2


def test_message_for_a_job_that_does_not_exist_is_dropped(stage: Stage) -> None:
    stage.run(Wake("acme", "nothing"))
    assert stage.ran == []


# ---------------------------------------------------------------- the store fails


@pytest.mark.parametrize("operation", ["UpdateItem", "TransactWriteItems"])
@pytest.mark.parametrize("kind", ["before", "after"])
def test_one_lost_answer_has_no_effect(
    stage: Stage, faults: Faults, operation: str, kind: str
) -> None:
    stage.submit()
    faults.on(operation, kind)
    stage.run()
    assert (stage.job().status, stage.job().attempt, stage.count()) == (Status.COMPLETED, 1, 1)


@pytest.mark.parametrize("kind", ["before", "after"])
def test_commit_without_an_answer_leaves_the_job_to_redelivery(
    stage: Stage, faults: Faults, kind: str
) -> None:
    stage.submit()
    faults.plan = lambda operation, number: kind if operation == "TransactWriteItems" else None
    with pytest.raises(StoreUnavailable):
        stage.run()
    faults.plan = lambda operation, number: None
    stage.clock.advance(16)
    stage.run()
    assert (stage.job().status, stage.count()) == (Status.COMPLETED, 1)


def test_nested_workers_of_one_process_do_not_mix_up_their_jobs(stage: Stage) -> None:
    """Each delivery has its own context.

    Powertools' layer has one function name for a whole process, so nested calls would share it.
    """
    stage.submit()
    stage.submit(id="j2")

    def nested(job: Job, effects: Any) -> str:
        effects.increment("n")
        if job.id == "j1":
            stage.deliver(Wake("acme", "j2"))
        return job.id

    stage.body = nested
    stage.run()
    assert [(stage.job(name).status, stage.job(name).result) for name in ("j1", "j2")] == [
        (Status.COMPLETED, "j1"),
        (Status.COMPLETED, "j2"),
    ]
    assert stage.count() == 2


def test_threads_of_one_process_do_not_mix_up_their_jobs(stage: Stage) -> None:
    from concurrent.futures import ThreadPoolExecutor

    names = [f"j{number}" for number in range(12)]
    for name in names:
        stage.submit(id=name)
    stage.body = lambda job, effects: job.id
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda name: stage.deliver(Wake("acme", name), name), names))
    assert [stage.job(name).result for name in names] == names


@pytest.mark.parametrize(("mode", "calls"), [("optimistic", []), ("exclusive", ["UpdateItem"])])
def test_batch_of_one_makes_two_store_calls_and_three_with_a_claim(
    dynamodb: Any, faults: Faults, mode: str, calls: list[str]
) -> None:
    stage = Stage(dynamodb, exclusive=mode == "exclusive")
    stage.submit()
    faults.requests.clear()
    stage.run()
    assert faults.requests == ["BatchGetItem", *calls, "TransactWriteItems"]


# ---------------------------------------------------------------- effects of every kind


def mine(dynamodb: Any, key: str) -> Any:
    return dynamodb.get_item(TableName="Mine", Key={"id": {"S": key}}).get("Item")


@pytest.fixture
def table(dynamodb: Any) -> str:
    """Makes a table of an application."""
    keys = [{"AttributeName": "id", "KeyType": "HASH"}]
    dynamodb.create_table(
        TableName="Mine",
        KeySchema=keys,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for name in ("old", "gone"):
        dynamodb.put_item(TableName="Mine", Item={"id": {"S": name}, "n": {"N": "1"}})
    return "Mine"


def every_effect(job: Job, effects: Any) -> None:
    effects.increment("n", by=2)
    effects.increment("n", by=3)
    effects.put("Mine", {"id": "new", "list": [1, "x", None]}, condition="attribute_not_exists(id)")
    effects.update("Mine", {"id": "old"}, "ADD #n :by", names={"#n": "n"}, values={":by": 4})
    effects.delete("Mine", {"id": "gone"})
    effects.submit("t", {"from": job.id})


def test_effects_of_every_kind_are_applied_together(
    stage: Stage, dynamodb: Any, table: str
) -> None:
    stage.body = every_effect
    stage.submit()
    stage.run()
    assert (stage.job().status, stage.count()) == (Status.COMPLETED, 5)
    assert mine(dynamodb, "new")["list"] == {"L": [{"N": "1"}, {"S": "x"}, {"NULL": True}]}
    assert (mine(dynamodb, "old")["n"], mine(dynamodb, "gone")) == ({"N": "5"}, None)
    follow_ups = [
        item for item in dynamodb.scan(TableName="JobsTable")["Items"] if item["id"]["S"] != "j1"
    ]
    assert [
        (item["status"]["S"], item["payload"]["S"], item["max_attempts"]["N"])
        for item in follow_ups
    ] == [("QUEUED", '{"from":"j1"}', "3")]


def test_one_failed_condition_prevents_all_effects(stage: Stage, dynamodb: Any, table: str) -> None:
    def refused(job: Job, effects: Any) -> None:
        every_effect(job, effects)
        effects.check("Mine", {"id": "missing"}, "attribute_exists(id)")

    before = dynamodb.scan(TableName="Mine")["Items"]
    stage.body = refused
    stage.submit()
    stage.run()
    assert (stage.job().status, stage.count()) == (Status.DEAD, 0)
    assert "the effect check in 'Mine' was refused (ConditionalCheckFailed)" in str(
        stage.job().error
    )
    assert dynamodb.scan(TableName="Mine")["Items"] == before
    assert [item["id"]["S"] for item in dynamodb.scan(TableName="JobsTable")["Items"]] == ["j1"]


def test_task_may_request_a_retry_of_a_refused_effect(
    stage: Stage, dynamodb: Any, table: str
) -> None:
    def needs_the_door(job: Job, effects: Any) -> None:
        effects.increment("n")
        effects.check("Mine", {"id": "door"}, "attribute_exists(id)")

    stage.body = needs_the_door
    stage.declare(retry_refused=True, **stage.options)
    stage.submit()
    with pytest.raises(JobFailed):
        stage.run()
    assert (
        stage.job().status,
        "the effect check in 'Mine'" in str(stage.job().history[0].error),
    ) == (Status.RETRY, True)
    dynamodb.put_item(TableName="Mine", Item={"id": {"S": "door"}})
    stage.clock.advance(1)
    stage.run()
    assert (stage.job().status, stage.job().attempt, stage.count()) == (Status.COMPLETED, 2, 1)


def test_effect_that_can_never_be_applied_is_not_retried_whatever_the_task_requests(
    stage: Stage, table: str
) -> None:
    def twice(job: Job, effects: Any) -> None:
        effects.delete("Mine", {"id": "old"})
        effects.delete("Mine", {"id": "old"})

    stage.body = twice
    stage.declare(retry_refused=True, **stage.options)
    stage.submit()
    stage.run()
    assert (stage.job().status, stage.job().attempt) == (Status.DEAD, 1)


def test_follow_up_job_can_be_delayed(stage: Stage, dynamodb: Any) -> None:
    stage.body = lambda job, effects: effects.submit("t", delay_seconds=60)
    stage.submit()
    stage.run()
    (item,) = [
        item for item in dynamodb.scan(TableName="JobsTable")["Items"] if item["id"]["S"] != "j1"
    ]
    assert (item["status"]["S"], item["not_before"]["N"]) == (
        "SCHEDULED",
        str(stage.clock() + 60_000),
    )


def test_two_effects_on_one_item_end_the_job_with_the_error_of_dynamodb(
    stage: Stage, table: str
) -> None:
    def twice(job: Job, effects: Any) -> None:
        effects.delete("Mine", {"id": "old"})
        effects.delete("Mine", {"id": "old"})

    stage.body = twice
    stage.submit()
    stage.run()
    assert stage.job().status is Status.DEAD
    assert "multiple operations on one item" in str(stage.job().error)


def test_follow_up_job_is_created_once_however_often_its_parent_is_retried(
    stage: Stage, dynamodb: Any, faults: Faults
) -> None:
    def body(job: Job, effects: Any) -> None:
        if job.payload is None:
            effects.submit("t", "child")

    stage.body = body
    stage.submit()
    faults.plan = lambda operation, number: "after" if operation == "TransactWriteItems" else None
    with pytest.raises(StoreUnavailable):
        stage.run()
    faults.plan = lambda operation, number: None
    stage.clock.advance(16)
    stage.run()
    assert len(dynamodb.scan(TableName="JobsTable")["Items"]) == 2


@pytest.mark.parametrize(
    ("task", "payload", "reason"),
    [("nope", None, "UnknownTask"), ("t", "x" * 300_000, "PayloadTooLarge")],
)
def test_invalid_follow_up_job_fails_its_parent(
    stage: Stage, task: str, payload: Any, reason: str
) -> None:
    stage.body = lambda job, effects: effects.submit(task, payload)
    stage.submit(max_attempts=1)
    stage.run()
    assert (stage.job().status, reason in str(stage.job().error)) == (Status.DEAD, True)


def test_dead_job_keeps_an_error_of_bounded_length(stage: Stage) -> None:
    stage.body = raiser(Permanent("y" * 5000))
    stage.submit()
    stage.run()
    assert len(json.dumps(stage.job().error)) < 600
