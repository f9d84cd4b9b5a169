"""Environments of one function: which caller gets the next free one, and how many start at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from mayfly_local.compute.environment import Environment
from mayfly_local.compute.invocation import Failure, Invocation, NotSent, Reply
from mayfly_local.compute.pool import Pool, Starts


class Process:
    """An environment that answers when its test allows it."""

    def __init__(self) -> None:
        self.is_alive = True
        self.idle_since = 0.0
        self.served = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.never_reads = False

    async def invoke(self, invocation: Invocation) -> Reply:
        if self.never_reads:
            self.is_alive = False
            raise NotSent
        self.served += 1
        await self.may_answer.wait()
        return Reply(b"{}")

    async def stop(self, grace_seconds: float) -> None:
        self.is_alive = False

    async def kill(self) -> None:
        self.is_alive = False


class Machine:
    """Starts processes when its test allows it, and counts how many start at once."""

    def __init__(self) -> None:
        self.starting = 0
        self.most = 0
        self.processes: list[Process] = []
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.failures: list[Failure] = []

    async def start(self) -> Environment | Failure:
        self.starting += 1
        self.most = max(self.most, self.starting)
        await self.may_start.wait()
        self.starting -= 1
        if self.failures:
            return self.failures.pop()
        self.processes.append(Process())
        return cast("Environment", self.processes[-1])


EVENT = Invocation.of({})


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_waiting_invocation_takes_the_first_environment_that_becomes_free() -> None:
    async def test() -> None:
        machine = Machine()
        pool = Pool(machine.start, limit=10, idle_seconds=60)
        assert await pool.invoke(EVENT) == Reply(b"{}")
        (first,) = machine.processes
        first.may_answer.clear()
        running = asyncio.ensure_future(pool.invoke(EVENT))
        await settled()
        machine.may_start.clear()  # another environment would have to be started, which takes long
        waiting = asyncio.ensure_future(pool.invoke(EVENT))
        await settled()
        assert not waiting.done()
        first.may_answer.set()
        assert await running == await waiting == Reply(b"{}")
        assert first.served == 3
        machine.may_start.set()

    run(test())


def test_environment_that_was_started_early_gets_the_first_invocation() -> None:
    async def test() -> None:
        machine = Machine()
        machine.may_start.clear()
        pool = Pool(machine.start, limit=1, idle_seconds=60)
        pool.warm()
        await settled()
        assert machine.starting == 1
        assert not pool.is_busy  # so a stop does not wait for it
        call = asyncio.ensure_future(pool.invoke(EVENT))
        await settled()
        machine.may_start.set()
        assert await call == Reply(b"{}")
        assert [process.served for process in machine.processes] == [1]

    run(test())


def test_about_as_many_environments_start_at_once_as_there_are_processors() -> None:
    async def test() -> None:
        machine, starts = Machine(), Starts(2)
        machine.may_start.clear()
        pools = [Pool(machine.start, limit=10, idle_seconds=60, starts=starts) for _ in range(3)]
        calls = [asyncio.ensure_future(pool.invoke(EVENT)) for pool in pools for _ in range(10)]
        await settled()
        assert machine.starting == 2
        machine.may_start.set()
        assert set(await asyncio.gather(*calls)) == {Reply(b"{}")}
        assert machine.most == 2

    run(test())


def test_slow_start_does_not_block_the_others() -> None:
    async def test() -> None:
        slow, quick, starts = Machine(), Machine(), Starts(1)
        slow.may_start.clear()
        slow_call = asyncio.ensure_future(
            Pool(slow.start, limit=1, idle_seconds=60, starts=starts).invoke(EVENT)
        )
        await settled()
        assert await Pool(quick.start, limit=1, idle_seconds=60, starts=starts).invoke(
            EVENT
        ) == Reply(b"{}")
        assert not slow_call.done()
        slow.may_start.set()
        assert await slow_call == Reply(b"{}")
        assert await asyncio.wait_for(
            Pool(quick.start, limit=1, idle_seconds=60, starts=starts).invoke(EVENT), 1
        ) == Reply(b"{}")

    run(test())


def test_failed_start_fails_one_invocation_and_the_next_one_starts_again() -> None:
    async def test() -> None:
        machine = Machine()
        machine.failures = [Failure("Sandbox.StartFailed", "no process could be started")]
        pool = Pool(machine.start, limit=1, idle_seconds=60)
        found = await asyncio.gather(pool.invoke(EVENT), pool.invoke(EVENT), pool.invoke(EVENT))
        assert sorted(type(reply).__name__ for reply in found) == ["Failure", "Reply", "Reply"]
        assert not pool.is_busy

    run(test())


def test_no_more_environments_run_than_the_limit() -> None:
    async def test() -> None:
        machine = Machine()
        pool = Pool(machine.start, limit=3, idle_seconds=60)
        await asyncio.gather(*(pool.invoke(EVENT) for _ in range(20)))
        assert len(machine.processes) <= 3

    run(test())


@pytest.mark.parametrize(("dead", "kind"), [(1, "Reply"), (2, "Failure")])
def test_event_that_was_never_read_is_delivered_once_more(dead: int, kind: str) -> None:
    async def test() -> None:
        machine = Machine()

        async def start() -> Environment | Failure:
            found = await machine.start()
            cast("Any", found).never_reads = len(machine.processes) <= dead
            return found

        assert type(await Pool(start, limit=1, idle_seconds=60).invoke(EVENT)).__name__ == kind

    run(test())


def test_caller_that_leaves_while_it_waits_leaves_its_environment_to_the_next() -> None:
    async def test() -> None:
        machine = Machine()
        machine.may_start.clear()
        pool = Pool(machine.start, limit=1, idle_seconds=60)
        gone, stays = (
            asyncio.ensure_future(pool.invoke(EVENT)),
            asyncio.ensure_future(pool.invoke(EVENT)),
        )
        await settled()
        gone.cancel()
        machine.may_start.set()
        assert await stays == Reply(b"{}")
        assert not pool.is_busy

    run(test())


def test_environment_assigned_to_a_caller_that_left_at_that_moment_is_free() -> None:
    async def test() -> None:
        machine = Machine()
        machine.may_start.clear()
        pool = Pool(machine.start, limit=2, idle_seconds=60)
        gone = asyncio.ensure_future(pool.invoke(EVENT))
        await settled()
        given = cast("Environment", Process())
        pool._free(given)
        gone.cancel()  # before it has run again
        await asyncio.gather(gone, return_exceptions=True)
        assert pool._idle == [given]
        machine.may_start.set()

    run(test())


def test_environment_whose_code_was_saved_while_it_started_serves_once() -> None:
    async def test() -> None:
        machine = Machine()
        machine.may_start.clear()
        pool = Pool(machine.start, limit=1, idle_seconds=60)
        first = asyncio.ensure_future(pool.invoke(EVENT))
        await settled()
        await pool.outdate()
        machine.may_start.set()
        assert await first == Reply(b"{}")
        assert await pool.invoke(EVENT) == Reply(b"{}")
        assert [process.served for process in machine.processes] == [1, 1]

    run(test())


def test_closed_pool_answers_waiting_callers_and_starts_no_environment() -> None:
    async def test() -> None:
        machine = Machine()
        machine.may_start.clear()
        pool = Pool(machine.start, limit=1, idle_seconds=60)
        waiting = asyncio.ensure_future(pool.invoke(EVENT))
        await settled()
        await pool.close(0)
        found = await waiting
        assert isinstance(found, Failure)
        assert found.kind == "Runtime.Stopped"
        assert not pool.is_busy, "the start that was under way has ended with the pool"
        machine.may_start.set()
        await settled()
        assert not machine.processes
        assert isinstance(await pool.invoke(EVENT), Failure)

    run(test())
