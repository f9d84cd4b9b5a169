"""The event loop of the process, which runs the coroutines of async tasks.

It has a thread of its own, and is made when the first async task runs.

::

    thread of the job    run ------------------ waits -------------------- returns, or raises
    thread of the loop       coroutine - awaits - returns - leftovers are cancelled
                                          deadline: cancelled
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from mayfly.jobs.errors import DeadlineReached, LeftoverTasks

__all__ = ["EventLoop", "process_loop"]

#: A coroutine is cancelled this long before the deadline of its function, in seconds: the failure
#: must be written, and messages must get their time.
MARGIN_SECONDS: Final = 1.0
#: The time that a cancelled coroutine, and cancelled leftovers, have to end, in seconds.
CLEANUP_SECONDS: Final = 0.25

#: The asyncio tasks of one run, the coroutine's own included. Tasks inherit it from the task that
#: makes them.
_tasks: ContextVar[set["asyncio.Task[Any]"]] = ContextVar("mayfly_asyncio_tasks")


@dataclass(frozen=True)
class _Ended:
    """The end of a coroutine: its value, or what it raised."""

    value: Any = None
    error: BaseException | None = None


class EventLoop:
    """One event loop in a thread. Any thread may call `run`; coroutines then share the loop."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any], *, seconds_left: Callable[[], float]) -> Any:
        """Runs a coroutine to its end in the loop, and returns what it returns.

        The coroutine is cancelled a second before `seconds_left()` is 0. It may then still return,
        or raise an error of its own, such as Continue.

        Raises what the coroutine raises, DeadlineReached if it was cancelled, and LeftoverTasks if
        it returned while asyncio tasks of its own were running. Those are cancelled, too.
        """
        seconds = max(0.0, seconds_left() - MARGIN_SECONDS)
        loop = self._running()
        running = asyncio.run_coroutine_threadsafe(_supervised(coroutine, seconds), loop)
        try:
            # The loop keeps the time itself, unless a call in a coroutine blocks it.
            ended = running.result(seconds + 3 * CLEANUP_SECONDS)
        except TimeoutError:
            ended = None
        if ended is None:
            self._abandon(loop)
            raise DeadlineReached(seconds, has_ended=False)
        if ended.error is not None:
            raise ended.error
        return ended.value

    def close(self) -> None:
        """Stops the loop; the next run makes another one."""
        if self._loop is not None:
            self._abandon(self._loop)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._changing:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_task_factory(_tracked)
                threading.Thread(
                    target=_serve, args=[self._loop], name="asyncio", daemon=True
                ).start()
            return self._loop

    def _abandon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stops a loop, so that a coroutine that does not end never continues."""
        with self._changing:
            if self._loop is loop:
                self._loop = None
            loop.call_soon_threadsafe(loop.stop)


#: The loop that all workers of this process share.
process_loop: Final = EventLoop()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    while True:
        try:
            loop.run_forever()
            break
        except (SystemExit, KeyboardInterrupt):
            # A job raised it. asyncio raises it here, too; whatever awaits that job still gets it.
            continue
    loop.close()


def _tracked(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> "asyncio.Task[Any]":
    """Makes an asyncio task, and notes it for the run that it belongs to."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    tasks = _tasks.get(None)
    if tasks is not None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    return task


async def _supervised(coroutine: Coroutine[Any, Any, Any], seconds: float) -> _Ended | None:
    """Returns the end of a coroutine, None if it does not end although it was cancelled."""
    tasks: set[asyncio.Task[Any]] = set()
    _tasks.set(tasks)
    main = asyncio.create_task(coroutine)
    await asyncio.wait([main], timeout=seconds)
    is_late = not main.done()
    if is_late:
        main.cancel()
        await asyncio.wait([main], timeout=CLEANUP_SECONDS)
    leftovers = await _cancelled(tasks - {main})
    if not main.done():
        return None
    ended = _end_of(main)
    if is_late and isinstance(ended.error, asyncio.CancelledError):
        return _Ended(error=DeadlineReached(seconds, has_ended=True))
    if ended.error is None and leftovers:
        return _Ended(error=LeftoverTasks(leftovers))
    return ended


def _end_of(task: "asyncio.Task[Any]") -> _Ended:
    """Returns the end of an asyncio task that has ended."""
    try:
        error = task.exception()
    except asyncio.CancelledError as cancelled:
        error = cancelled
    return _Ended(task.result()) if error is None else _Ended(error=error)


async def _cancelled(tasks: "set[asyncio.Task[Any]]") -> list[str]:
    """Cancels asyncio tasks, and waits a moment for their end.

    Returns the names of those that were not being cancelled already.
    """
    pending = [task for task in tasks if not task.done()]
    if not pending:
        return []
    leftovers = [_name(task) for task in pending if not task.cancelling()]
    for task in pending:
        task.cancel()
    await asyncio.wait(pending, timeout=CLEANUP_SECONDS)
    return sorted(leftovers)


def _name(task: "asyncio.Task[Any]") -> str:
    return getattr(task.get_coro(), "__qualname__", task.get_name())
