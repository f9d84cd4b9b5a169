"""Shares of the machine: a caller with many requests at once does not slow down the others.

Lambda gives each request an environment of its own, up to a thousand, on large machines. Here all
of them share a few cores and ten environments of a function, so a request would wait for everything
that others have sent before. Therefore a caller's requests wait for each other.

Long polls hold an environment to their end, which may be 20 s away. So a caller never holds all
environments of a function, and several callers leave one to a further caller.
"""

import asyncio
import os
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
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
#: Environments of a function that callers leave to others. A caller that is alone may hold the
#: rest, but always one, and several callers divide them.
_LEFT: Final = 2


@dataclass
class _Line:
    """The requests of one caller that wait for a place, and the number of those that have one."""

    placed: int = 0
    waiting: deque["asyncio.Future[None]"] = field(default_factory=deque)


@dataclass
class _Share:
    #: Places at work.
    cores: _Line = field(default_factory=_Line)
    #: By function. Held to the end, by long polls too.
    environments: defaultdict[str, _Line] = field(default_factory=lambda: defaultdict(_Line))
    #: Requests that have not ended, and the time of the last arrival or end of one.
    present: int = 0
    seen_at: float = 0.0


class Shares:
    """Limits the requests of each caller that work at the same time, or use the same function.

    `limit_of` returns the environments that a function has at most. `clock` returns seconds.
    """

    def __init__(
        self,
        at_once: int = _AT_ONCE,
        *,
        limit_of: Callable[[str], int],
        working_seconds: float = _WORKING_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_once = at_once
        self._limit_of = limit_of
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
        """Waits until a caller's earlier requests leave room for one more to a function.

        A request that is cancelled while it waits never has its turn.
        """
        share = self._shares.setdefault(caller, _Share())
        share.present, share.seen_at = share.present + 1, self._clock()
        try:
            async with self._environment(share, function), self._core(share):
                yield
        finally:
            share.present, share.seen_at = share.present - 1, self._clock()
            if not share.present:
                # Then there is one caller less.
                asyncio.get_running_loop().call_later(_PRESENT_SECONDS, self._admit_all)

    @asynccontextmanager
    async def _environment(self, share: _Share, function: str) -> AsyncIterator[None]:
        line, admit = share.environments[function], partial(self._admit_to, function)
        await _place(line, admit)
        try:
            yield
        finally:
            _leave(line, admit)

    @asynccontextmanager
    async def _core(self, share: _Share) -> AsyncIterator[None]:
        line, admit = share.cores, partial(self._admit_to_cores, share)
        await _place(line, admit)
        loop = asyncio.get_running_loop()
        slow = loop.call_later(self._working_seconds, _leave, line, admit)
        try:
            yield
        finally:
            # Otherwise the timer has ended its work, or is about to.
            if slow.when() > loop.time():
                slow.cancel()
                _leave(line, admit)

    def _admit_all(self) -> None:
        """Lets all requests begin for which there is room now that a caller has left."""
        shares = list(self._shares.values())
        for share in shares:
            self._admit_to_cores(share)
        for function in {name for share in shares for name in share.environments}:
            self._admit_to(function)

    def _admit_to_cores(self, share: _Share) -> None:
        limit = max(1, self._at_once // max(1, self.callers))
        while share.cores.waiting and share.cores.placed < limit:
            _admit(share.cores)

    def _admit_to(self, function: str) -> None:
        """Gives the free environments of a function to requests that wait for one."""
        environments = self._limit_of(function)
        limit = max(1, environments - _LEFT) // max(1, self.callers)
        lines = [
            share.environments[function]
            for share in self._shares.values()
            if function in share.environments
        ]
        for line in lines:
            while line.waiting:
                free = environments - sum(each.placed for each in lines)
                # The last one is for a caller that has none.
                if free < 1 or (line.placed and (free < 2 or line.placed >= limit)):
                    break
                _admit(line)


async def _place(line: _Line, admit: Callable[[], None]) -> None:
    """Returns when a request has a place. `admit` gives places to those that wait."""
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    line.waiting.append(turn)
    admit()
    try:
        await turn
    except asyncio.CancelledError:
        if turn.done() and not turn.cancelled():  # It had its turn, and does not use it.
            _leave(line, admit)
        raise


def _leave(line: _Line, admit: Callable[[], None]) -> None:
    line.placed -= 1
    admit()


def _admit(line: _Line) -> None:
    """Gives a place to the request that has waited longest, if it still waits."""
    turn = line.waiting.popleft()
    if not turn.done():
        line.placed += 1
        turn.set_result(None)
