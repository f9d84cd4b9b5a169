"""Shares of the machine: whose requests wait for whose."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mayfly_local.sources.shares import Shares


class Requests:
    """Requests that run until a test ends them. `running` has those that had their turn."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self.running: list[str] = []
        self._has_begun = asyncio.Event()

    async def send(self, *names: str, caller: str = "flood", function: str = "f") -> None:
        for name in names:
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.ensure_future(self._run(name, caller, function))
        await settled()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            await self._tasks[name]
        await settled()

    async def begin(self, count: int) -> None:
        """Waits until this many are running."""
        while len(self.running) < count:
            self._has_begun.clear()
            await self._has_begun.wait()

    async def give_up(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])
        await settled()

    async def _run(self, name: str, caller: str, function: str) -> None:
        async with self._shares.turn(caller, function):
            self.running.append(name)
            self._has_begun.set()
            try:
                await self._ends[name].wait()
            finally:
                self.running.remove(name)


async def settled() -> None:
    """Lets everything run that can run."""
    for _ in range(10):
        await asyncio.sleep(0)


def with_requests(
    check: Callable[[Requests], Coroutine[Any, Any, None]], shares: Shares | None = None
) -> None:
    asyncio.run(check(Requests(shares or Shares(2, working_seconds=60))))


def test_requests_of_one_caller_wait_for_each_other_in_their_order() -> None:
    async def check(requests: Requests) -> None:
        await requests.send("a", "b", "c", "d")
        assert requests.running == ["a", "b"]
        await requests.end("b")
        assert requests.running == ["a", "c"]
        await requests.end("a", "c", "d")

    with_requests(check)


def test_request_of_another_caller_waits_for_none_of_them() -> None:
    async def check(requests: Requests) -> None:
        await requests.send(*"abcdefgh")
        await requests.send("quiet", caller="quiet")
        assert requests.running == ["a", "b", "quiet"]
        await requests.end("a")
        assert requests.running == ["b", "quiet"]

    with_requests(check)


def test_request_that_waits_longer_than_work_takes_makes_room() -> None:
    async def check(requests: Requests) -> None:
        await requests.send("poll 1", "poll 2", "quick")
        await requests.begin(3)
        assert requests.running == ["poll 1", "poll 2", "quick"]
        await requests.end("poll 1", "poll 2", "quick")

    with_requests(check, Shares(2, working_seconds=0.02))


def test_long_polls_of_one_caller_leave_environments_of_the_function_to_others() -> None:
    async def check(requests: Requests) -> None:
        await requests.send(*(f"poll {number}" for number in range(12)))
        await requests.send("of another function", function="g")
        await requests.begin(9)
        await requests.send("quiet", caller="quiet")
        assert requests.running[-2:] == ["of another function", "quiet"]
        assert len(requests.running) == 10
        await requests.end("poll 0")
        await requests.begin(10)
        assert requests.running[-1] == "poll 8"

    with_requests(check, Shares(2, working_seconds=0.02))


def test_request_that_is_given_up_while_it_waits_takes_no_turn() -> None:
    async def check(requests: Requests) -> None:
        await requests.send("a", "b", "c", "d")
        await requests.give_up("c")
        await requests.give_up("a")
        assert requests.running == ["b", "d"]

    with_requests(check)


def test_callers_that_are_active_at_the_same_time_share_the_cores() -> None:
    async def check(requests: Requests) -> None:
        await requests.send("quiet", caller="quiet")
        await requests.send(*"abcde")
        assert requests.running == ["quiet", "a", "b"]
        await requests.end("a")
        assert requests.running == ["quiet", "b", "c"]

    with_requests(check, Shares(4, working_seconds=60))


def test_caller_that_is_alone_again_has_all_cores() -> None:
    now = [0.0]

    async def check(requests: Requests) -> None:
        await requests.send("quiet", caller="quiet")
        await requests.send(*"abcde")
        await requests.end("quiet")
        await requests.end("a")
        assert requests.running == ["b"]
        now[0] = 1.0
        await requests.end("b")
        assert requests.running == ["c", "d"]

    with_requests(check, Shares(2, working_seconds=60, clock=lambda: now[0]))


def test_nothing_is_kept_of_callers_that_have_left() -> None:
    now = [0.0]
    shares = Shares(2, working_seconds=60, clock=lambda: now[0])

    async def check(requests: Requests) -> None:
        await requests.send("a", "b", caller="first")
        await requests.send("c", caller="second")
        await requests.end("a", "b", "c")
        assert shares.callers == 2
        now[0] = 1.0
        assert shares.callers == 0

    with_requests(check, shares)
