"""Starts of a function's process, and the CPU time that it has used at each of its steps."""

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import psutil

from mayfly_local.compute.environment import Environment
from mayfly_local.compute.invocation import Invocation, Reply
from mayfly_local.compute.launch import Launch
from mayfly_local.logs import Logs
from mayfly_local.processes.children import Children

__all__ = ["Start", "Starts", "calibrate"]

#: Work of the kinds that imports and requests do: calls, dictionaries, texts.
_LOOP: Final = """
import json, re
def step(number):
    names = {f"name-{part}": [part, str(part)] for part in range(40)}
    text = json.dumps(names)
    return len(json.loads(text)) + len(re.sub("[a-m]+", "", text)) + number
total = 0
for number in range(600):
    total = step(total)
"""
#: Seconds for which the clock of a process must stand still before it is read.
_QUIET_SECONDS: Final = 0.004


@dataclass(frozen=True)
class Start:
    """CPU milliseconds of one process.

    `init` ends when the process asks for its first event, `first` when it asks for its second.
    `warm` is the mean of later calls. `rss_mb` is the resident memory after them.
    """

    init: float
    first: float
    warm: float
    rss_mb: float


class Starts:
    """Starts processes as the local runtime does: isolated, with AWS's Runtime API client."""

    def __init__(self, children: Children, logs: Logs) -> None:
        self._children = children
        self._logs = logs

    async def one(
        self, launch: Launch, events: Iterable[Any], *, calls: int, check: Callable[[Any], bool]
    ) -> Start:
        """Starts a process, gives it an event and then `calls` more.

        Raises AssertionError if it does not start, or if `check` is false for an answer.
        """
        environment = Environment(launch, self._logs.of(launch.name))
        failure = await environment.start(self._children)
        assert failure is None, (launch.name, failure)
        try:
            source = iter(events)
            init = await _settled_ms(environment.pid)
            await self._call(environment, launch, next(source), check)
            first = await _settled_ms(environment.pid)
            for _ in range(calls):
                await self._call(environment, launch, next(source), check)
            warm = await _settled_ms(environment.pid)
            rss = psutil.Process(environment.pid).memory_info().rss
            return Start(init, first - init, (warm - first) / calls, rss / 1024 / 1024)
        finally:
            await environment.kill()

    async def _call(
        self, environment: Environment, launch: Launch, event: Any, check: Callable[[Any], bool]
    ) -> None:
        reply = await environment.invoke(Invocation.of(event))
        assert isinstance(reply, Reply), (launch.name, reply)
        assert check(json.loads(reply.payload)), (launch.name, reply)


def calibrate() -> float:
    """Returns the CPU milliseconds of a fixed loop, in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-I", "-S", "-c", _LOOP], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


async def _settled_ms(pid: int) -> float:
    """Returns the CPU time of a process, once it waits for its next event."""
    before = -1.0
    while (now := _cpu_ms(pid)) != before:
        before = now
        await asyncio.sleep(_QUIET_SECONDS)
    return now


def _cpu_ms(pid: int) -> float:
    """Returns the user and system time of a process, with its threads that have ended."""
    if psutil.LINUX:
        # The clock of another process, in nanoseconds: clock_getcpuclockid(3). The times in /proc
        # are in steps of 10 ms.
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e6
    times = psutil.Process(pid).cpu_times()
    return (times.user + times.system) * 1000
