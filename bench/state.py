"""The cost of `--state`, and the first seconds after a restart."""

import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from mayfly_testing.stack import Stack, running, wait_until

QUESTION = (
    "what does --state cost in jobs a second and in latency, and how long do requests "
    "take in the first 10 s after a restart?"
)
ROUNDS, JOBS, CALLS, CLIENTS = 3, 2000, 300, 8
WINDOW_SECONDS = 10.0


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns jobs a second and milliseconds, with and without a state folder in alternation.

    Returns the seconds of requests after a restart as well.
    """
    rates: dict[bool, list[float]] = {False: [], True: []}
    latencies: dict[bool, list[float]] = {False: [], True: []}
    for number in range(ROUNDS):
        for is_kept in (False, True):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                options = ["--state", str(folder / "state")] if is_kept else []
                with running(folder, *options) as stack:
                    _run_jobs(stack, "warm", 400)
                    rates[is_kept].append(_run_jobs(stack, "counted", JOBS))
                    latencies[is_kept] += _latencies(stack)
            say(
                f"round {number + 1}, {'with' if is_kept else 'without'} --state: "
                f"{rates[is_kept][-1]:.0f} jobs/s"
            )
    after = [_restart() for _ in range(ROUNDS)]
    say(
        f"{CLIENTS} clients, latencies in the first {WINDOW_SECONDS:.0f} s after the restarted "
        f"stack takes connections, {ROUNDS} restarts"
    )
    ratios = [kept / plain for plain, kept in zip(rates[False], rates[True], strict=True)]
    return {
        "jobs/s without --state, median": round(statistics.median(rates[False]), 1),
        "jobs/s with --state, median": round(statistics.median(rates[True]), 1),
        "with / without, each round": [round(ratio, 2) for ratio in ratios],
        "POST /jobs without --state, ms: median, p99": _two(latencies[False]),
        "POST /jobs with --state, ms: median, p99": _two(latencies[True]),
        "POST /jobs after a restart, ms: median, p99, each restart": [
            _two(seconds) for seconds in after
        ],
    }


def _two(seconds: list[float]) -> list[float]:
    ordered = sorted(seconds)
    return [round(1000 * ordered[len(ordered) * percent // 100], 1) for percent in (50, 99)]


def _run_jobs(stack: Stack, name: str, count: int) -> float:
    """Returns jobs a second of four clients, from the first submit until all jobs have counted."""
    started = time.monotonic()

    def submit(part: int) -> None:
        with requests.Session() as session:
            for _ in range(part):
                _submit(session, stack, name).raise_for_status()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(submit, [count // 4] * 4))
    wait_until(lambda: stack.counter(name) >= count, 300, interval=0.05)
    return count / (time.monotonic() - started)


def _submit(session: requests.Session, stack: Stack, name: str) -> requests.Response:
    body = {"task": "counter.add", "payload": {"name": name}}
    return session.post(f"{stack.url}/jobs", json=body, headers=stack.headers, timeout=40)


def _latencies(stack: Stack) -> list[float]:
    latencies = []
    with requests.Session() as session:
        for _ in range(CALLS):
            started = time.monotonic()
            _submit(session, stack, "latency").raise_for_status()
            latencies.append(time.monotonic() - started)
    return latencies


def _restart() -> list[float]:
    """Returns the seconds of each request in the window after a stop and a start.

    The load continues all the time.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ["--state", str(folder / "state")]
        with running(folder, *options) as stack:
            _run_jobs(stack, "before", 400)
            stack.stop()
        calls: list[tuple[float, float]] = []
        with running(folder, *options) as stack:
            opened, ends = time.monotonic(), threading.Event()

            def call() -> None:
                with requests.Session() as session:
                    while not ends.is_set():
                        started = time.monotonic()
                        with contextlib.suppress(requests.RequestException):
                            _submit(session, stack, "after").raise_for_status()
                            calls.append((started, time.monotonic() - started))

            threads = [threading.Thread(target=call) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
            ends.wait(WINDOW_SECONDS)
            ends.set()
            for thread in threads:
                thread.join()
        return [took for started, took in calls if started < opened + WINDOW_SECONDS]
