"""Messages that request a job, on moto: one job for each, or for each idempotency key."""

from typing import Any

import pytest
from mayfly.jobs.errors import LeaseHeld
from mayfly.jobs.model import Status, Submission, Wake
from mayfly.jobs.rules import fingerprint, job_id_for

from tests.support.stage import Stage


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


SPELLINGS = [({"x": 1}, {"x": 1.0}), ({"x": 1.0}, {"x": 1}), ({"x": 1.0}, {"x": 1.0})]


@pytest.mark.parametrize("receives", [1, 2], ids=["optimistic", "claimed"])
@pytest.mark.parametrize(("first", "second"), SPELLINGS, ids=str)
def test_messages_with_one_key_in_two_spellings_are_one_job(
    stage: Stage, first: Any, second: Any, receives: int
) -> None:
    for message_id, payload in (("m1", first), ("m2", second)):
        message = Submission("t", payload, idempotency_key="k")
        stage.run(message, message_id, receives=receives)
    assert (stage.count(), len(stage.ran)) == (1, 1)
    assert list(stage.operations.unreadable(now_ms=stage.clock())) == []


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(("first", "second"), SPELLINGS, ids=str)
def test_messages_of_one_batch_in_two_spellings_are_one_job(
    stage: Stage, first: Any, second: Any, exclusive: bool
) -> None:
    stage.declare(exclusive=exclusive)
    reply = stage.handle(
        Submission("t", first, idempotency_key="k"), Submission("t", second, idempotency_key="k")
    )
    assert (reply["batchItemFailures"], stage.count(), len(stage.ran)) == ([], 1, 1)
    assert list(stage.operations.unreadable(now_ms=stage.clock())) == []


@pytest.mark.parametrize(("first", "second"), SPELLINGS, ids=str)
def test_waiting_job_is_claimed_by_a_message_in_another_spelling(
    stage: Stage, first: Any, second: Any
) -> None:
    stage.body = fail_once(stage.body)
    with pytest.raises(LeaseHeld):
        stage.run(Submission("t", first, idempotency_key="k"), "m1")
    stage.clock.advance(600)
    stage.run(Submission("t", second, idempotency_key="k"), "m2", receives=2)
    job = stage.job(stage.ran[0].id)
    assert (job.status, job.attempt, repr(job.payload)) == (Status.COMPLETED, 2, repr(first))


def fail_once(body: Any) -> Any:
    def run(job: Any, effects: Any) -> Any:
        if job.attempt == 1:
            raise RuntimeError("once")
        return body(job, effects)

    return run


def test_message_whose_job_an_older_release_has_stored_is_the_same_request(stage: Stage) -> None:
    """Releases 0.1.0 and 0.2.0 stored one hash, of the request as it was sent."""
    message = Submission("t", {"x": 1.0}, idempotency_key="k")
    job_id = job_id_for("acme", "k", otherwise="")
    stage.submit(id=job_id, payload={"x": 1.0}, fingerprint=fingerprint(message))
    stage.run(message, "m1")
    assert (stage.count(), stage.job(job_id).status) == (1, Status.COMPLETED)


def test_idempotency_key_can_be_used_again_after_its_job_expired(stage: Stage) -> None:
    stage.run(Submission("t", None, idempotency_key="k"), "m1")
    stage.clock.advance(31 * 24 * 3600)
    stage.run(Submission("t", None, idempotency_key="k"), "m2")
    assert stage.count() == 2


def test_message_for_a_job_that_does_not_exist_is_dropped(stage: Stage) -> None:
    stage.run(Wake("acme", "nothing"))
    assert stage.ran == []
