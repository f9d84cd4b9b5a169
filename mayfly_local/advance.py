"""Moves the clock of a stack ahead, for tests: from one due time to the next, or at once.

    settle --> due: 10:01 --> move to 10:01 --> settle --> due: 10:02 --> ...
      |                                           |
      everything that is due now has run          ... and its effects, such as another message

Due are schedules, messages (a delay or a visibility timeout ends), retries of asynchronous
invocations, and items whose time to live is over.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mayfly_local.compute.pool import Pool
from mayfly_local.emulator.control import Control
from mayfly_local.emulator.ttl import Reaper
from mayfly_local.errors import LocalError
from mayfly_local.processes.clock import Clock
from mayfly_local.sources.asynchronous import Asynchronous
from mayfly_local.sources.queues import QueuePoller
from mayfly_local.sources.schedules import Scheduler
from mayfly_local.sources.streams import StreamPoller

__all__ = ["Advance", "Parts"]

#: Seconds between two looks at work that runs, and between two looks of the emulator.
_LOOK_SECONDS: Final = 0.002
#: Seconds after a due time at which the clock has passed it.
_CLOCK_STEP: Final = 0.001
#: Seconds that what is due at one moment may run: a function runs for 15 minutes at most.
_LONGEST_WORK: Final = 900.0
#: Real seconds after which a received message that no mapping knows counts as another client's.
_FOREIGN_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Parts:
    """The parts of a stack that do something by the clock, or because of it.

    `started` returns how many invocations have started so far.
    """

    pools: Mapping[str, Pool]
    queues: Sequence[QueuePoller]
    streams: Sequence[StreamPoller]
    schedulers: Sequence[Scheduler]
    asynchronous: Asynchronous
    reaper: Reaper | None
    started: Callable[[], int]


class Advance:
    """Moves the clock of one stack. `longest_work` is in real seconds."""

    def __init__(
        self, clock: Clock, parts: Parts, control: Control, *, longest_work: float = _LONGEST_WORK
    ) -> None:
        self._clock = clock
        self._parts = parts
        self._control = control
        self._longest_work = longest_work
        self._one_at_a_time = asyncio.Lock()
        #: When a receipt that no mapping knows was first seen, by the machine's monotonic clock.
        self._foreign: dict[str, float] = {}

    async def by(self, seconds: float, *, at_once: bool = False) -> int:
        """Moves the clock ahead, and returns the number of moves.

        Work that is due now runs first. Then the clock stops at each due time until everything that
        is due there has run. With `at_once` it moves only once, and what was due meanwhile is late,
        as after an outage. Raises LocalError if something does not end, aiohttp.ClientError.
        """
        async with self._one_at_a_time:
            target, moves = self._clock() + seconds, 1
            due = await self._settle()
            while not at_once and due is not None and due < target:
                await self._move(due + _CLOCK_STEP)
                due, moves = await self._settle(), moves + 1
            await self._move(target)
            await self._settle()
            return moves

    async def _move(self, moment: float) -> None:
        self._clock.move(moment)
        if self._parts.reaper is not None:
            await self._parts.reaper.reap_due()

    async def _settle(self) -> float | None:
        """Returns when everything that is due has run: the next due time, None if there is none."""
        ends = time.monotonic() + self._longest_work
        while True:
            started = self._parts.started()
            open_work = self._running()
            if not open_work:
                outlook = await self._control.ask("outlook", self._wanted())
                open_work = self._waiting(outlook) or self._running()
                # An invocation that came and went since may have left something behind.
                if not open_work and self._parts.started() == started:
                    return self._next(outlook)
            if time.monotonic() > ends:
                raise LocalError(
                    f"the clock cannot be moved on: after {self._longest_work:.0f} s there is "
                    f"still {', '.join(open_work) or 'new work'}"
                )
            await asyncio.sleep(_LOOK_SECONDS)

    def _wanted(self) -> dict[str, Any]:
        lag = self._parts.reaper.lag_seconds if self._parts.reaper is not None else 0.0
        return {
            "queues": [poller.queue for poller in self._parts.queues],
            "streams": sorted({poller.stream for poller in self._parts.streams}),
            "lag": lag,
        }

    def _running(self) -> list[str]:
        """Returns what runs, or is due in this process."""
        parts, now = self._parts, self._clock()
        return [
            *(f"an invocation of {name}" for name, pool in parts.pools.items() if pool.is_busy),
            *(f"a batch of {poller.queue}" for poller in parts.queues if poller.has_batches),
            *(f"a batch for {poller.function}" for poller in parts.streams if poller.is_busy),
            *(f"the schedule {each.name}" for each in parts.schedulers if each.is_due(now)),
            *(["an asynchronous invocation"] if parts.asynchronous.is_busy else []),
        ]

    def _waiting(self, outlook: Mapping[str, Any]) -> list[str]:
        """Returns what is due in the emulator."""
        queues, streams = outlook["queues"], outlook["streams"]
        waiting = []
        for poller in self._parts.queues:
            found = queues.get(poller.queue, {"visible": 0, "held": []})
            # A received message may be on its way here.
            unknown = [name for name in found["held"] if not poller.has_received(name)]
            if found["visible"] or self._are_coming(unknown):
                waiting.append(f"a message on {poller.queue}")
        waiting += [
            f"a record for {poller.function}"
            for poller in self._parts.streams
            if not poller.has_read(streams[poller.stream])
        ]
        if outlook["invocations"]["due"]:
            waiting.append("a requested invocation")
        return waiting

    def _are_coming(self, receipts: list[str]) -> bool:
        """Returns True if one of the receipts is new; later it counts as another client's."""
        now = time.monotonic()
        firsts = [self._foreign.setdefault(receipt, now) for receipt in receipts]
        return any(now < first + _FOREIGN_SECONDS for first in firsts)

    def _next(self, outlook: Mapping[str, Any]) -> float | None:
        """Returns the first of all due times."""
        times = [
            *(queue["next"] for queue in outlook["queues"].values()),
            *(scheduler.due for scheduler in self._parts.schedulers),
            outlook["invocations"]["next"],
            outlook["expires"],
        ]
        return min((moment for moment in times if moment is not None), default=None)
