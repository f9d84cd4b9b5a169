"""A quiet tenant next to a flooding one: the times of its requests, without faults.

Phases without and with the flood take turns, so that both see the same machine.
"""

import contextlib
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from mayfly_lab.chaos.api import Answer, Api
from mayfly_lab.chaos.present import messages_left
from mayfly_lab.chaos.site import Site, tied
from mayfly_local.errors import LocalError
from mayfly_testing.stack import wait_until

__all__ = ["BOUND_MS", "BOUND_TIMES", "Flood", "Latency", "breaches", "measure", "use"]

#: The bound of the quiet tenant's p99 next to the flood: this many times its own, and this long.
BOUND_TIMES: Final = 3.0
BOUND_MS: Final = 500.0
_CALLERS: Final = 16
_ROUNDS: Final = 3
#: A quiet tenant sends a few requests, and then none for this long, in seconds.
_REST: Final = 0.02
_DRAIN_SECONDS: Final = 120.0
#: Accepted requests of the flood in a second, at least. Fewer are not a flood.
_LEAST_PER_SECOND: Final = 5.0
#: Seconds until a job of the quiet tenant has succeeded, at most.
_JOB_SECONDS: Final = 60.0
_ENDED: Final = ("dead", "cancelled")


@dataclass
class Latency:
    """Times of one kind of request in milliseconds, without the flood and next to it."""

    alone: list[float] = field(default_factory=list)
    flooded: list[float] = field(default_factory=list)

    @property
    def bound(self) -> float:
        """The longest p99 next to the flood, in milliseconds."""
        return min(BOUND_MS, BOUND_TIMES * percentile(self.alone, 99))


@dataclass
class Flood:
    """A flood that has ended: its requests, and those that were accepted."""

    sent: int = 0
    accepted: int = 0

    def end(self, line: str, *, seconds: float) -> None:
        """Reads the last line of the flood's process, which ran for some seconds.

        Raises LocalError if there is none, or if too few requests were accepted.
        """
        try:
            self.sent, self.accepted = (int(number) for number in line.split())
        except ValueError:
            raise LocalError("the flooding process ended by itself; run it again") from None
        least = seconds * _LEAST_PER_SECOND
        if self.accepted < least:
            raise LocalError(
                f"the flood is too weak to measure next to it: {self.accepted} of {self.sent} "
                f"requests were accepted in {seconds:.0f} s, and {least:.0f} are needed"
            )


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
    token = _expect(api.send("POST", "/sessions", {}), 201, "new session")["token"]
    use(api, token, phase / 2, {name: [] for name in latencies})  # The functions start.
    for number in range(1, _ROUNDS + 1):
        use(api, token, phase, {name: times.alone for name, times in latencies.items()})
        with _flooding(site, flood) as flooded:
            use(api, token, phase / 2, {name: [] for name in latencies})
            use(api, token, phase, {name: times.flooded for name, times in latencies.items()})
        try:
            wait_until(
                lambda: not messages_left(site.stack),
                _DRAIN_SECONDS,
                what="the end of the flood's jobs",
            )
        except AssertionError as problem:
            raise LocalError(str(problem)) from None
        say(
            f"quiet tenant: round {number} of {_ROUNDS}, "
            f"{flooded.accepted} of the flood's {flooded.sent} requests accepted"
        )
    api.close()
    return latencies


def use(
    api: Api,
    token: str,
    seconds: float,
    times: dict[str, list[float]],
    *,
    job_seconds: float = _JOB_SECONDS,
) -> None:
    """Sends requests one after another for some seconds, and adds their times in milliseconds.

    Raises LocalError if one is refused or not answered, and if a job does not succeed within
    `job_seconds`: a fast failure is not a fast answer.
    """
    ends = time.monotonic() + seconds
    while not times["jobs"] or time.monotonic() < ends:
        with _timed(times["requests"]):
            answer = api.send("POST", "/counters/quiet/increment", {}, repeat_key=uuid.uuid4().hex)
        _expect(answer, 200, "increment")
        with _timed(times["requests"]):
            answer = api.send("GET", "/sessions/current", token=token)
        _expect(answer, 200, "read of a session")
        with _timed(times["jobs"]):
            with _timed(times["requests"]):
                answer = api.send(
                    "POST", "/jobs", {"task": "counter.add", "payload": {"name": "q"}}
                )
            _await_success(api, _expect(answer, 202, "job")["id"], job_seconds)
        time.sleep(_REST)  # A quiet tenant is not a second flood.


def _await_success(api: Api, job_id: str, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while True:
        status = _expect(api.send("GET", f"/jobs/{job_id}?wait=20"), 200, "read of a job")["status"]
        if status == "succeeded":
            return
        if status in _ENDED or time.monotonic() > ends:
            raise LocalError(f"a quiet tenant's job {job_id} is {status} and has not succeeded")


def _expect(answer: Answer, status: int, what: str) -> dict[str, Any]:
    """Returns the body of an answer with this status. Raises LocalError if it has another."""
    if answer.status != status:
        said = f"{answer.status} {answer.code}".rstrip() if answer.status else "not at all"
        raise LocalError(f"a quiet tenant's {what} was answered {said}, so it has no latency")
    return dict(answer.body)


@contextmanager
def _timed(times: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times.append((time.perf_counter() - started) * 1000)


@contextmanager
def _flooding(site: Site, key: str) -> Iterator[Flood]:
    """Floods in a process of its own until the end of the block; then has the requests.

    Raises LocalError if the process ends by itself, or if the flood is too weak.
    """
    flooded = Flood()
    flood = subprocess.Popen(
        [*tied("mayfly_lab.chaos.flood"), str(site.port), str(_CALLERS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert flood.stdin is not None
    assert flood.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # It has ended, and its line is missing.
            print(key, file=flood.stdin, flush=True)
        if not flood.stdout.readline():
            raise LocalError("the flooding process did not start; its error is above")
        started = time.monotonic()
        yield flooded
        flood.stdin.close()
        flooded.end(flood.stdout.readline(), seconds=time.monotonic() - started)
    finally:
        flood.kill()
        flood.wait()
        flood.stdout.close()
