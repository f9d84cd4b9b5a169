"""A quiet tenant next to a flooding one: the times of its requests, without faults.

Phases without and with the flood take turns, so that both see the same machine.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from mayfly_lab.chaos.api import Api
from mayfly_lab.chaos.present import messages_left
from mayfly_lab.chaos.site import Site
from mayfly_local.errors import LocalError
from mayfly_local.processes import bootstrap
from mayfly_testing.stack import wait_until

__all__ = ["BOUND_MS", "BOUND_TIMES", "Latency", "breaches", "measure"]

#: The bound of the quiet tenant's p99 next to the flood: this many times its own, and this long.
BOUND_TIMES: Final = 3.0
BOUND_MS: Final = 500.0
_CALLERS: Final = 16
_ROUNDS: Final = 3
#: A quiet tenant sends a few requests, and then none for this long, in seconds.
_REST: Final = 0.02
_DRAIN_SECONDS: Final = 120.0


@dataclass
class Latency:
    """Times of one kind of request in milliseconds, without the flood and next to it."""

    alone: list[float] = field(default_factory=list)
    flooded: list[float] = field(default_factory=list)

    @property
    def bound(self) -> float:
        """The longest p99 next to the flood, in milliseconds."""
        return min(BOUND_MS, BOUND_TIMES * percentile(self.alone, 99))


def percentile(values: list[float], percent: int) -> float:
    """Returns the value that this percentage of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def breaches(latencies: dict[str, Latency]) -> list[str]:
    """Returns a sentence for each kind of request whose p99 next to the flood is too long."""
    return [
        f"a quiet tenant's p99 of {what} is {percentile(times.flooded, 99):.0f} ms next to a "
        "flood, "
        f"above {times.bound:.0f} ms; without one it is {percentile(times.alone, 99):.0f} ms"
        for what, times in latencies.items()
        if percentile(times.flooded, 99) > times.bound
    ]


def measure(
    site: Site, quiet: str, flood: str, *, seconds: float, say: Callable[[str], None]
) -> dict[str, Latency]:
    """Measures for this long, by the keys of both tenants; returns times by kind of request."""
    latencies = {"requests": Latency(), "jobs": Latency()}
    phase = seconds / (2 * _ROUNDS)
    api = Api(site.port, quiet)
    token = api.send("POST", "/sessions", {}).body["token"]
    _use(api, token, phase / 2, {name: [] for name in latencies})  # The functions start.
    for number in range(1, _ROUNDS + 1):
        _use(api, token, phase, {name: times.alone for name, times in latencies.items()})
        with _flooding(site, flood) as answered:
            _use(api, token, phase / 2, {name: [] for name in latencies})
            _use(api, token, phase, {name: times.flooded for name, times in latencies.items()})
        wait_until(
            lambda: not messages_left(site.stack),
            _DRAIN_SECONDS,
            what="the end of the flood's jobs",
        )
        say(f"quiet tenant: round {number} of {_ROUNDS}, {answered[0]} requests of the flood")
    api.close()
    return latencies


def _use(api: Api, token: str, seconds: float, times: dict[str, list[float]]) -> None:
    """Sends requests one after another for some seconds, and adds their times in milliseconds."""
    ends = time.monotonic() + seconds
    while not times["jobs"] or time.monotonic() < ends:
        with _timed(times["requests"]):
            api.send("POST", "/counters/quiet/increment", {}, repeat_key=uuid.uuid4().hex)
        with _timed(times["requests"]):
            api.send("GET", "/sessions/current", token=token)
        with _timed(times["jobs"]):
            with _timed(times["requests"]):
                answer = api.send(
                    "POST", "/jobs", {"task": "counter.add", "payload": {"name": "q"}}
                )
            if answer.status != 202:
                raise LocalError(f"a quiet tenant's job was answered {answer.status}")
            path = f"/jobs/{answer.body['id']}?wait=20"
            while api.send("GET", path).body["status"] != "succeeded":
                pass
        time.sleep(_REST)  # A quiet tenant is not a second flood.


@contextmanager
def _timed(times: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times.append((time.perf_counter() - started) * 1000)


@contextmanager
def _flooding(site: Site, key: str) -> Iterator[list[int]]:
    """Floods in a process of its own until the end of the block; then has the requests."""
    answered = [0]
    tied = [sys.executable, "-P", str(bootstrap.__file__), str(os.getpid()), ""]
    flood = subprocess.Popen(
        [*tied, "mayfly_lab.chaos.flood", str(site.port), str(_CALLERS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert flood.stdin is not None
    assert flood.stdout is not None
    try:
        print(key, file=flood.stdin, flush=True)
        flood.stdout.readline()
        yield answered
        flood.stdin.close()
        answered[0] = int(flood.stdout.readline())
    finally:
        flood.kill()
        flood.wait()
        flood.stdout.close()
