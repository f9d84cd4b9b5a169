"""Leases of running jobs, on moto: renewed, expired, and taken by another worker."""

from typing import Any

import pytest
from mayfly.jobs.errors import LeaseHeld
from mayfly.jobs.model import Job, Status

from tests.support.faults import Faults
from tests.support.stage import Stage


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
