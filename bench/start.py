"""The time from the command to the first response."""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from mayfly_local.emulator.process import free_port
from mayfly_testing.stack import MAYFLY, ROOT, wait_until

QUESTION = "how long does `mayfly up` take to the first 200 of GET /, once installed?"
RUNS = 7


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns seconds over several starts, after one that fills the caches."""
    seconds = [_once() for _ in range(RUNS + 1)][1:]
    say(f"{RUNS} starts: {', '.join(f'{duration:.2f}' for duration in seconds)} s")
    return {
        "median seconds to the first 200": round(statistics.median(seconds), 2),
        "slowest": round(max(seconds), 2),
    }


def _once() -> float:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        process = subprocess.Popen(
            [MAYFLY, "up", "--template", ROOT / "template.yaml", "--port", str(port),
             "--work", Path(folder)],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: _answers(port), 60, interval=0.01)
            return time.monotonic() - started
        finally:
            process.terminate()
            process.wait(30)


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=30).status_code == 200
    except requests.ConnectionError:
        return False
