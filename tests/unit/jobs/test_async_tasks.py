"""Async tasks in the worker: their effects, their order, their deadline, and what they leave."""

import asyncio
import itertools
from typing import Any

import pytest
from mayfly.jobs.authoring.outcomes import Continue
from mayfly.jobs.errors import StaleWrite
from mayfly.jobs.model import Job, Outcome, Status, Submission
from mayfly.jobs.worker.failures import JobFailed

from tests.conftest import WORKERS, make_tables
from tests.support.fakes import Context
from tests.support.stage import Stage

_prefixes = (f"async{number}-" for number in itertools.count())
#: The context of an invocation whose deadline cancels a task immediately. A record is started only
#: if 2 s are left, so this time is gone when the task begins.
SHORT = Context(remaining_ms=1_000)


@pytest.fixture(params=["optimistic", "exclusive"])
def stage(request: pytest.FixtureRequest, dynamodb: Any) -> Stage:
    return Stage(dynamodb, exclusive=request.param == "exclusive", is_async=True)


async def forever() -> None:
    await asyncio.Event().wait()


def run_short(stage: Stage, receives: int = 1) -> None:
    """Runs the job in an invocation that ends soon."""
    left = stage.runner

    class Short:
        def open(self, records: Any, context: Any) -> Any:
            return left.open(records, SHORT)

    stage.deliver(runner=Short(), receives=receives)  # type: ignore[arg-type]  # plays a runner


def test_effects_are_committed_after_the_task_has_returned(stage: Stage) -> None:
    async def body(job: Job, effects: Any) -> dict[str, int]:
        effects.increment("n")
        await asyncio.sleep(0)
        return {"before": stage.count()}

    stage.body = body
    stage.submit()
    stage.run()
    job = stage.job()
    assert (job.status, job.result, stage.count()) == (Status.COMPLETED, {"before": 0}, 1)


@pytest.mark.parametrize(
    "error", [ValueError("v"), SystemExit(3), asyncio.CancelledError()], ids=repr
)
def test_error_of_an_async_task_is_a_failed_attempt(stage: Stage, error: BaseException) -> None:
    async def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        raise error

    stage.body = body
    stage.submit()
    with pytest.raises(JobFailed):
        stage.run()
    job = stage.job()
    assert (job.status, job.attempt, stage.count()) == (Status.RETRY, 1, 0)
    assert (job.history[-1].error or "").startswith(type(error).__name__)


def test_leftover_asyncio_task_is_a_failed_attempt_without_effects(stage: Stage) -> None:
    async def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        left.append(asyncio.create_task(forever()))

    left: list[asyncio.Task[None]] = []
    stage.body = body
    stage.submit()
    with pytest.raises(JobFailed):
        stage.run()
    error = stage.job().history[-1].error or ""
    assert error.startswith("LeftoverTasks: the task returned before 1 of its asyncio tasks")
    assert (stage.count(), left[0].cancelled()) == (0, True)


# ---------------------------------------------------------------- the deadline


def test_task_that_is_cancelled_at_the_deadline_has_failed(stage: Stage) -> None:
    async def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        await forever()

    stage.body = body
    stage.submit()
    with pytest.raises(JobFailed):
        run_short(stage)
    job = stage.job()
    assert (job.status, job.attempt, stage.count()) == (Status.RETRY, 1, 0)
    assert (job.history[-1].error or "").startswith("DeadlineReached: the task was cancelled")


def test_task_that_is_cancelled_after_a_checkpoint_continues_from_it(stage: Stage) -> None:
    async def body(job: Job, effects: Any) -> Any:
        if job.progress is None:
            effects.checkpoint({"page": 1})
            await forever()
        return job.progress

    stage.body = body
    stage.submit()
    with pytest.raises(JobFailed) as failure:
        run_short(stage)
    job = stage.job()
    assert (failure.value.seconds, job.status, job.attempt) == (0, Status.RETRY, 0)
    assert job.history[-1].outcome is Outcome.CONTINUED
    stage.run(receives=2)
    assert stage.job().result == {"page": 1}


def test_task_may_save_its_progress_when_it_is_cancelled(stage: Stage) -> None:
    async def body(job: Job, effects: Any) -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            effects.checkpoint({"page": 2})
            raise Continue from None

    stage.body = body
    stage.submit()
    with pytest.raises(JobFailed):
        run_short(stage)
    assert (stage.job().progress, stage.job().attempt) == ({"page": 2}, 0)


def test_async_task_stops_at_its_checkpoint_if_its_job_is_cancelled(stage: Stage) -> None:
    seen: list[BaseException] = []

    async def body(job: Job, effects: Any) -> None:
        effects.checkpoint(1)
        stage.operations.cancel("acme", "j1", now_ms=stage.clock())
        try:
            effects.checkpoint(2)
        except StaleWrite as lost:
            seen.append(lost)
            raise

    stage.body = body
    stage.submit()
    stage.run()
    assert (len(seen), stage.job().status) == (1, Status.CANCELLED)


# ---------------------------------------------------------------- the jobs of one batch


@pytest.mark.parametrize(
    ("options", "together"),
    [({}, 1), ({"exclusive": True}, 1), ({"exclusive": True, "concurrent": True}, 5)],
    ids=["optimistic", "exclusive", "concurrent"],
)
def test_jobs_of_a_batch_run_one_after_another_unless_declared_concurrent(
    embedded: Any, options: dict[str, bool], together: int
) -> None:
    stage = Stage(
        embedded, make_tables(embedded, next(_prefixes), only=WORKERS), is_async=True, **options
    )
    running: list[str] = []
    most: list[int] = []
    everyone = asyncio.Barrier(5)

    async def body(job: Job, effects: Any) -> None:
        running.append(job.id)
        if together > 1:
            await everyone.wait()  # each waits until all five run
        await asyncio.sleep(0.01)
        most.append(len(running))
        running.remove(job.id)
        effects.increment("n")

    stage.body = body
    reply = stage.handle(*(Submission("t", number) for number in range(5)))
    assert reply == {"batchItemFailures": []}
    assert (max(most), stage.count()) == (together, 5)
