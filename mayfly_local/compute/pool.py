"""The environments of one function, from zero to a limit.

An invocation gets the environment that became idle last. Environments that stay idle too long are
stopped.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from mayfly_local.compute.environment import Environment
from mayfly_local.compute.invocation import Failure, Invocation, NotSent, Reply

__all__ = ["Pool", "Starts", "environment_limit"]

#: Most environments of a function: enough for a burst, few enough for a laptop.
_MOST_ENVIRONMENTS: Final = 10
#: Starts an environment, or returns the reason for its failure.
Starter = Callable[[], Awaitable[Environment | Failure]]
#: Seconds after which a slow start no longer delays the next one.
_START_SECONDS: Final = 2.0


def environment_limit(reserved: int | None) -> int:
    """Returns the most environments of a function with this reserved concurrency."""
    return _MOST_ENVIRONMENTS if reserved is None else min(reserved, _MOST_ENVIRONMENTS)


class Starts:
    """Limits the environments that start at once to about the number of processors.

    More would only make each start slower.
    """

    def __init__(self, at_once: int = max(2, os.cpu_count() or 1)) -> None:
        self._slots = asyncio.Semaphore(at_once)

    async def run(self, start: Starter) -> Environment | Failure:
        """Starts an environment when a slot is free."""
        await self._slots.acquire()
        release = asyncio.get_running_loop().call_later(_START_SECONDS, self._slots.release)
        try:
            return await start()
        finally:
            # Otherwise the timer has released the slot, or is about to.
            if release.when() > asyncio.get_running_loop().time():
                release.cancel()
                self._slots.release()


class Pool:
    """Runs invocations of one function, one at a time on each environment."""

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
        """All running environments, busy ones first."""
        return [*self._busy, *self._idle]

    @property
    def busy(self) -> list[Environment]:
        """The environments that run an invocation."""
        return list(self._busy)

    @property
    def is_busy(self) -> bool:
        """True while an invocation runs, or waits for an environment."""
        return bool(self._busy or self._waiting)

    async def invoke(self, invocation: Invocation) -> Reply | Failure:
        """Runs an invocation on the first environment that becomes free or comes up.

        If the environment died before it read the event, another one gets it. After two such deaths
        in a row, returns a Failure.
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

    def warm(self) -> None:
        """Starts an environment before there is an invocation for it."""
        task = asyncio.ensure_future(self._start_one())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def reap(self) -> None:
        """Stops environments that have been idle too long."""
        now = time.monotonic()
        expired = [
            environment
            for environment in self._idle
            if now - environment.idle_since > self._idle_seconds or not environment.is_alive
        ]
        self._idle = [environment for environment in self._idle if environment not in expired]
        await asyncio.gather(*(environment.stop(grace_seconds=2) for environment in expired))

    def outdate(self) -> Awaitable[None]:
        """Makes every later invocation run new code; running invocations may finish.

        Returns the end of the environments that were idle.
        """
        idle, self._idle = self._idle, []
        self._stale |= self._busy
        self._generation += 1
        return self._stop(idle, grace_seconds=0.5)

    async def _stop(self, environments: list[Environment], grace_seconds: float) -> None:
        await asyncio.gather(
            *(environment.stop(grace_seconds=grace_seconds) for environment in environments)
        )

    async def close(self, grace_seconds: float) -> None:
        """Stops every environment, and starts no more.

        Idle environments stop immediately. Busy ones get SIGTERM and, after the grace period,
        SIGKILL. Starts in progress are cancelled, and have ended when this returns.
        """
        self._is_closed = True
        while self._waiting:
            self._give(_STOPPED)
        starting = list(self._starting)
        for start in starting:
            start.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        idle, self._idle = self._idle, []
        await asyncio.gather(
            *(environment.stop(grace_seconds) for environment in [*idle, *self._busy])
        )

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
            unused = turn.result() if turn.done() and not turn.cancelled() else None
            if unused is not None and not isinstance(unused, Failure):
                self._free(unused)
            raise

    def _start_for_waiting(self) -> None:
        """Starts one environment for each waiting invocation, within the limit."""
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
            if generation != self._generation:  # The code was saved while this environment started.
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
