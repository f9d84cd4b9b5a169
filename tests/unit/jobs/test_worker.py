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
from mayfly.jobs.model import Job, Status, Wake
from mayfly.jobs.worker.failures import JobFailed

from tests.support.faults import Faults
from tests.support.stage import Stage

# ---------------------------------------------------------------- the task and its attempts


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
    stage: Stage, faults: Faults, caplog: pytest.LogCaptureFixture
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
    assert "spread the increments of jobs over counters of several names" in caplog.text


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


def test_dead_job_keeps_an_error_of_bounded_length(stage: Stage) -> None:
    stage.body = raiser(Permanent("y" * 5000))
    stage.submit()
    stage.run()
    assert len(json.dumps(stage.job().error)) < 600


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


# ---------------------------------------------------------------- several deliveries in one process


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


# ---------------------------------------------------------------- calls of the store


@pytest.mark.parametrize(("mode", "calls"), [("optimistic", []), ("exclusive", ["UpdateItem"])])
def test_batch_of_one_makes_two_store_calls_and_three_with_a_claim(
    dynamodb: Any, faults: Faults, mode: str, calls: list[str]
) -> None:
    stage = Stage(dynamodb, exclusive=mode == "exclusive")
    stage.submit()
    faults.requests.clear()
    stage.run()
    assert faults.requests == ["BatchGetItem", *calls, "TransactWriteItems"]
