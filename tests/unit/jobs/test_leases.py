"""Leases of running jobs, on moto: renewed, expired, and taken by another worker."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from mayfly.aws.dynamodb import DynamoDB, Reason
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.errors import LeaseHeld
from mayfly.jobs.model import Job, Status
from mayfly.jobs.store import JobStore

from tests.support.faults import Faults
from tests.support.jobs import LEASE, NOW, a_job
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


# ---------------------------------------------------------------- several leases in one call


class Partly(DynamoDB):
    """A store whose batches of statements are refused in part, by a script.

    `script` has a list for each call, with a code for each statement; "None" is a success.
    """

    def __init__(self, script: list[list[str] | StoreUnavailable]) -> None:
        self.waits: list[int] = []
        self._pause = self.waits.append
        self.script = script
        self.calls: list[list[str]] = []

    def execute_many(self, operation: str, statements: Sequence[Mapping[str, Any]]) -> list[Reason]:
        """Returns the next codes of the script."""
        self.calls.append([statement["Parameters"][1]["S"] for statement in statements])
        codes = self.script.pop(0)
        if isinstance(codes, StoreUnavailable):
            raise codes
        assert len(codes) == len(statements)
        return [Reason(code, _ENDED if code == _REFUSED else None) for code in codes]


_REFUSED = "ConditionalCheckFailed"
_ENDED = {"status": {"S": "CANCELLED"}, "fingerprint": {"S": "f"}}


def renewed(script: list[list[str] | StoreUnavailable]) -> tuple[list[str], Partly]:
    """Renews three claims; returns the outcomes, and the store with its calls."""
    db = Partly(script)
    jobs = [a_job(id=f"j{number}", owner="w") for number in range(3)]
    outcomes = JobStore(db, "JobsTable").renew(jobs, now_ms=NOW, lease_ms=LEASE)
    return ["renewed" if outcome is None else type(outcome).__name__ for outcome in outcomes], db


OTHER_REASONS = [
    "ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded",
    "TransactionConflict", "InternalServerError", "AccessDenied", "ValidationError",
    "ResourceNotFound",
]  # fmt: skip


@pytest.mark.parametrize("code", OTHER_REASONS)
def test_renewal_that_is_refused_for_any_other_reason_is_sent_again(code: str) -> None:
    outcomes, db = renewed([["None", code, _REFUSED], ["None"]])
    assert outcomes == ["renewed", "renewed", "StaleWrite"]
    assert db.calls == [["acme/j0", "acme/j1", "acme/j2"], ["acme/j1"]]


@pytest.mark.parametrize("code", OTHER_REASONS)
def test_renewal_that_is_refused_each_time_does_not_count_as_one(code: str) -> None:
    outcomes, db = renewed([[code, "None", "None"], [code], [code], [code]])
    assert outcomes == ["StoreUnavailable", "renewed", "renewed"]
    assert (len(db.calls), db.waits) == (4, [1, 2, 3])


def test_renewal_whose_job_is_lost_at_the_second_call_is_lost() -> None:
    outcomes, _ = renewed([["ThrottlingError"] * 3, ["None", _REFUSED, "None"]])
    assert outcomes == ["renewed", "StaleWrite", "renewed"]


def test_renewals_without_an_answer_at_the_second_call_keep_the_outcomes_of_the_first() -> None:
    outcomes, _ = renewed([["None", "ThrottlingError", _REFUSED], StoreUnavailable("renew", "x")])
    assert outcomes == ["renewed", "StoreUnavailable", "StaleWrite"]


def test_renewals_without_any_answer_are_unknown() -> None:
    with pytest.raises(StoreUnavailable):
        renewed([StoreUnavailable("renew", "x")])
