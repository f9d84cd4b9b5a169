"""A schedule on a whole local stack, while sweeps and workers are killed."""

import os
import random
import signal
import subprocess
import threading
import time
from contextlib import suppress
from datetime import datetime
from itertools import cycle
from pathlib import Path

import pytest
import requests

from mayfly_testing.stack import MAYFLY, Stack, running, wait_until

STEP = 5


def killers(stack: Stack, over: threading.Event, killed: dict[str, int]) -> list[threading.Thread]:
    """Starts sweeps in addition to the stack's own and kills half of them.

    Kills workers, too, at random times.
    """
    dice = random.Random(5)
    sweep = [
        str(MAYFLY),
        "invoke",
        "SweepJobs",
        "--event",
        "events/sweep_jobs.json",
        "--work",
        str(stack.work),
    ]

    def sweeps() -> None:
        for is_struck in cycle((True, False)):
            if over.is_set():
                return
            process = subprocess.Popen(
                sweep, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            if is_struck:
                over.wait(dice.uniform(0.3, 1.5))
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                killed["sweeps"] += 1
            process.wait(30)
            over.wait(4)

    def environments() -> None:
        while not over.wait(dice.uniform(1, 4)):
            for function in ("SweepJobs", "RunJobs", "RelayJobs"):
                with suppress(FileNotFoundError):
                    for pid in stack.environments(function):
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                            killed[function] = killed.get(function, 0) + 1

    threads = [threading.Thread(target=each, daemon=True) for each in (sweeps, environments)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.soak
@pytest.mark.timeout(420)
def test_schedule_makes_one_job_for_each_tick_under_kills(
    tmp_path: Path, load_seconds: int
) -> None:
    seconds = max(30, load_seconds)  # six ticks at least
    over, killed = threading.Event(), {"sweeps": 0}
    with running(tmp_path, "--parameter", "LeaseSeconds=3") as stack:
        body = {"every_seconds": STEP, "task": "counter.add", "payload": {"name": "ticks"}}
        reply = requests.put(
            f"{stack.url}/schedules/often", json=body, headers=stack.headers, timeout=30
        )
        assert reply.status_code == 201
        first = datetime.fromisoformat(reply.json()["next_at"]).timestamp()
        threads = killers(stack, over, killed)
        ends = first + seconds - STEP / 2  # between two ticks
        over.wait(ends - time.time())
        paused = requests.post(
            f"{stack.url}/schedules/often/pause", headers=stack.headers, timeout=30
        )
        assert paused.status_code == 200, paused.text
        over.set()
        for thread in threads:
            thread.join(60)
        ticks = seconds // STEP
        wait_until(lambda: stack.counter("ticks") >= ticks, 120, what="the end of every tick's job")
        jobs = [
            item
            for item in stack.items("JobsTable")
            if "tick" in item and item["status"]["S"] != "CANCELLED"
        ]
        assert [item["status"]["S"] for item in jobs] == ["COMPLETED"] * ticks
        assert stack.counter("ticks") == ticks
        assert len({item["tick"]["S"] for item in jobs}) == ticks
    assert killed["sweeps"] >= seconds // 24
    assert killed.get("RunJobs", 0) >= seconds // 24
    print({"ticks": ticks, "jobs": len(jobs), "killed": killed})
