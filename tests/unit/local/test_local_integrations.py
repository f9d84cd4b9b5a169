"""Requests of an API that are given up before or after they have begun."""

import asyncio
import io

import pytest

from mayfly_local.application.apis import Route
from mayfly_local.compute.invocation import Failure, Invocation, Reply
from mayfly_local.logs import Log
from mayfly_local.sources.authorizations import Caller
from mayfly_local.sources.integrations import Integration
from mayfly_local.sources.refusals import Refused
from mayfly_local.sources.shares import Shares

TIMED_OUT = Refused(503, "Service Unavailable")


class Called:
    """Functions that run until a test ends them. `begun` and `done` have their events."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.done: list[bytes] = []
        self.ends = asyncio.Event()
        self._integration = Integration(
            self._invoke,
            Log("api", io.StringIO(), lambda entry: None),
            Shares(1, limit_of=lambda _: 10, working_seconds=60),
            seconds=60,
        )

    def send(
        self,
        event: str,
        *,
        seconds: float = 60,
        gone: "asyncio.Future[bool] | None" = None,
        is_debugged: bool = False,
    ) -> "asyncio.Task[Reply | Failure]":
        route = Route("GET", "/a", "f", None, seconds=seconds, is_debugged=is_debugged)
        caller = Caller(principal="flood", context={"tenant": "flood"})
        return asyncio.ensure_future(
            self._integration.call(
                route, event, caller, timed_out=TIMED_OUT, too_large=Refused(413, "x"), gone=gone
            )
        )

    async def _invoke(self, function: str, invocation: Invocation) -> Reply:
        self.begun.append(invocation.event)
        await self.ends.wait()
        self.done.append(invocation.event)
        return Reply(b"{}")


async def settled() -> None:
    """Lets everything run that can run."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_request_without_a_turn_in_its_time_never_runs() -> None:
    async def check() -> None:
        called = Called()
        first, late, last = called.send("1"), called.send("2", seconds=0.05), called.send("3")
        with pytest.raises(Refused) as raised:
            await late
        assert raised.value is TIMED_OUT
        called.ends.set()
        await asyncio.gather(first, last)
        assert called.begun == [b'"1"', b'"3"']

    asyncio.run(check())


def test_request_of_a_debugged_function_has_no_time() -> None:
    async def check() -> None:
        called = Called()
        usual, held = (
            called.send("1", seconds=0.05),
            called.send("2", seconds=0.05, is_debugged=True),
        )
        with pytest.raises(Refused):
            await usual
        assert not held.done()
        called.ends.set()
        assert await held == Reply(b"{}")

    asyncio.run(check())


def test_request_that_has_begun_continues_after_its_time() -> None:
    async def check() -> None:
        called = Called()
        with pytest.raises(Refused):
            await called.send("1", seconds=0.05)
        called.ends.set()
        await settled()
        assert called.done == [b'"1"']

    asyncio.run(check())


def test_request_whose_connection_ends_before_its_turn_never_runs() -> None:
    async def check() -> None:
        called, gone = Called(), asyncio.get_running_loop().create_future()
        first, left, last = called.send("1"), called.send("2", gone=gone), called.send("3")
        await settled()
        gone.set_result(True)
        with pytest.raises(Refused):
            await left
        called.ends.set()
        await asyncio.gather(first, last)
        assert called.begun == [b'"1"', b'"3"']

    asyncio.run(check())


def test_request_that_has_begun_continues_without_its_connection() -> None:
    async def check() -> None:
        called, gone = Called(), asyncio.get_running_loop().create_future()
        sent = called.send("1", gone=gone)
        await settled()
        gone.set_result(True)
        await settled()
        called.ends.set()
        assert await sent == Reply(b"{}")
        assert called.done == [b'"1"']

    asyncio.run(check())
