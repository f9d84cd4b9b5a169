"""Shares of the machine: a caller with many requests at once does not slow down the others.

Lambda gives each request an environment of its own, up to a thousand, on large machines. Here all
of them share a few cores and ten environments of a function, so a request would wait for everything
that others have sent before. Therefore a caller's requests wait for each other.
"""

import asyncio
import os
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Shares"]

#: Requests of all callers together that may work at the same time: as many as there are cores. Each
#: caller may have one, however many callers there are.
_AT_ONCE: Final = max(2, os.cpu_count() or 1)
#: Seconds after which a request no longer counts as working. It probably waits, as a long poll
#: does, and a request that waits needs no core.
_WORKING_SECONDS: Final = 0.1
#: Seconds for which a caller keeps its share after its last request.
_PRESENT_SECONDS: Final = 1.0
#: Environments of one function that one caller may hold, of the ten that a function has at most.
_OF_FUNCTION: Final = 8


@dataclass
class _Share:
    #: Requests that work.
    working: int = 0
    waiting: deque["asyncio.Future[None]"] = field(default_factory=deque)
    #: By function. Held to the end, by long polls too.
    environments: defaultdict[str, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(_OF_FUNCTION))
    )
    #: Requests that have not ended, and the time of the last arrival or end of one.
    present: int = 0
    seen_at: float = 0.0


class Shares:
    """Limits the requests of each caller that work at the same time, or use the same function.

    `clock` returns seconds.
    """

    def __init__(
        self,
        at_once: int = _AT_ONCE,
        *,
        working_seconds: float = _WORKING_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_once = at_once
        self._working_seconds = working_seconds
        self._clock = clock
        self._shares: dict[str, _Share] = {}

    @property
    def callers(self) -> int:
        """The number of callers that share the machine: those with a request a moment ago."""
        now = self._clock()
        self._shares = {
            caller: share
            for caller, share in self._shares.items()
            if share.present or now - share.seen_at < _PRESENT_SECONDS
        }
        return len(self._shares)

    @asynccontextmanager
    async def turn(self, caller: str, function: str) -> AsyncIterator[None]:
        """Waits until a caller's earlier requests leave room for one more to a function."""
        share = self._shares.setdefault(caller, _Share())
        share.present, share.seen_at = share.present + 1, self._clock()
        try:
            async with share.environments[function]:
                await self._begin(share)
                slow = asyncio.get_running_loop().call_later(
                    self._working_seconds, self._end, share
                )
                try:
                    yield
                finally:
                    # Otherwise the timer has ended its work, or is about to.
                    if slow.when() > asyncio.get_running_loop().time():
                        slow.cancel()
                        self._end(share)
        finally:
            share.present, share.seen_at = share.present - 1, self._clock()

    async def _begin(self, share: _Share) -> None:
        """Returns when a request may work. It counts from then on."""
        if not share.waiting and share.working < self._limit():
            share.working += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        share.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # It had its turn, and does not use it.
                self._end(share)
            raise

    def _end(self, share: _Share) -> None:
        """Notes that a request works no longer, and lets others begin."""
        share.working -= 1
        while share.waiting and share.working < self._limit():
            turn = share.waiting.popleft()
            if not turn.done():
                share.working += 1
                turn.set_result(None)

    def _limit(self) -> int:
        return max(1, self._at_once // max(1, self.callers))
