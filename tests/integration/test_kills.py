"""Workers of a whole stack that are killed under load, again and again."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from mayfly_testing.stack import Stack, running, wait_until
from tests.support.state_rounds import impatient_application


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_jobs_submitted_twice_while_all_workers_are_killed_are_done_once_each(
    tmp_path: Path, load_seconds: int
) -> None:
    with running(tmp_path / "run", template=impatient_application(tmp_path / "app")) as stack:
        submit_and_kill(stack, load_seconds)


def wait_for_success(stack: Stack, job_id: str) -> None:
    wait_until(
        lambda: stack.job(job_id, wait=20)["status"] == "succeeded", 300, what=f"job {job_id}"
    )


def submit_and_kill(stack: Stack, seconds: int) -> None:
    killing = threading.Event()
    kills: list[int] = []

    def kill_all() -> None:
        until = time.monotonic() + seconds
        while not killing.wait(0.4) and time.monotonic() < until:
            for pid in stack.environments("RunJobs"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills.append(pid)

    def submit_twice(number: int) -> str:
        body = {"task": "counter.add", "payload": {"name": "killed"}, "max_attempts": 20}
        headers = {**stack.headers, "Idempotency-Key": f"killed-{number}"}
        replies = [
            requests.post(f"{stack.url}/jobs", headers=headers, json=body, timeout=60)
            for _ in range(2)
        ]
        assert [reply.status_code for reply in replies] == [202, 200]
        assert replies[0].json()["id"] == replies[1].json()["id"]
        return str(replies[0].json()["id"])

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            ids = list(threads.map(submit_twice, range(300)))
        killer.join()
        for job_id in ids:
            wait_for_success(stack, job_id)
    finally:
        killing.set()
        killer.join()
    assert len(set(ids)) == 300
    assert len(kills) > seconds // 6  # as many as there was time for on a busy machine
    assert stack.counter("killed") == 300
