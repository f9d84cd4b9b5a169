"""A tenant whose requests wait does not make another tenant's requests wait."""

import subprocess
import threading
import time
from pathlib import Path

import pytest
import requests

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
def test_long_polls_of_one_tenant_leave_room_for_another(tmp_path: Path) -> None:
    with running(tmp_path) as stack:
        quiet = new_key(stack, "quiet")
        polled = stack.submit("counter.add", {"name": "n"}, delay_seconds=600)["id"]
        later = {"task": "counter.add", "payload": {"name": "n"}, "delay_seconds": 600}
        own = requests.post(f"{stack.url}/jobs", json=later, headers=quiet, timeout=60).json()["id"]
        polls = [
            threading.Thread(target=stack.job, args=(polled, 20), daemon=True) for _ in range(14)
        ]
        for poll in polls:
            poll.start()
        wait_until(lambda: len(stack.environments("AwaitJob")) >= 8, 30, what="long polls")
        started = time.monotonic()
        reply = requests.get(f"{stack.url}/jobs/{own}", headers=quiet, timeout=60)
        assert reply.json()["id"] == own
        assert time.monotonic() - started < 10  # ends of long polls are 20 s apart
        assert any(poll.is_alive() for poll in polls)


@pytest.mark.timeout(180)
def test_long_polls_of_two_tenants_leave_room_for_a_third(tmp_path: Path) -> None:
    with running(tmp_path) as stack:
        later = {"task": "counter.add", "payload": {"name": "n"}, "delay_seconds": 600}
        tenants = {name: new_key(stack, name) for name in ("first", "second", "quiet")}
        jobs = {
            name: requests.post(f"{stack.url}/jobs", json=later, headers=key, timeout=60).json()
            for name, key in tenants.items()
        }

        def poll(tenant: str) -> None:
            url = f"{stack.url}/jobs/{jobs[tenant]['id']}?wait=20"
            requests.get(url, headers=tenants[tenant], timeout=60)

        polls = []
        for tenant, held in (("first", 8), ("second", 9)):
            of_tenant = [
                threading.Thread(target=poll, args=(tenant,), daemon=True) for _ in range(10)
            ]
            for thread in of_tenant:
                thread.start()
            polls += of_tenant
            wait_until(
                lambda held=held: len(stack.environments("AwaitJob")) >= held,  # type: ignore[misc]
                30,
                what=f"long polls of {tenant}",
            )
        started = time.monotonic()
        url = f"{stack.url}/jobs/{jobs['quiet']['id']}?wait=1"
        reply = requests.get(url, headers=tenants["quiet"], timeout=60)
        assert reply.json()["id"] == jobs["quiet"]["id"]
        assert time.monotonic() - started < 10  # ends of long polls are 20 s apart
        assert any(thread.is_alive() for thread in polls)
