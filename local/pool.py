"""The environments of one function: from zero to a limit, newest idle one first, reaped when idle for long."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from local.environment import Environment, Failure, Invocation, NotSent, Reply

__all__ = ["Pool"]

#: Starts an environment; gives back the reason where it did not come up.
Starter = Callable[[], Awaitable[Environment | Failure]]


class Pool:
    """Runs invocations of one function, each on an environment that nobody else uses meanwhile."""

    def __init__(self, start: Starter, *, limit: int, idle_seconds: float) -> None:
        self.limit = limit
        self._start = start
        self._idle_seconds = idle_seconds
        self._idle: list[Environment] = []
        self._busy: set[Environment] = set()
        self._stale: set[Environment] = set()
        self._starting = 0
        self._generation = 0
        self._is_closed = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def environments(self) -> list[Environment]:
        """All that are up, busy ones first."""
        return [*self._busy, *self._idle]

    @property
    def is_busy(self) -> bool:
        """Whether an invocation runs or waits."""
        return bool(self._busy or self._starting or self._waiting)

    async def invoke(self, invocation: Invocation) -> Reply | Failure:
        """Runs an invocation; waits its turn where all environments are busy and the limit is reached.

        An environment that is found dead before the event left is replaced by a fresh one, once.
        """
        environment = await self._acquire()
        if isinstance(environment, Failure):
            return environment
        try:
            return await self._run(environment, invocation)
        except NotSent:
            fresh = await self._acquire(fresh=True)
            if isinstance(fresh, Failure):
                return fresh
            try:
                return await self._run(fresh, invocation)
            except NotSent:
                return Failure("Runtime.ExitError", "two environments in a row died before they took the event")

    async def reap(self) -> None:
        """Stops what has been idle for too long."""
        now = time.monotonic()
        tired = [each for each in self._idle if now - each.idle_since > self._idle_seconds or not each.is_alive]
        self._idle = [each for each in self._idle if each not in tired]
        await asyncio.gather(*(each.stop(grace_seconds=2) for each in tired))
        self._wake()

    async def replace_all(self) -> None:
        """Makes every later invocation start on new code; what runs is let finish."""
        idle, self._idle = self._idle, []
        self._stale |= self._busy
        self._generation += 1
        await asyncio.gather(*(each.stop(grace_seconds=0.5) for each in idle))
        self._wake()

    async def close(self, grace_seconds: float) -> None:
        """Stops every environment: idle ones at once, busy ones by SIGTERM and, after the grace, SIGKILL. Starts no more."""
        self._is_closed = True
        self._wake_all()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(each.stop(grace_seconds) for each in [*idle, *self._busy]))

    async def _run(self, environment: Environment, invocation: Invocation) -> Reply | Failure:
        try:
            return await environment.invoke(invocation)
        finally:
            await self._release(environment)

    async def _acquire(self, *, fresh: bool = False) -> Environment | Failure:
        while True:
            if self._is_closed:
                return Failure("Runtime.Stopped", "the local runtime is stopping")
            while self._idle and not fresh:
                environment = self._idle.pop()
                if environment.is_alive:
                    self._busy.add(environment)
                    return environment
                await environment.kill()
            if len(self._busy) + len(self._idle) + self._starting < self.limit:
                return await self._start_one()
            if fresh and self._idle:
                await self._idle.pop(0).stop(grace_seconds=0.5)
                continue
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                # Whoever woke me meant the next in line, too.
                if turn.done() and not turn.cancelled():
                    self._wake()
                raise

    async def _start_one(self) -> Environment | Failure:
        self._starting += 1
        generation = self._generation
        try:
            started = await self._start()
        finally:
            self._starting -= 1
        if isinstance(started, Environment) and self._is_closed:
            await started.stop(grace_seconds=0.5)
            return Failure("Runtime.Stopped", "the local runtime is stopping")
        if isinstance(started, Environment):
            self._busy.add(started)
            if generation != self._generation:  # its code was saved while it started
                self._stale.add(started)
        else:
            self._wake()
        return started

    async def _release(self, environment: Environment) -> None:
        is_stale = environment in self._stale
        self._busy.discard(environment)
        self._stale.discard(environment)
        if environment.is_alive and not is_stale:
            self._idle.append(environment)
        else:
            await environment.stop(grace_seconds=0.5)
        self._wake()

    def _wake_all(self) -> None:
        while self._waiting:
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
