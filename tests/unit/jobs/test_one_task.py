"""One task that runs in the process of a test: `mayfly_task` of the pytest plugin."""

import asyncio
from typing import Any

import pytest
from mayfly import Effects, Job, Permanent, Retry, task
from mayfly.limits.model import Algorithm, Limit

from mayfly_testing.one_task import Submitted, run_task

HOUR_MS = 3_600_000
HOURLY = Limit("hourly", limit=10, period_seconds=3600, algorithm=Algorithm.FIXED)


@task("t", max_attempts=7)
def everything(job: Job, effects: Effects) -> dict[str, Any]:
    effects.increment("orders")
    effects.increment("items", 3)
    effects.increment("items", 4)
    effects.put("own", {"pk": "a", "n": 1}, condition="attribute_not_exists(pk)")
    effects.submit("next", {"a": 1}, delay_seconds=60)
    effects.checkpoint({"row": 5})
    effects.checkpoint()
    return {
        "payload": job.payload, "attempt": job.attempt, "most": job.max_attempts,
        "progress": job.progress, "tenant": job.tenant, "left": effects.seconds_left(),
    }  # fmt: skip


@task("refuses")
def refuses(job: Job, effects: Effects) -> None:
    effects.increment("orders")
    raise Permanent("never") if job.payload else Retry("later", after_seconds=5)


@task("takes")
def takes(job: Job, effects: Effects) -> None:
    effects.take(HOURLY, "k")


def test_effects_of_a_task_are_returned_in_readable_form() -> None:
    ran = run_task(everything, {"x": 1})
    assert ran.increments == {"orders": 1, "items": 7}
    assert ran.submitted == [Submitted("next", {"a": 1}, None, 60)]
    assert ran.progress == [{"row": 5}]
    (put,) = [effect.write["Put"] for effect in ran.effects if "Put" in effect.write]
    assert put == {
        "TableName": "own",
        "Item": {"pk": {"S": "a"}, "n": {"N": "1"}},
        "ConditionExpression": "attribute_not_exists(pk)",
    }


def test_task_sees_a_job_as_a_worker_gives_it() -> None:
    assert run_task(everything, [1]).result == {
        "payload": [1], "attempt": 1, "most": 7, "progress": None, "tenant": "default",
        "left": 60.0,
    }  # fmt: skip
    ran = run_task(
        everything, attempt=3, max_attempts=4, progress=9, tenant="acme", seconds_left=1.5
    )
    assert ran.result == {
        "payload": None, "attempt": 3, "most": 4, "progress": 9, "tenant": "acme", "left": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize(("payload", "error"), [(True, Permanent), (None, Retry)])
def test_error_of_a_task_is_raised(payload: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        run_task(refuses, payload)


def test_limit_is_taken_in_the_window_of_the_given_time() -> None:
    at_one = run_task(takes, clock=lambda: HOUR_MS).effects
    at_two = run_task(takes, clock=lambda: 2 * HOUR_MS).effects
    assert at_one != at_two


def test_function_without_a_declaration_is_refused_by_name() -> None:
    def plain(job: Job, effects: Effects) -> None:
        """Is not declared."""

    with pytest.raises(TypeError, match=r"plain.* is not a task; declare it with @task"):
        run_task(plain)  # type: ignore[arg-type]  # the mistake


@task("waits")
async def waits(job: Job, effects: Effects) -> str:
    await asyncio.sleep(0)
    effects.increment("orders")
    return "done"


def test_async_task_runs_to_its_end() -> None:
    ran = run_task(waits, {})
    assert (ran.result, ran.increments) == ("done", {"orders": 1})
