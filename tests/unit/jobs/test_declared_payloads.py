"""Payloads of a declared type where jobs are made and run: 422, unreadable, or dead."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from mayfly import jobs, schedules
from mayfly.core.observability import observer
from mayfly.jobs import Effects, Job, task
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.errors import PayloadMismatch
from mayfly.jobs.model import Status, Submission, Wake
from mayfly.jobs.worker.runner import Runner
from mayfly.schedules.model import Definition
from mayfly.schedules.store import ScheduleStore

from functions.jobs.app import build
from functions.jobs.deps import Deps
from tests.support.events import call, http
from tests.support.stage import Stage


@dataclass
class Order:
    """The payload of a task."""

    number: str
    items: int = 1


@task("t", max_attempts=3)
def tally(order: Order, effects: Effects) -> str:
    """Counts the items of an order."""
    effects.increment("n", order.items)
    return order.number


@task("t")
async def slow_tally(order: Order, effects: Effects, job: Job) -> str:
    """Does the same as an async task, which takes its job, too."""
    effects.increment("n", order.items)
    return f"{order.number} of {job.id}"


@task("parent")
def parent(job: Job, effects: Effects) -> None:
    """Submits an order whose payload does not fit."""
    effects.submit("t", {"number": 7})


GOOD, BAD = {"number": "7", "items": 3}, {"number": "7", "items": "3"}
PROBLEM = "payload.items: must be a whole number, not a text"
TASKS = {"t": tally.declaration}


@pytest.fixture
def stage(dynamodb: Any) -> Stage:
    return declare(Stage(dynamodb), tally)


def declare(stage: Stage, *tasks: Any) -> Stage:
    """Gives a worker other tasks, as a deployment does."""
    known = {task.declaration.name: task for task in tasks}
    stage.worker = replace(stage.worker, tasks=known)
    stage.runner = Runner(stage.worker)
    return stage


def submit(stage: Stage, payload: Any, key: str | None = None, **more: Any) -> tuple[int, Any]:
    """Submits a job by HTTP; returns the status and the answer."""
    deps = Deps(stage.operations, TASKS, observer("jobs"), stage.clock, **more)
    headers = {} if key is None else {"idempotency-key": key}
    event = http(
        "POST /jobs",
        body={"task": "t", "payload": payload},
        headers=headers,
        caller={"tenant": "acme", "scopes": "jobs:write"},
    )
    status, answer, _ = call(build(deps), event)
    return status, answer


def unreadable(stage: Stage) -> list[str]:
    return [kept.problem for kept in stage.operations.unreadable(now_ms=stage.clock())]


# ---------------------------------------------------------------- requests


def test_request_with_a_payload_that_does_not_fit_is_a_422_with_the_field(stage: Stage) -> None:
    status, answer = submit(stage, BAD)
    assert (status, answer["code"], answer["field"]) == (422, "payload-mismatch", "payload.items")
    assert answer["detail"] == PROBLEM
    assert submit(stage, GOOD)[0] == 202


def test_repeat_of_a_request_that_an_earlier_declaration_took_finds_its_job(stage: Stage) -> None:
    earlier = {"t": Declaration("t")}
    submission = Submission("t", BAD, idempotency_key="k")
    job, _ = jobs.submit(stage.store, submission, tenant="acme", tasks=earlier)
    status, answer = submit(stage, BAD, key="k")
    assert (status, answer["id"]) == (200, job.id)
    assert submit(stage, {**BAD, "number": "8"}, key="k")[0] == 422
    assert submit(stage, BAD, key="other")[0] == 422


def test_payload_is_checked_in_transactions_of_the_caller(stage: Stage) -> None:
    with pytest.raises(PayloadMismatch, match=PROBLEM):
        jobs.in_transaction(stage.store, Submission("t", BAD), tenant="acme", tasks=TASKS)


def test_schedule_with_a_payload_that_does_not_fit_is_refused(stage: Stage) -> None:
    store = ScheduleStore(stage.store.db, "JobsTable")
    deps = schedules.Deps(store, stage.operations, TASKS, stage.clock, lambda: "edition")
    definition = Definition("t", BAD, None, cron=None, every_seconds=60, timezone="UTC")
    with pytest.raises(PayloadMismatch, match=PROBLEM):
        schedules.define(deps, "s", definition, tenant="acme")
    _, is_new = schedules.define(deps, "s", replace(definition, payload=GOOD), tenant="acme")
    assert is_new


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize("receives", [1, 2])
def test_message_with_a_payload_that_does_not_fit_is_unreadable(
    stage: Stage, receives: int
) -> None:
    messages = [Submission("t", BAD), Submission("t", GOOD), Submission("t", BAD)]
    assert stage.handle(*messages, receives=receives) == {"batchItemFailures": []}
    assert (unreadable(stage), stage.count()) == ([PROBLEM, PROBLEM], 3)


def test_message_of_a_job_that_exists_is_not_unreadable(stage: Stage) -> None:
    """A deployment changed the type while the job waited for its next attempt."""
    declare(stage, task("t")(_fails))
    message = Submission("t", BAD)
    assert stage.handle(message) == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    declare(stage, tally)
    stage.clock.advance(60)
    assert stage.handle(message, receives=2) == {"batchItemFailures": []}
    (dead,) = stage.operations.list(
        "acme", Status.DEAD, limit=2, after=None, now_ms=stage.clock()
    ).jobs
    assert (unreadable(stage), dead.error) == ([], f"PayloadMismatch: {PROBLEM}")


def _fails(job: Job, effects: Effects) -> None:
    raise RuntimeError("not yet")


# ---------------------------------------------------------------- jobs


@pytest.mark.parametrize(
    ("function", "result"), [(tally, "7"), (slow_tally, "7 of j1")], ids=["plain", "async"]
)
def test_job_runs_with_an_instance_of_its_type(stage: Stage, function: Any, result: str) -> None:
    declare(stage, function)
    stage.submit(payload=GOOD)
    stage.run()
    assert (stage.job().result, stage.count()) == (result, 3)


def test_job_whose_payload_does_not_fit_is_dead_immediately(stage: Stage) -> None:
    stage.submit(payload=BAD)
    stage.run(Wake("acme", "j1"))
    job = stage.job()
    assert (job.status, job.attempt, job.error) == (Status.DEAD, 1, f"PayloadMismatch: {PROBLEM}")


def test_follow_up_job_whose_payload_does_not_fit_is_not_made(stage: Stage) -> None:
    declare(stage, parent, tally)
    stage.submit(task="parent")
    stage.run()
    job = stage.job()
    assert job.status is Status.DEAD
    assert job.error == "PayloadMismatch: payload.number: must be a text, not a number"
