"""Results, progress and follow-ups of a task, and its changes to the values that it is given."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID  # noqa: TID251  # a value of an application

import pytest
from mayfly.core.errors import InvalidRequest, MayflyError
from mayfly.jobs.authoring.outcomes import Continue
from mayfly.jobs.model import Attempt, Job, Status, Submission, Wake
from mayfly.jobs.worker.failures import JobFailed

from tests.support.stage import Stage

Body = Callable[[Job, Any], Any]


def circular() -> list[Any]:
    """Returns a list that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


def deep(levels: int) -> Any:
    """Returns lists in lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def drive(stage: Stage, body: Body) -> None:
    """Submits a job, and delivers its message until it is deleted."""
    stage.body = body
    stage.submit()
    for receives in range(1, 9):
        try:
            stage.run(receives=receives)
        except MayflyError as failure:
            stage.clock.advance(getattr(failure, "seconds", 15))
        else:
            return


FINAL: dict[str, tuple[Any, str]] = {
    "nan": ({"rate": float("nan")}, "nan is not JSON"),
    "infinite": (float("inf"), "inf is not JSON"),
    "keys of mixed types": ({1: "a", "b": 2}, "the keys of objects must be texts, not int (1)"),
    "keys that are numbers": ({1: "a"}, "the keys of objects must be texts, not int (1)"),
    "key that is a tuple": ({(1, 2): "a"}, "the keys of objects must be texts, not tuple ((1, 2))"),
    "inner keys": ([{"a": {None: 1}}], "the keys of objects must be texts, not NoneType (None)"),
    "101 levels": (deep(101), "nested deeper than 100 levels, or circular"),
    "circular": (circular(), "nested deeper than 100 levels, or circular"),
}
FAILED: dict[str, tuple[Any, str]] = {
    "lone surrogate": ({"file": "caf\udce9.csv"}, "UnicodeEncodeError: "),
    "decimal": ({"sum": Decimal("1.5")}, "TypeError: Object of type Decimal is not JSON"),
    "inner decimal": ({"a": {"sum": Decimal("1.5")}}, "TypeError: Object of type Decimal is not"),
    "uuid": (UUID(int=7), "TypeError: Object of type UUID is not JSON serializable"),
    "datetime": (
        datetime(2027, 1, 15, tzinfo=UTC),
        "TypeError: Object of type datetime is not JSON serializable",
    ),
    "dataclass": (Attempt(1), "TypeError: Object of type Attempt is not JSON serializable"),
    "set": ({"a": {1, 2}}, "TypeError: Object of type set is not JSON serializable"),
    "bytes": ({"a": b"x"}, "TypeError: Object of type bytes is not JSON serializable"),
    "5000 digits": ({"n": 10**5000}, "ValueError: Exceeds the limit (4300 digits)"),
    "generator": ((number for number in range(3)), "TypeError: Object of type generator is not"),
}


@pytest.mark.parametrize(("result", "problem"), FINAL.values(), ids=FINAL)
def test_result_of_a_form_that_cannot_be_ends_the_job_at_once(
    stage: Stage, result: Any, problem: str
) -> None:
    drive(stage, lambda job, effects: effects.increment("n") or result)
    job = stage.job()
    assert (job.status, len(stage.ran), stage.count()) == (Status.DEAD, 1, 0)
    assert str(job.error).startswith(f"InvalidRequest: result: {problem}")


@pytest.mark.parametrize(("result", "problem"), FAILED.values(), ids=FAILED)
def test_result_that_json_cannot_hold_is_a_failed_attempt(
    stage: Stage, result: Any, problem: str
) -> None:
    drive(stage, lambda job, effects: effects.increment("n") or result)
    job = stage.job()
    assert (job.status, len(stage.ran), stage.count()) == (Status.DEAD, 3, 0)
    assert str(job.error).startswith(problem)


@pytest.mark.parametrize(("value", "problem"), FINAL.values(), ids=FINAL)
def test_progress_and_payload_of_a_form_that_cannot_be_are_refused(
    stage: Stage, value: Any, problem: str
) -> None:
    def body(job: Job, effects: Any) -> None:
        for field, use in (
            ("progress", effects.checkpoint),
            ("payload", lambda payload: effects.submit("t", payload)),
        ):
            with pytest.raises(InvalidRequest) as refused:
                use(value)
            assert str(refused.value).startswith(f"{field}: {problem}")

    drive(stage, body)
    assert stage.job().status is Status.COMPLETED


@pytest.mark.parametrize(("value", "problem"), FAILED.values(), ids=FAILED)
def test_progress_and_payload_that_json_cannot_hold_are_a_failed_attempt(
    stage: Stage, value: Any, problem: str
) -> None:
    uses: dict[str, Body] = {
        "progress": lambda job, effects: effects.checkpoint(value),
        "payload": lambda job, effects: effects.submit("t", value),
    }
    for name, use in uses.items():
        stage.body = use
        stage.submit(id=name, max_attempts=1)
        stage.run(Wake("acme", name))
        job = stage.job(name)
        assert (job.status, len(job.history)) == (Status.DEAD, 1)
        assert problem.partition(":")[0] in str(job.error), name


def test_result_of_a_hundred_levels_can_be_read_back(stage: Stage) -> None:
    drive(stage, lambda job, effects: deep(100))
    assert stage.job().result == deep(100)


# ---------------------------------------------------------------- values that a task is given


@pytest.mark.parametrize("fate", ["succeeds", "fails", "checkpoints"])
def test_task_that_changes_its_payload_does_not_change_the_stored_one(
    stage: Stage, fate: str
) -> None:
    """The first write of a job that a message asks for contains the payload."""

    def body(job: Job, effects: Any) -> None:
        job.payload["names"].append(object())
        job.payload[7] = "x"
        if fate == "checkpoints":
            effects.checkpoint({"done": 1})
        if fate == "fails" and job.attempt == 1:
            raise RuntimeError("boom")

    stage.body = body
    wanted = Submission("t", {"names": ["a"]}, idempotency_key="k")
    if fate == "fails":
        with pytest.raises(JobFailed):
            stage.run(wanted)
        stage.clock.advance(2)
    stage.run(wanted, receives=1 if fate != "fails" else 2)
    job = stage.job(stage.ran[0].id)
    assert (job.status, job.payload) == (Status.COMPLETED, {"names": ["a"]})


def test_progress_that_is_changed_in_place_counts_as_progress(stage: Stage) -> None:
    """`state = job.progress; state["row"] += 1; effects.checkpoint(state)`, as most would write."""

    def body(job: Job, effects: Any) -> Any:
        state = job.progress or {"row": 0}
        state["row"] += 1
        effects.checkpoint(state)
        if state["row"] < 5:
            raise Continue
        return state

    stage.body = body
    stage.submit(max_attempts=1)
    for receives in range(1, 5):
        with pytest.raises(JobFailed):
            stage.run(receives=receives)
    stage.run(receives=5)
    assert (stage.job().status, stage.job().result) == (Status.COMPLETED, {"row": 5})


@pytest.mark.parametrize("progress", [(1, 2), {"rows": (1, 2)}], ids=["tuple", "inner tuple"])
def test_progress_that_is_stored_as_it_was_does_not_count(stage: Stage, progress: Any) -> None:
    """JSON has no tuples: the next attempt finds a list, and saves a tuple again, for ever."""

    def body(job: Job, effects: Any) -> None:
        effects.checkpoint(progress)
        raise Continue

    stage.body = body
    stage.submit(max_attempts=2)
    with pytest.raises(JobFailed):
        stage.run()
    with pytest.raises(JobFailed):
        stage.run(receives=2)
    stage.clock.advance(60)
    stage.run(receives=3)
    job = stage.job()
    assert job.status is Status.DEAD
    assert [attempt.outcome for attempt in job.history] == ["continued", "failed", "failed"]
