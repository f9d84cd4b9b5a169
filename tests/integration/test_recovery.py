"""Recovery after a crash.

The stack's worker may run for 15 minutes and has a task that kills its process. The scenes run in
parallel on one stack; each test checks the outcome of one scene.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from mayfly.core.clock import rfc3339, system_clock

from mayfly_testing.stack import ROOT, Stack, running, wait_until

_POISON = """
import os, signal
from mayfly.jobs import Effects, Job, task

@task("poison", max_attempts=3)
def poison(job: Job, effects: Effects) -> None:
    effects.increment("poisoned")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def lease(request: pytest.FixtureRequest) -> int:
    """Returns the lease of jobs, in seconds."""
    return int(request.config.getoption("--lease-seconds"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, lease: int) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("recovery")
    for name in ("functions", "layers"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "functions/tasks/poison.py").write_text(_POISON)
    template = (ROOT / "template.yaml").read_text()
    # The worker's timeout, and with it its queue's visibility timeout.
    assert template.count(" 90\n") == 2
    (folder / "template.yaml").write_text(template.replace(" 90\n", " 900\n"))
    options = ["--parameter", f"LeaseSeconds={lease}"]
    with running(folder / "run", *options, template=folder / "template.yaml") as found:
        yield found


@pytest.fixture(scope="module")
def scenes(stack: Stack, lease: int) -> Iterator[dict[str, "Future[Any]"]]:
    """Runs all scenes that take time, started at the same time."""
    with ThreadPoolExecutor(4) as threads:
        killed = threads.submit(kill_a_sleeper, stack, lease)
        wait_until(lambda: stack.environments("RunJobs"), 30)
        scheduled = threads.submit(run_ahead, stack, 4 * lease)
        yield {
            "killed": killed,
            "scheduled": scheduled,
            "poisoned": threads.submit(poison_a_batch, stack, killed),
        }


def show(text: str) -> None:
    """Prints a figure, which pytest shows with `-s`."""
    sys.stdout.write(text + "\n")


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# ---------------------------------------------------------------- scenes


def kill_a_sleeper(stack: Stack, lease: int) -> dict[str, Any]:
    """Runs a job that sleeps for four leases, while no other job runs.

    Its worker is killed after two thirds of the first lease, which a heartbeat has renewed.
    """
    job_id = stack.submit("sleep", {"seconds": 4 * lease})["id"]
    started = at(wait_until(lambda: stack.job(job_id)["attempts"], 60)[0]["started_at"])
    wait_until(lambda: system_clock() / 1000 >= started + lease * 2 / 3, 30)
    for pid in stack.environments("RunJobs"):
        os.kill(pid, signal.SIGKILL)
    killed = system_clock() / 1000
    seen: list[str] = []

    def second_attempt() -> Any:
        job = stack.job(job_id)
        if not seen or seen[-1] != job["status"]:
            seen.append(job["status"])
        return job["attempts"][1:]

    (second,) = wait_until(second_attempt, 60, interval=0.05)
    return {
        "id": job_id,
        "seen": seen,
        "seconds": at(second["started_at"]) - killed,
        "slowness": stack.slowness(),
    }


def poison_a_batch(stack: Stack, killed: "Future[Any]") -> dict[str, Any]:
    """Runs a job that kills its process, in one batch with nine others."""
    killed.result()  # otherwise its kill would hit this scene, too
    sqs, url = stack.client("sqs"), stack.facts["outputs"]["JobsQueueUrl"]
    bodies = [{"task": "counter.add", "payload": {"name": "neighbours"}}] * 4 + [{"task": "poison"}]
    bodies += [{"task": "counter.add", "payload": {"name": "neighbours"}}] * 5
    sqs.send_message_batch(
        QueueUrl=url,
        Entries=[{"Id": str(i), "MessageBody": json.dumps(each)} for i, each in enumerate(bodies)],
    )

    def ended(task: str, status: str) -> list[dict[str, Any]]:
        return [
            each
            for each in stack.items("JobsTable")
            if (each.get("task"), each.get("status")) == ({"S": task}, {"S": status})
        ]

    (dead,) = wait_until(lambda: ended("poison", "DEAD"), 120)
    wait_until(lambda: stack.counter("neighbours") == 9, 60)
    job = stack.job(dead["id"]["S"])
    redriven = stack.redrive(job["id"])
    wait_until(lambda: len(stack.job(job["id"])["attempts"]) == 4, 60)
    return {"job": job, "redriven": redriven}


def run_ahead(stack: Stack, seconds: int) -> tuple[float, float]:
    """Measures the delay of scheduled jobs.

    Returns the seconds between the scheduled time and the start, and the duration of a job then
    that was due immediately.
    """
    run_at = rfc3339(system_clock() + seconds * 1000)
    job_id = stack.submit("counter.add", {"name": "on-time"}, run_at=run_at)["id"]
    assert stack.job(job_id)["status"] == "scheduled"
    wait_until(lambda: system_clock() / 1000 >= at(run_at), 90)
    slowness = stack.slowness()
    done = wait_until(
        lambda: [job for job in [stack.job(job_id, wait=20)] if job["status"] == "succeeded"], 90
    )[0]
    return at(done["attempts"][0]["started_at"]) - at(run_at), slowness


# ---------------------------------------------------------------- outcomes


def test_job_whose_process_was_killed_starts_again_within_its_lease_and_two_seconds(
    scenes: dict[str, Any], lease: int
) -> None:
    scene = scenes["killed"].result()
    show(
        f"second attempt {scene['seconds']:.1f} s after the kill; seen in between: "
        f"{', '.join(scene['seen'])}"
    )
    show(f"a job due at once took {scene['slowness']:.1f} s")
    assert 0 < scene["seconds"] <= lease + 2 + scene["slowness"]


def test_status_of_a_killed_job_is_true_all_the_time(stack: Stack, scenes: dict[str, Any]) -> None:
    scene = scenes["killed"].result()
    assert scene["seen"] == ["running", "interrupted", "running"]
    wait_until(lambda: stack.job(scene["id"], wait=20)["status"] == "succeeded", 90)
    job = stack.job(scene["id"])
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["interrupted", "succeeded"]


def test_job_that_kills_its_process_is_dead_after_exactly_its_attempts(
    scenes: dict[str, Any],
) -> None:
    job = scenes["poisoned"].result()["job"]
    assert (job["status"], len(job["attempts"]), job["error"]) == (
        "dead",
        3,
        "attempt 3 of 3 was interrupted: its process died",
    )
    assert {attempt["outcome"] for attempt in job["attempts"]} == {"interrupted"}


def test_other_jobs_in_the_batch_of_a_killed_process_all_succeed(
    stack: Stack, scenes: dict[str, Any]
) -> None:
    scenes["poisoned"].result()
    assert (stack.counter("neighbours"), stack.counter("poisoned")) == (9, 0)


def test_redriven_job_runs_again(scenes: dict[str, Any]) -> None:
    assert scenes["poisoned"].result()["redriven"]["status"] == "queued"


def test_job_scheduled_for_later_starts_within_two_seconds_of_its_time(
    scenes: dict[str, Any],
) -> None:
    late, slowness = scenes["scheduled"].result()
    show(f"started {late:.2f} s after its time, when a job due at once took {slowness:.2f} s")
    assert 0 <= late <= 2 + slowness
