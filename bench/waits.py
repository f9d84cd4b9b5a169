"""The time that a finished job waits to be committed with others, if jobs take some time."""

import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from mayfly.jobs.authoring.task import Declaration, Task
from mayfly.jobs.model import Job
from mayfly.jobs.worker import invocation
from mayfly.jobs.worker.runner import Runner

from bench.batch import make_stores
from bench.cost import Context, delete, received
from functions.run_jobs.deps import from_environ as run_jobs_deps
from mayfly_local.account import REGION
from mayfly_local.iam.credentials import FOREIGN
from mayfly_testing.stack import emulator

QUESTION = (
    "with jobs of 1 to 300 ms: how many store calls does a batch of ten make, and how "
    "long does a finished job wait for its commit?"
)
BATCHES = 12


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns calls of a batch, and the wait of a finished job, in both modes.

    The wait is the milliseconds between a task's return and its commit.
    """
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, emulator(Path(folder)) as endpoint:
        os.environ.update(
            {
                **FOREIGN.variables,
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
            }
        )
        os.environ["POWERTOOLS_METRICS_DISABLED"] = "true"
        queue = make_stores(endpoint, Path(folder))
        for mode in ("optimistic", "exclusive"):
            calls, waits = _measured(queue, exclusive=mode == "exclusive")
            figures |= {
                f"{mode}: store calls a batch, median": statistics.median(calls),
                f"{mode}: wait for the commit, median ms": round(statistics.median(waits)),
                f"{mode}: wait for the commit, longest ms": round(max(waits)),
            }
    say(
        f"{BATCHES} batches each; durations drawn from 1 to 300 ms, the same in both modes; the "
        "visibility call counted"
    )
    return figures


def _measured(queue: str, *, exclusive: bool) -> tuple[list[int], list[float]]:
    session, chance, names = boto3.Session(), random.Random(7), itertools.count()
    returned: dict[str, float] = {}
    waits: list[float] = []
    calls = [0]

    def count(**_: Any) -> None:
        calls[0] += 1

    def committed(**_: Any) -> None:
        now = time.perf_counter()
        waits.extend((now - returned.pop(job)) * 1000 for job in list(returned))

    session.events.register("before-call", count)
    # A job that returned before a transaction's response, but was not in the transaction, is
    # counted too early. This is rare.
    session.events.register("after-call.dynamodb.TransactWriteItems", committed)
    boto3.DEFAULT_SESSION = session

    def work(job: Job, effects: Any) -> None:
        time.sleep(chance.uniform(0.001, 0.3))
        effects.increment("n")
        returned[job.id] = time.perf_counter()

    variables = {
        "JOBS_TABLE": "JobsTable",
        "COUNTERS_TABLE": "CountersTable",
        "IMPORTS_BUCKET": "imports",
        "JOBS_QUEUE_URL": queue,
        "DEFAULT_TENANT": "default",
    }
    deps = run_jobs_deps(variables)
    task = Task(Declaration("work", exclusive=exclusive), work)
    deps.worker.tasks["work"] = task  # type: ignore[index]  # a worker only reads its tasks
    handler = invocation.entrypoint(
        Runner(deps.worker).open, queue=deps.queue, lease_seconds=15, observe=deps.observe
    )
    calls_by_batch = []
    for _ in range(BATCHES):
        event = received(queue, [{"task": "work", "payload": next(names)} for _ in range(10)])
        calls[0] = 0
        # The context has what the handlers use of Lambda's.
        assert handler(event, Context()) == {"batchItemFailures": []}  # type: ignore[arg-type]
        calls_by_batch.append(calls[0])
        delete(queue, event)
    return calls_by_batch, waits
