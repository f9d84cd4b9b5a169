"""The environments of one function: from zero to a limit, newest idle one first, reaped when idle
for long.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from mayfly_local.compute.environment import Environment, Failure, Invocation, NotSent, Reply

__all__ = ["Pool", "Starts"]

#: Starts an environment; gives back the reason if it did not come up.
Starter = Callable[[], Awaitable[Environment | Failure]]
#: Seconds after which a slow start no longer holds up the next one.
_START_SECONDS: Final = 2.0


class Starts:
    """Bounds the environments that start at once to about the number of processors.

    More would only make each of them slower.
    """

    def __init__(self, at_once: int = max(2, os.cpu_count() or 1)) -> None:
        self._slots = asyncio.Semaphore(at_once)

    async def run(self, start: Starter) -> Environment | Failure:
        """Starts one when it is its turn."""
        await self._slots.acquire()
        giving = asyncio.get_running_loop().call_later(_START_SECONDS, self._slots.release)
        try:
            return await start()
        finally:
            if (
                giving.when() > asyncio.get_running_loop().time()
            ):  # else the slot is given back already, or will be
                giving.cancel()
                self._slots.release()


class Pool:
    """Runs invocations of one function, each on an environment that serves no other one
    meanwhile.
    """

    def __init__(
        self, start: Starter, *, limit: int, idle_seconds: float, starts: Starts | None = None
    ) -> None:
        self.limit = limit
        self._start = start
        self._starts = starts or Starts()
        self._idle_seconds = idle_seconds
        self._idle: list[Environment] = []
        self._busy: set[Environment] = set()
        self._stale: set[Environment] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._generation = 0
        self._is_closed = False
        self._waiting: deque[asyncio.Future[Environment | Failure]] = deque()

    @property
    def environments(self) -> list[Environment]:
        """All that are up, busy ones first."""
        return [*self._busy, *self._idle]

    @property
    def is_busy(self) -> bool:
        """Whether an invocation runs or waits."""
        return bool(self._busy or self._starting or self._waiting)

    async def invoke(self, invocation: Invocation) -> Reply | Failure:
        """Runs an invocation on the first environment that becomes free or comes up.

        If the environment died before it read the event, another one gets it. After two such deaths
        in a row it returns a Failure.
        """
        for _ in range(2):
            environment = await self._acquire()
            if isinstance(environment, Failure):
                return environment
            try:
                return await self._run(environment, invocation)
            except NotSent:
                continue
        return Failure(
            "Runtime.ExitError", "two environments in a row died before they took the event"
        )

    async def reap(self) -> None:
        """Stops what has been idle for too long."""
        now = time.monotonic()
        tired = [
            each
            for each in self._idle
            if now - each.idle_since > self._idle_seconds or not each.is_alive
        ]
        self._idle = [each for each in self._idle if each not in tired]
        await asyncio.gather(*(each.stop(grace_seconds=2) for each in tired))

    async def replace_all(self) -> None:
        """Makes every later invocation start on new code; what runs is let finish."""
        idle, self._idle = self._idle, []
        self._stale |= self._busy
        self._generation += 1
        await asyncio.gather(*(each.stop(grace_seconds=0.5) for each in idle))

    async def close(self, grace_seconds: float) -> None:
        """Stops every environment: idle ones at once, busy ones by SIGTERM and, after the grace,
        SIGKILL. Starts no more.

        Starts that are under way are cancelled, and have ended when this returns.
        """
        self._is_closed = True
        while self._waiting:
            self._give(_STOPPED)
        starting = list(self._starting)
        for each in starting:
            each.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        idle, self._idle = self._idle, []
        await asyncio.gather(*(each.stop(grace_seconds) for each in [*idle, *self._busy]))

    async def _run(self, environment: Environment, invocation: Invocation) -> Reply | Failure:
        try:
            return await environment.invoke(invocation)
        finally:
            await self._release(environment)

    async def _acquire(self) -> Environment | Failure:
        if self._is_closed:
            return _STOPPED
        while self._idle:
            environment = self._idle.pop()
            if environment.is_alive:
                self._busy.add(environment)
                return environment
            await environment.kill()
        turn: asyncio.Future[Environment | Failure] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._start_for_waiting()
        try:
            return await turn
        except asyncio.CancelledError:
            given = turn.result() if turn.done() and not turn.cancelled() else None
            if given is not None and not isinstance(given, Failure):
                self._free(given)
            raise

    def _start_for_waiting(self) -> None:
        """Starts one environment for each invocation that waits, within the limit."""
        waiting = sum(not turn.done() for turn in self._waiting)
        while (
            len(self._starting) < waiting
            and len(self._busy) + len(self._idle) + len(self._starting) < self.limit
        ):
            task = asyncio.ensure_future(self._start_one())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start_one(self) -> None:
        generation = self._generation
        started = await self._starts.run(self._start)
        this = asyncio.current_task()
        assert this is not None
        self._starting.discard(this)
        if isinstance(started, Failure):
            self._give(started)
            self._start_for_waiting()
        elif self._is_closed:
            await started.stop(grace_seconds=0.5)
        else:
            if generation != self._generation:  # its code was saved while it started
                self._stale.add(started)
            self._free(started)

    def _free(self, environment: Environment) -> None:
        """Gives an environment to the invocation that has waited longest, or keeps it idle."""
        if self._give(environment):
            self._busy.add(environment)
        else:
            self._busy.discard(environment)
            self._idle.append(environment)

    def _give(self, what: Environment | Failure) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(what)
                return True
        return False

    async def _release(self, environment: Environment) -> None:
        is_stale = environment in self._stale
        self._stale.discard(environment)
        if environment.is_alive and not is_stale and not self._is_closed:
            self._free(environment)
            return
        self._busy.discard(environment)
        await environment.stop(grace_seconds=0.5)
        self._start_for_waiting()


_STOPPED: Final = Failure("Runtime.Stopped", "the local runtime is stopping")
