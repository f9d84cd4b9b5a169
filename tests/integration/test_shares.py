"""A tenant whose requests or jobs wait does not make those of another tenant wait."""

import subprocess
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest
import requests
from mayfly.core.clock import system_clock
from mayfly.jobs.items import new_items
from mayfly.jobs.model import Job, Status

from mayfly_testing.stack import MAYFLY, Stack, running, wait_until


def new_key(stack: Stack, tenant: str) -> dict[str, str]:
    """Returns the headers of a caller of a tenant."""
    made = subprocess.run(
        [MAYFLY, "keys", "create", "--tenant", tenant, "--work", stack.work],
        capture_output=True,
        text=True,
        check=True,
    )
    return {"Authorization": f"Bearer {made.stdout.split()[0]}"}


@pytest.mark.timeout(180)
def test_long_polls_of_one_tenant_and_of_two_leave_room_for_another(tmp_path: Path) -> None:
    with running(tmp_path) as stack:
        later = {"task": "counter.add", "payload": {"name": "n"}, "delay_seconds": 600}
        tenants = {name: new_key(stack, name) for name in ("first", "second", "quiet")}
        jobs = {
            name: requests.post(f"{stack.url}/jobs", json=later, headers=key, timeout=60).json()
            for name, key in tenants.items()
        }

        def poll(tenant: str, query: str = "?wait=20") -> str:
            url = f"{stack.url}/jobs/{jobs[tenant]['id']}{query}"
            reply = requests.get(url, headers=tenants[tenant], timeout=60)
            return str(reply.json().get("id"))

        for tenant, held in (("first", 8), ("second", 9)):
            polls = [threading.Thread(target=poll, args=(tenant,), daemon=True) for _ in range(14)]
            for thread in polls:
                thread.start()
            wait_until(
                lambda held=held: len(stack.environments("AwaitJob")) >= held,  # type: ignore[misc]
                30,
                what=f"long polls of {tenant}",
            )
            # One tenant leaves room for reads, and two leave room for a long poll, too.
            for query in ("", "?wait=1") if tenant == "second" else ("",):
                started = time.monotonic()
                assert poll("quiet", query) == jobs["quiet"]["id"]
                assert time.monotonic() - started < 10  # ends of long polls are 20 s apart
            assert any(thread.is_alive() for thread in polls)


#: Jobs of the flood, as in the field report. `make test-all` has as many.
FLOOD = 1_500


@pytest.mark.timeout(240)
def test_jobs_of_one_tenant_that_are_due_at_once_leave_room_for_another(
    tmp_path: Path, load_seconds: int
) -> None:
    """A job of a quiet tenant waited 11 s behind 1,500 of another one; 0.15 s is right.

    Jobs of the flood that run meanwhile are counted, since seconds differ between machines. Without
    fair groups, nearly all of them run before the first job of the quiet tenant.
    """
    flood = min(FLOOD, 50 * load_seconds)
    with running(tmp_path) as stack:
        quiet = new_key(stack, "quiet")
        _wait(stack, quiet)
        due_ms = system_clock() + 30_000
        _store_flood(stack, flood, due_ms)
        queue = stack.facts["resources"]["JobsQueue"]

        def delayed() -> int:
            names = ["ApproximateNumberOfMessagesDelayed"]
            reply = stack.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)
            return int(reply["Attributes"][names[0]])

        wait_until(lambda: delayed() >= flood * 0.9, 30, what="messages of the flood")
        wait_until(lambda: stack.counter("n", "flood") > 0, 60, what="the flood's first jobs")
        done, waits = [stack.counter("n", "flood")], []
        for _ in range(3):
            waits.append(_wait(stack, quiet))
            done.append(stack.counter("n", "flood"))
        facts = {"waits in seconds": waits, "flood's jobs that ran before and after each": done}
        assert done[1] - done[0] < flood / 2, facts
        assert done[-1] < flood, facts
        wait_until(lambda: stack.counter("n", "flood") == flood, 120, what="all jobs of the flood")


def _wait(stack: Stack, headers: dict[str, str]) -> float:
    """Submits a job, and returns the seconds until it has started."""
    body = {"task": "counter.add", "payload": {"name": "n"}}
    job = requests.post(f"{stack.url}/jobs", json=body, headers=headers, timeout=60).json()
    url = f"{stack.url}/jobs/{job['id']}?wait=20"
    job = requests.get(url, headers=headers, timeout=60).json()
    assert job["status"] == "succeeded", job
    began, made = job["attempts"][0]["started_at"], job["created_at"]
    return (datetime.fromisoformat(began) - datetime.fromisoformat(made)).total_seconds()


def _store_flood(stack: Stack, count: int, due_ms: int) -> None:
    """Stores jobs of the tenant flood that all start at one time."""
    table, client = stack.facts["resources"]["JobsTable"], stack.client("dynamodb")
    for start in range(0, count, 25):
        jobs = [
            Job(
                f"{number:032}", "flood", "counter.add", {"name": "n"}, Status.SCHEDULED,
                max_attempts=3, created_at_ms=due_ms - 60_000, fingerprint="f",
                not_before_ms=due_ms,
            )
            for number in range(start, start + 25)
        ]  # fmt: skip
        puts = [{"PutRequest": {"Item": item}} for job in jobs for item in new_items(job)]
        client.batch_write_item(RequestItems={table: puts})
