"""Messages that request a job, on moto: one job for each, or for each idempotency key."""

from mayfly.jobs.model import Status, Submission, Wake

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


def test_idempotency_key_can_be_used_again_after_its_job_expired(stage: Stage) -> None:
    stage.run(Submission("t", None, idempotency_key="k"), "m1")
    stage.clock.advance(31 * 24 * 3600)
    stage.run(Submission("t", None, idempotency_key="k"), "m2")
    assert stage.count() == 2


def test_message_for_a_job_that_does_not_exist_is_dropped(stage: Stage) -> None:
    stage.run(Wake("acme", "nothing"))
    assert stage.ran == []
