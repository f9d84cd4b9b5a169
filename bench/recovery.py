"""The time until everything works again after kill -9."""

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mayfly_testing.stack import Stack, running, wait_until

QUESTION = (
    "how long after kill -9 does the next request answer, and a job that was running run again?"
)
REQUESTS, BATCHES = 9, 2


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns seconds after the kill of every process of a function."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stack:
        stack.get("/")
        answers = [_next_answer(stack) for _ in range(REQUESTS)]
        batches = [_next_attempt(stack, f"killed-{number}") for number in range(BATCHES)]
    say(
        f"{REQUESTS} kills of all page processes, {BATCHES} kills of all workers in the middle "
        "of 60 jobs; the lease is 15 s, the queue's own visibility 90 s"
    )
    return {
        "GET / after a kill, median s": round(statistics.median(answers), 2),
        "last of 60 jobs after a kill of all workers, worst s": round(max(batches), 2),
    }


def _kill(stack: Stack, function: str) -> None:
    for pid in stack.environments(function):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _next_answer(stack: Stack) -> float:
    _kill(stack, "Hello")
    wait_until(lambda: not stack.environments("Hello"), 10)
    started = time.monotonic()
    assert stack.get("/").status_code == 200
    return time.monotonic() - started


def _next_attempt(stack: Stack, name: str) -> float:
    for _ in range(60):
        stack.submit("counter.add", {"name": name})
    wait_until(lambda: stack.counter(name) > 0, 30)
    _kill(stack, "RunJobs")
    started = time.monotonic()
    wait_until(lambda: stack.counter(name) == 60, 200)
    return time.monotonic() - started
