"""A message's way through a worker: Powertools' idempotency over the job's own record, on moto."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from mayfly.core.errors import LeaseHeld, StoreUnavailable
from mayfly.jobs.authoring.task import Permanent, Retry
from mayfly.jobs.model import Job, Status, Submission, Wake
from mayfly.jobs.worker.failures import JobFailed

from tests.support.faults import Faults
from tests.support.stage import Stage


@pytest.fixture(params=["optimistic", "exclusive"])
def stage(request: pytest.FixtureRequest, dynamodb: Any) -> Stage:
    """A worker whose task runs unclaimed, and one whose task is claimed: most of what they promise
    is the same.
    """
    return Stage(dynamodb, exclusive=request.param == "exclusive")


@pytest.fixture
def claiming(dynamodb: Any) -> Stage:
    """A worker that claims."""
    return Stage(dynamodb, exclusive=True)


def test_a_job_runs_and_its_effect_counts(stage: Stage) -> None:
    stage.submit()
    stage.run()
    assert (stage.job().status, stage.count()) == (Status.COMPLETED, 1)


def test_a_second_delivery_of_a_done_job_runs_nothing(stage: Stage) -> None:
    stage.submit()
    stage.run()
    stage.run()
    assert (len(stage.ran), stage.count()) == (1, 1)


def test_what_the_task_returns_is_the_result(stage: Stage) -> None:
    stage.body = lambda job, effects: {"b": [1, "ü"], "a": None}
    stage.submit()
    stage.run()
    assert stage.job().result == {"b": [1, "ü"], "a": None}


def test_a_duplicate_meets_the_lease_and_comes_back_after_it(claiming: Stage) -> None:
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


def test_a_failure_is_retried_with_a_growing_pause_until_the_attempts_are_used(
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
    stage.run()  # the last attempt: the message is done
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


def test_a_retry_that_comes_early_waits_for_its_time(stage: Stage) -> None:
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


def test_a_retry_that_is_far_away_waits_in_the_table_and_comes_by_a_sweep(
    stage: Stage, dynamodb: Any
) -> None:
    """A message can hide for 12 hours, counted from its receive, and ages: a job must not depend on
    it for long.
    """
    days = 5 * 86_400

    def fail(job: Job, effects: Any) -> None:
        if job.attempt == 1:
            raise Retry("next week", after_seconds=days)
        effects.increment("n")

    stage.body = fail
    stage.submit()
    stage.run()  # the message is done
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


def test_a_commit_that_meets_nothing_but_conflicts_costs_no_attempt(
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
def test_a_result_is_stored_in_the_bytes_that_were_counted(stage: Stage, adds: bool) -> None:
    """Powertools' own JSON would be six bytes for each of these letters."""

    def body(job: Job, effects: Any) -> str:
        if adds:
            effects.increment("n")
        return "é" * 120_000

    stage.body = body
    stage.submit()
    stage.run()
    assert (stage.job().status, stage.job().result) == (Status.COMPLETED, "é" * 120_000)


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
def test_effects_that_are_not_allowed_or_have_no_table_may_be_next_time(
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
def test_what_can_never_succeed_ends_at_once_without_effects(
    stage: Stage, body: Any, reason: str
) -> None:
    stage.body = body
    stage.submit()
    stage.run()
    dead = stage.job()
    assert (dead.status, dead.attempt, stage.count()) == (Status.DEAD, 1, 0)
    assert str(dead.error).startswith(reason)


def test_ninety_nine_effects_fit(stage: Stage) -> None:
    stage.body = lambda job, effects: [effects.increment(f"c{n}") for n in range(99)] and None
    stage.submit()
    stage.run()
    assert stage.job().status is Status.COMPLETED


def test_a_result_that_is_no_json_is_a_failure_of_the_attempt(stage: Stage) -> None:
    stage.body = lambda job, effects: object()
    stage.submit()
    with pytest.raises(JobFailed):
        stage.run()
    assert "not JSON serializable" in str(stage.job().error or stage.job().history[0].error)


def test_an_unknown_task_ends_as_dead_with_the_names_that_exist(stage: Stage) -> None:
    stage.submit(task="unheard.of")
    stage.run()
    assert (stage.job().status, stage.job().error) == (
        Status.DEAD,
        "UnknownTask: no task is called 'unheard.of'; known tasks: t",
    )


def test_a_job_whose_last_attempt_was_interrupted_is_buried_with_that_reason(stage: Stage) -> None:
    stage.submit(max_attempts=1)
    stage.store.claim("acme", "j1", nonce="died", now_ms=stage.clock(), lease_ms=15_000)
    stage.clock.advance(15.001)
    stage.run()
    dead = stage.job()
    assert (dead.status, dead.attempt, len(stage.ran)) == (Status.DEAD, 1, 0)
    assert dead.error == "attempt 1 of 1 was interrupted: its process died"


def test_an_interrupted_job_runs_again_when_its_lease_is_over(stage: Stage) -> None:
    stage.submit()
    stage.store.claim("acme", "j1", nonce="died", now_ms=stage.clock(), lease_ms=15_000)
    stage.clock.advance(15.001)
    stage.run()
    assert (stage.job().status, stage.job().attempt, stage.count()) == (Status.COMPLETED, 2, 1)


def test_a_worker_that_wakes_too_late_changes_nothing(claiming: Stage) -> None:
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


def test_a_worker_that_lost_its_job_to_a_living_one_leaves_the_message_on_the_queue(
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


def test_a_late_failure_does_not_disturb_the_job_that_succeeded_meanwhile(claiming: Stage) -> None:
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


def test_a_beat_renews_the_lease_of_what_runs(claiming: Stage) -> None:
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
    claiming.batch.beat()  # nothing runs any more: nothing is renewed
    assert claiming.job().lease_until_ms is None


def test_a_task_that_lost_its_job_is_stopped_at_its_next_checkpoint(claiming: Stage) -> None:
    reached = []

    def overtaken(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.attempt == 1:
            claiming.clock.advance(31)
            claiming.deliver()
            effects.checkpoint()  # it has not heard yet
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


def test_a_beat_that_the_store_does_not_answer_is_made_up_for_by_the_next(
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


# ---------------------------------------------------------------- messages that ask for a job


def test_a_producers_message_makes_its_job_and_runs_it(stage: Stage) -> None:
    stage.run(Submission("t", {"x": 1}))
    (job,) = stage.ran
    found = stage.job(job.id)
    assert (found.status, found.payload, found.max_attempts, stage.count()) == (
        Status.COMPLETED,
        {"x": 1},
        3,
        1,
    )


def test_a_message_that_comes_twice_is_one_job_and_two_messages_are_two(stage: Stage) -> None:
    for message_id in ("m1", "m1", "m2"):
        stage.run(Submission("t", None), message_id)
    assert stage.count() == 2


def test_messages_with_one_idempotency_key_are_one_job(stage: Stage) -> None:
    for message_id in ("m1", "m2"):
        stage.run(Submission("t", None, idempotency_key="k"), message_id)
    stage.run(Submission("t", None, idempotency_key="other"), "m1")
    assert stage.count() == 2


def test_an_idempotency_key_with_another_body_is_refused_and_changes_nothing(stage: Stage) -> None:
    stage.run(Submission("t", "A", idempotency_key="k"), "m1")
    stage.run(Submission("t", "B" * 5000, idempotency_key="k"), "m2")
    (kept,) = stage.operations.unreadable(now_ms=stage.clock())
    assert (kept.message_id, "with another body" in kept.problem) == ("m2", True)
    assert [job.payload for job in stage.ran] == ["A"]
    assert stage.job(stage.ran[0].id).payload == "A"


def test_an_idempotency_key_is_free_again_once_its_job_has_expired(stage: Stage) -> None:
    stage.run(Submission("t", None, idempotency_key="k"), "m1")
    stage.clock.advance(31 * 24 * 3600)
    stage.run(Submission("t", None, idempotency_key="k"), "m2")
    assert stage.count() == 2


def test_a_message_for_a_job_that_does_not_exist_is_dropped(stage: Stage) -> None:
    stage.run(Wake("acme", "nothing"))
    assert stage.ran == []


# ---------------------------------------------------------------- the store fails


@pytest.mark.parametrize("operation", ["UpdateItem", "TransactWriteItems"])
@pytest.mark.parametrize("kind", ["before", "after"])
def test_an_answer_lost_once_costs_nothing(
    stage: Stage, faults: Faults, operation: str, kind: str
) -> None:
    stage.submit()
    faults.on(operation, kind)
    stage.run()
    assert (stage.job().status, stage.job().attempt, stage.count()) == (Status.COMPLETED, 1, 1)


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_store_that_goes_silent_at_commit_leaves_the_job_to_redelivery(
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


def test_nested_workers_of_one_process_do_not_mix_their_jobs(stage: Stage) -> None:
    """Powertools shares one layer's function name between nested calls; ours keeps each attempt in
    its own context.
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


def test_threads_of_one_process_do_not_mix_their_jobs(stage: Stage) -> None:
    from concurrent.futures import ThreadPoolExecutor

    names = [f"j{number}" for number in range(12)]
    for name in names:
        stage.submit(id=name)
    stage.body = lambda job, effects: job.id
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda name: stage.deliver(Wake("acme", name), name), names))
    assert [stage.job(name).result for name in names] == names


@pytest.mark.parametrize(("mode", "calls"), [("optimistic", []), ("exclusive", ["UpdateItem"])])
def test_a_batch_of_one_makes_two_store_calls_or_three_with_a_claim(
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
    """A user's own table."""
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


def test_one_condition_that_does_not_hold_keeps_all_effects_away(
    stage: Stage, dynamodb: Any, table: str
) -> None:
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


def test_a_task_may_want_a_refused_effect_to_be_tried_again(
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


def test_an_effect_that_could_never_be_applied_is_not_tried_again_whatever_the_task_wants(
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


def test_a_follow_up_can_wait(stage: Stage, dynamodb: Any) -> None:
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


def test_two_effects_on_one_item_end_the_job_with_dynamodbs_own_words(
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


def test_a_follow_up_is_made_once_however_often_its_parent_is_tried(
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
def test_a_follow_up_that_cannot_be_is_the_parents_failure(
    stage: Stage, task: str, payload: Any, reason: str
) -> None:
    stage.body = lambda job, effects: effects.submit(task, payload)
    stage.submit(max_attempts=1)
    stage.run()
    assert (stage.job().status, reason in str(stage.job().error)) == (Status.DEAD, True)


def test_a_dead_job_keeps_a_bounded_reason(stage: Stage) -> None:
    stage.body = raiser(Permanent("y" * 5000))
    stage.submit()
    stage.run()
    assert len(json.dumps(stage.job().error)) < 600
