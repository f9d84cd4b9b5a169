"""The event loop of async tasks: one thread, a deadline for each coroutine, and no leftovers."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest
from mayfly.jobs.authoring.outcomes import Continue
from mayfly.jobs.errors import DeadlineReached, LeftoverTasks
from mayfly.jobs.worker.event_loop import MARGIN_SECONDS, EventLoop

#: The time that is left to a coroutine that is to be cancelled, in seconds.
SHORT = MARGIN_SECONDS + 0.05


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


def run(loop: EventLoop, coroutine: Coroutine[Any, Any, Any], seconds: float = 30) -> Any:
    return loop.run(coroutine, seconds_left=lambda: seconds)


async def forever() -> None:
    await asyncio.Event().wait()


async def where() -> tuple[str, int]:
    return threading.current_thread().name, id(asyncio.get_running_loop())


def test_all_coroutines_run_in_one_thread_and_one_loop(loop: EventLoop) -> None:
    with ThreadPoolExecutor(8) as threads:
        places = set(threads.map(lambda _: run(loop, where()), range(50)))
    ((name, _),) = places
    assert name == "asyncio"


def test_coroutines_of_several_threads_run_at_the_same_time(loop: EventLoop) -> None:
    met = asyncio.Barrier(5)

    async def meet() -> None:
        await met.wait()

    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(lambda _: run(loop, meet()), range(5))) == [None] * 5


def test_coroutine_has_the_context_of_its_caller(loop: EventLoop) -> None:
    name: ContextVar[str] = ContextVar("name")
    name.set("mine")

    async def read() -> str:
        return name.get()

    assert run(loop, read()) == "mine"


@pytest.mark.parametrize(
    "error",
    [ValueError("v"), Continue(), asyncio.CancelledError("c"), SystemExit(3), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("in_a_child", [False, True], ids=["itself", "in-a-child"])
def test_error_of_a_coroutine_is_raised_and_the_loop_goes_on(
    loop: EventLoop, error: BaseException, in_a_child: bool
) -> None:
    async def fail() -> None:
        raise error

    async def parent() -> None:
        await asyncio.create_task(fail())

    with pytest.raises(type(error)) as raised:
        run(loop, parent() if in_a_child else fail())
    assert raised.value is error or isinstance(error, asyncio.CancelledError)
    assert run(loop, where())[0] == "asyncio"


# ---------------------------------------------------------------- the deadline


def test_coroutine_is_cancelled_before_the_deadline(loop: EventLoop) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            seen.append("cleaned up")

    with pytest.raises(DeadlineReached, match=r"cancelled after 0\.1 s, before the deadline"):
        run(loop, work(), SHORT)
    assert seen == ["cleaned up"]


def test_coroutine_without_any_time_left_is_cancelled_immediately(loop: EventLoop) -> None:
    with pytest.raises(DeadlineReached):
        run(loop, forever(), 0)


def test_cancelled_coroutine_may_still_return_or_raise_its_own_error(loop: EventLoop) -> None:
    async def returns() -> str:
        with suppress(asyncio.CancelledError):
            await forever()
        return "done"

    async def continues() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            raise Continue from None

    assert run(loop, returns(), SHORT) == "done"
    with pytest.raises(Continue):
        run(loop, continues(), SHORT)


def test_cancellation_of_a_coroutine_by_itself_is_not_the_deadline(loop: EventLoop) -> None:
    async def cancels() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(loop, cancels())


async def stubborn() -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await forever()


async def blocking() -> None:
    threading.Event().wait(2)  # the mistake: nothing else runs meanwhile


@pytest.mark.parametrize("work", [stubborn, blocking], ids=["catches-the-cancellation", "blocks"])
def test_coroutine_that_does_not_end_is_given_up_with_its_loop(
    loop: EventLoop, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    _, before = run(loop, where())
    with pytest.raises(DeadlineReached, match="did not end: it blocks, or catches CancelledError"):
        run(loop, work(), SHORT)
    name, after = run(loop, where())
    assert (name, after != before) == ("asyncio", True)


def test_deadline_of_one_coroutine_leaves_the_others_alone(loop: EventLoop) -> None:
    with ThreadPoolExecutor(2) as threads:
        late = threads.submit(run, loop, forever(), SHORT)
        other = threads.submit(run, loop, asyncio.sleep(0.3, "slept"))
        with pytest.raises(DeadlineReached):
            late.result()
        assert other.result() == "slept"


# ---------------------------------------------------------------- leftovers


def test_leftover_task_is_an_error_and_is_cancelled(loop: EventLoop) -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await forever()
        finally:
            ended.append("cancelled")

    async def work() -> str:
        holder.append(asyncio.create_task(background()))
        await asyncio.sleep(0)
        return "done"

    holder: list[Any] = []
    with pytest.raises(
        LeftoverTasks, match=r"before 1 of its asyncio tasks had ended \(.*background"
    ):
        run(loop, work())
    assert ended == ["cancelled"]


def test_leftover_of_a_leftover_is_found(loop: EventLoop) -> None:
    async def outer() -> None:
        holder.append(asyncio.create_task(forever()))

    async def work() -> None:
        await asyncio.create_task(outer())

    holder: list[Any] = []
    with pytest.raises(LeftoverTasks, match="forever"):
        run(loop, work())
    assert holder[0].cancelled()


def test_many_leftovers_are_counted_and_five_are_named(loop: EventLoop) -> None:
    async def work() -> None:
        holder.extend(asyncio.create_task(forever()) for _ in range(9))

    holder: list[Any] = []
    with pytest.raises(LeftoverTasks) as raised:
        run(loop, work())
    assert str(raised.value).count("forever") == 5
    assert "9 of its asyncio tasks" in str(raised.value)


def test_error_of_the_coroutine_is_kept_and_its_leftovers_are_cancelled(loop: EventLoop) -> None:
    async def work() -> None:
        holder.append(asyncio.create_task(forever()))
        raise ValueError("mine")

    holder: list[Any] = []
    with pytest.raises(ValueError, match="mine"):
        run(loop, work())
    assert holder[0].cancelled()


@pytest.mark.parametrize("kind", ["awaited", "gathered", "grouped", "cancelled", "timed-out"])
def test_task_that_was_awaited_or_cancelled_is_not_a_leftover(loop: EventLoop, kind: str) -> None:
    async def work() -> str:
        task = asyncio.create_task(asyncio.sleep(30 if kind == "cancelled" else 0))
        match kind:
            case "awaited":
                await task
            case "gathered":
                await asyncio.gather(task, asyncio.sleep(0))
            case "grouped":
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(0.01))
                await task
            case "cancelled":
                task.cancel()
            case "timed-out":
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await asyncio.sleep(30)
        return "done"

    assert run(loop, work()) == "done"


def test_leftover_of_one_coroutine_is_not_that_of_another(loop: EventLoop) -> None:
    async def leaves() -> None:
        holder.append(asyncio.create_task(forever()))
        await asyncio.sleep(0.05)

    async def other() -> str:
        await asyncio.create_task(asyncio.sleep(0.1))
        return "done"

    holder: list[Any] = []
    with ThreadPoolExecutor(2) as threads:
        bad, good = threads.submit(run, loop, leaves()), threads.submit(run, loop, other())
        assert good.result() == "done"
        with pytest.raises(LeftoverTasks):
            bad.result()
