"""Shares of the machine: whose requests wait for whose."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mayfly_local.sources.shares import Shares


class Requests:
    """Requests that run until a test ends them. `running` has those that had their turn."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self._given_up: dict[str, str] = {}
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

    def give_up_with(self, name: str, end_of: str) -> None:
        """Cancels a request at the end of another one, before anything else runs."""
        self._given_up[end_of] = name

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
        if name in self._given_up:
            self._tasks[self._given_up[name]].cancel()


async def settled() -> None:
    """Lets everything run that can run."""
    for _ in range(10):
        await asyncio.sleep(0)


def with_requests(
    check: Callable[[Requests], Coroutine[Any, Any, None]], shares: Shares | None = None
) -> None:
    asyncio.run(check(Requests(shares or Shares(2, limit_of=lambda _: 10, working_seconds=60))))


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

    with_requests(check, Shares(2, limit_of=lambda _: 10, working_seconds=0.02))


def polls(who: str, count: int) -> list[str]:
    return [f"{who} {number}" for number in range(count)]


def test_caller_that_is_alone_holds_eight_environments_of_a_function() -> None:
    async def check(requests: Requests) -> None:
        await requests.send(*polls("poll", 12))
        assert requests.running == polls("poll", 8)
        await requests.send("of another function", function="g")
        assert requests.running[8:] == ["of another function"]
        await requests.end("poll 0")
        assert requests.running[-1] == "poll 8"

    with_requests(check, Shares(99, limit_of=lambda _: 10, working_seconds=60))


def test_caller_leaves_two_environments_of_a_function_that_has_fewer() -> None:
    async def check(requests: Requests) -> None:
        await requests.send(*polls("poll", 4))
        assert requests.running == ["poll 0"]
        await requests.send("quiet", caller="quiet")
        assert requests.running == ["poll 0", "quiet"]

    with_requests(check, Shares(99, limit_of=lambda _: 3, working_seconds=60))


def test_long_polls_of_two_callers_leave_an_environment_to_a_third() -> None:
    async def check(requests: Requests) -> None:
        await requests.send(*polls("first", 12), caller="first")
        await requests.send(*polls("second", 8), caller="second")
        assert requests.running == [*polls("first", 8), "second 0"]
        await requests.send("quiet", caller="quiet")
        assert requests.running[-1] == "quiet"
        # All ten are held now.
        await requests.send("fourth", caller="fourth")
        assert "fourth" not in requests.running
        await requests.end("first 0")
        assert requests.running[-1] == "fourth"

    with_requests(check, Shares(99, limit_of=lambda _: 10, working_seconds=60))


def test_callers_divide_the_environments_of_a_function() -> None:
    async def check(requests: Requests) -> None:
        await requests.send(*polls("first", 12), caller="first")
        await requests.send(*polls("second", 12), caller="second")
        await requests.end(*polls("first", 4))
        assert requests.running == [
            *polls("first", 8)[4:], *polls("second", 4),
        ]  # fmt: skip
        await requests.end("first 4", "second 0")
        assert requests.running[-2:] == ["first 8", "second 4"]

    with_requests(check, Shares(99, limit_of=lambda _: 10, working_seconds=60))


def test_caller_gets_the_environments_of_one_that_has_left() -> None:
    async def check(requests: Requests) -> None:
        await requests.send("quiet", caller="quiet")
        await requests.send(*polls("poll", 8))
        await requests.end("quiet")
        assert requests.running == polls("poll", 4)
        await requests.begin(8)  # a second later, without the end of any request

    with_requests(check, Shares(99, limit_of=lambda _: 10, working_seconds=60))


def test_caller_gets_the_cores_of_one_that_has_left() -> None:
    async def check(requests: Requests) -> None:
        await requests.send("quiet", caller="quiet")
        await requests.send("a", "b")
        await requests.end("quiet")
        assert requests.running == ["a"]
        await requests.begin(2)  # a second later, without the end of any request

    with_requests(check)


def test_each_caller_has_a_core_if_there_are_more_callers_than_cores() -> None:
    async def check(requests: Requests) -> None:
        for caller in ("first", "second", "third"):
            await requests.send(f"{caller} 0", f"{caller} 1", caller=caller)
        # The first one was alone when it began.
        assert requests.running == ["first 0", "first 1", "second 0", "third 0"]

    with_requests(check)


def test_caller_whose_request_runs_long_keeps_its_share() -> None:
    now = [0.0]

    async def check(requests: Requests) -> None:
        await requests.send("long", caller="quiet")
        now[0] = 5.0
        await requests.send(*"abcde")
        assert requests.running == ["long", "a", "b"]

    with_requests(check, Shares(4, limit_of=lambda _: 10, working_seconds=60, clock=lambda: now[0]))


def test_caller_keeps_its_share_for_a_second_after_the_end_of_a_long_request() -> None:
    now = [0.0]

    async def check(requests: Requests) -> None:
        await requests.send("long", caller="quiet")
        now[0] = 5.0
        await requests.end("long")
        now[0] = 5.9
        await requests.send(*"abcde")
        assert requests.running == ["a", "b"]

    with_requests(check, Shares(4, limit_of=lambda _: 10, working_seconds=60, clock=lambda: now[0]))


def test_request_that_no_longer_counted_as_working_frees_no_second_core() -> None:
    async def check(requests: Requests) -> None:
        await requests.send("poll", "work", "next")
        await requests.begin(3)  # "poll" or "work" no longer counts, and "next" does
        await requests.end("poll", "work", "next")
        await requests.send("a", "b", "c")
        assert requests.running == ["a", "b"]

    with_requests(check, Shares(2, limit_of=lambda _: 10, working_seconds=0.3))


def test_request_does_not_overtake_an_earlier_one_that_waits() -> None:
    now = [0.0]

    async def check(requests: Requests) -> None:
        await requests.send("quiet", caller="quiet")
        await requests.send("a", "b", "c")
        await requests.end("quiet")
        now[0] = 1.0  # There is room for one more now.
        await requests.send("d")
        assert requests.running == ["a", "b"]
        await requests.end("a")
        assert requests.running == ["b", "c"]

    with_requests(check, Shares(2, limit_of=lambda _: 10, working_seconds=60, clock=lambda: now[0]))


@pytest.mark.parametrize("cores", [2, 99], ids=["core", "environment"])
def test_request_that_is_given_up_in_its_turn_passes_it_on(cores: int) -> None:
    async def check(requests: Requests) -> None:
        await requests.send(*"abcdefghijkl")
        first = len(requests.running)
        # It gets the turn of "a", and is cancelled before it can use it.
        following, last = list("abcdefghijkl")[first : first + 2]
        requests.give_up_with(following, end_of="a")
        await requests.end("a")
        assert requests.running[-1] == last
        assert len(requests.running) == first

    with_requests(check, Shares(cores, limit_of=lambda _: 10, working_seconds=60))


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

    with_requests(check, Shares(4, limit_of=lambda _: 10, working_seconds=60))


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

    with_requests(check, Shares(2, limit_of=lambda _: 10, working_seconds=60, clock=lambda: now[0]))


def test_nothing_is_kept_of_callers_that_have_left() -> None:
    now = [0.0]
    shares = Shares(2, limit_of=lambda _: 10, working_seconds=60, clock=lambda: now[0])

    async def check(requests: Requests) -> None:
        await requests.send("a", "b", caller="first")
        await requests.send("c", caller="second")
        await requests.end("a", "b", "c")
        assert shares.callers == 2
        now[0] = 1.0
        assert shares.callers == 0

    with_requests(check, shares)
