"""The sweep of due jobs: its rate, and a quiet tenant next to one with many due jobs."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mayfly.jobs.items import new_items
from mayfly.jobs.model import Job, Status
from mayfly.jobs.shards import SHARDS

from bench.batch import make_stores
from bench.invocation import Invocation
from functions.sweep_jobs.app import build
from functions.sweep_jobs.deps import from_environ
from mayfly_local.emulator.clients import Clients
from mayfly_testing.stack import emulator

QUESTION = (
    "how many jobs a minute does the sweep announce, and how long do ten jobs of a quiet tenant "
    "wait beside 20,000 of another one that are due before them?"
)
FLOOD, QUIET = 20_000, 10
#: The time of an invocation, in seconds, as in the template.
INVOCATION_SECONDS = 60


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns the figures with one partition of the index, and with all its shards."""
    say(f"{FLOOD:,} jobs of one tenant are due, then {QUIET} of another one; the emulator")
    return {
        f"{name} ({shards} shard{'s' if shards > 1 else ''})": value
        for shards in (1, SHARDS)
        for name, value in _measure(shards).items()
    }


def _measure(shards: int) -> dict[str, Any]:
    """Returns jobs a minute, and seconds until the quiet tenant's jobs are announced."""
    with tempfile.TemporaryDirectory() as folder, emulator(Path(folder)) as endpoint:
        make_stores(endpoint, Path(folder))
        client = Clients(endpoint).get("dynamodb")
        due_ms = int(time.time() * 1000)
        _store(client, "flood", FLOOD, due_ms - 1000, shards)
        _store(client, "quiet", QUIET, due_ms, shards)
        with _environment(endpoint):
            handler = build(from_environ(os.environ))
        over, began, quiet_after = threading.Event(), time.monotonic(), [0.0]

        def watch() -> None:
            while not over.wait(0.05):
                if not _waiting(client, "quiet"):
                    quiet_after[0] = time.monotonic() - began
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        first = handler({}, Invocation(INVOCATION_SECONDS))["released"]
        in_first, released, sweeps = time.monotonic() - began, first, 1
        while released < FLOOD + QUIET:
            released += handler({}, Invocation(INVOCATION_SECONDS))["released"]
            sweeps += 1
        seconds = time.monotonic() - began
        watcher.join(60)
        over.set()
        began = time.monotonic()
        handler({}, Invocation(INVOCATION_SECONDS))
        idle = time.monotonic() - began
    return {
        "jobs a minute of sweeping": round(released / seconds * 60),
        "jobs that the first sweep announced": first,
        "seconds of the first sweep": round(in_first, 1),
        "sweeps until all were announced": sweeps,
        "seconds of sweeping until the quiet tenant's ten were announced": round(quiet_after[0], 1),
        "ms of a sweep without work": round(idle * 1000),
    }


def _store(client: Any, tenant: str, jobs: int, due_ms: int, shards: int) -> None:
    for start in range(0, jobs, 25):
        items = [
            new_items(
                Job(
                    id=f"{number:06}",
                    tenant=tenant,
                    task="counter.add",
                    payload={"name": "n"},
                    status=Status.SCHEDULED,
                    not_before_ms=due_ms,
                    max_attempts=3,
                    created_at_ms=due_ms - 10**7,
                    fingerprint="f",
                ),
                due_shards=shards,
            )[0]
            for number in range(start, min(jobs, start + 25))
        ]
        client.batch_write_item(
            RequestItems={"JobsTable": [{"PutRequest": {"Item": item}} for item in items]}
        )


def _waiting(client: Any, tenant: str) -> bool:
    """Returns whether a job of the tenant is in the `due` index."""
    return any(
        "due"
        in client.get_item(
            TableName="JobsTable",
            Key={"pk": {"S": f"{tenant}/{number:06}"}, "sk": {"S": "job"}},
            ConsistentRead=True,
        )["Item"]
        for number in range(QUIET)
    )


@contextmanager
def _environment(endpoint: str) -> Iterator[None]:
    """Sets the variables of the function while its dependencies are made."""
    before = dict(os.environ)
    os.environ.update(
        JOBS_TABLE="JobsTable",
        RELAY_REPORTS_BUCKET="reports",
        RELAY_FAILURES_URL="http://127.0.0.1/failures",
        AWS_ENDPOINT_URL=endpoint,
        AWS_ACCESS_KEY_ID="bench",
        AWS_SECRET_ACCESS_KEY="bench",
        AWS_REGION="us-east-1",
        AWS_DEFAULT_REGION="us-east-1",
        POWERTOOLS_LOG_LEVEL="ERROR",
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
