"""The moves of a stack's clock: one for each due time, and none before everything has run."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from mayfly_local.advance import Advance, Parts
from mayfly_local.errors import LocalError
from mayfly_local.processes.clock import Clock

MINUTE = 60.0


@dataclass
class Pool:
    """The environments of a function. It is busy for some looks."""

    looks: int = 0

    @property
    def is_busy(self) -> bool:
        self.looks = max(0, self.looks - 1)
        return self.looks > 0


@dataclass
class Queue:
    """A queue with a message for each of some times, which is received as soon as it is visible."""

    clock: Clock
    times: list[float]
    received: list[float] = field(default_factory=list)
    queue: str = "q"
    has_batches: bool = False
    #: Receipts that the emulator has given out, and those that have arrived here.
    held: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def has_received(self, receipt: str) -> bool:
        return receipt in self.known

    def outlook(self) -> dict[str, Any]:
        now = self.clock()
        due = [time for time in self.times if time <= now]
        self.times = [time for time in self.times if time > now]
        self.received += [now for _ in due]
        return {
            "visible": len(due), "held": self.held, "next": min(self.times, default=None),
        }  # fmt: skip


class Nothing:
    """A part that has no work."""

    is_busy = False


@dataclass
class World:
    """A stack with a function and a queue. `started` counts invocations."""

    folder: Path
    minutes: tuple[float, ...] = ()
    started: Callable[[], int] = lambda: 0

    def __post_init__(self) -> None:
        self.clock = Clock(self.folder / "clock")
        self.start = self.clock()
        self.pool = Pool()
        self.looks = 0
        self.queue = Queue(self.clock, [self.start + minute * MINUTE for minute in self.minutes])

    async def ask(self, what: str, arguments: Any) -> Any:
        assert what == "outlook"
        self.looks += 1
        return {
            "queues": {"q": self.queue.outlook()}, "streams": {},
            "invocations": {"due": 0, "next": None}, "expires": None,
        }  # fmt: skip

    def advance(self, minutes: float, *, at_once: bool = False, longest_work: float = 10) -> int:
        parts = Parts(
            pools={"F": cast(Any, self.pool)},
            queues=[cast(Any, self.queue)],
            streams=[],
            schedulers=[],
            asynchronous=cast(Any, Nothing()),
            reaper=None,
            started=self.started,
        )

        async def run() -> int:
            moving = Advance(self.clock, parts, cast(Any, self), longest_work=longest_work)
            return await moving.by(minutes * MINUTE, at_once=at_once)

        return asyncio.run(run())

    @property
    def received_after(self) -> list[int]:
        """The minutes after which messages were received."""
        return [round((moment - self.start) / MINUTE) for moment in self.queue.received]


def test_clock_stops_at_each_due_time(tmp_path: Path) -> None:
    world = World(tmp_path, minutes=(1, 5, 5, 9))
    assert world.advance(8) == 3
    assert world.received_after == [1, 5, 5]


def test_clock_moves_once_if_it_is_to_jump(tmp_path: Path) -> None:
    world = World(tmp_path, minutes=(1, 5))
    assert world.advance(8, at_once=True) == 1
    assert world.received_after == [8, 8]


def test_work_of_now_is_done_before_the_clock_moves(tmp_path: Path) -> None:
    world = World(tmp_path, minutes=(0, 5))
    world.pool.looks = 5
    world.advance(8)
    assert world.received_after == [0, 5]


def test_work_that_does_not_end_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.pool.looks = 10**9
    with pytest.raises(LocalError, match="after 0 s there is still an invocation of F"):
        world.advance(1, longest_work=0.05)
    assert world.clock() < world.start + MINUTE


def test_invocation_that_came_and_went_during_a_look_is_looked_after(tmp_path: Path) -> None:
    numbers = iter([0, *[1] * 20])
    world = World(tmp_path, started=lambda: next(numbers))
    world.advance(1)
    # One look before the move, one more because of the invocation, and one after the move.
    assert world.looks == 3


def test_message_on_its_way_is_waited_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.queue.held = ["receipt"]
    with pytest.raises(LocalError, match="there is still a message on q"):
        world.advance(1, longest_work=0.05)
    world.queue.known.add("receipt")
    assert world.advance(1, longest_work=0.05) == 1


def test_message_of_another_client_is_not_waited_for_long(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.queue.held = ["of another client"]
    assert world.advance(1) == 1
