"""The deadline of a request, for everything that waits for an answer.

A request that outlasts its function ends with the gateway's own 500. So each call to a store gets a
share of the time that is left, and the request is answered before the function's timeout.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from math import inf
from typing import Final, TypeVar

__all__ = ["ANSWER_SECONDS", "carried", "limited", "optional", "seconds_left"]

R = TypeVar("R")

#: Seconds before the function's timeout that are kept for the answer. A request is to be answered a
#: second before the timeout; the rest is for the work after the last call, since the 512 MB of the
#: template have 0.3 of a processor.
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
ANSWER_SECONDS: Final = 1.5

#: The share of the time that is left for what a request can do without.
_OPTIONAL_SHARE: Final = 1 / 3

_ends: ContextVar[tuple[float, Callable[[], float]] | None] = ContextVar("deadline", default=None)


@contextmanager
def limited(
    remaining_ms: int, *, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Limits the calls of a block to the milliseconds that its invocation has left.

    Threads that the block starts are limited if they call what `carried` returns.
    """
    token = _ends.set((monotonic() + remaining_ms / 1000 - ANSWER_SECONDS, monotonic))
    try:
        yield
    finally:
        _ends.reset(token)


@contextmanager
def optional() -> Iterator[None]:
    """Limits the calls of a block to a third of the time that the request has left.

    It is for calls whose failure does not fail the request: the others have time left after them.
    """
    ends = _ends.get()
    if ends is None:
        yield
        return
    now = ends[1]()
    token = _ends.set((now + (ends[0] - now) * _OPTIONAL_SHARE, ends[1]))
    try:
        yield
    finally:
        _ends.reset(token)


def seconds_left() -> float:
    """Returns the seconds until the deadline, infinity without one. They can be negative."""
    ends = _ends.get()
    return inf if ends is None else ends[0] - ends[1]()


def carried(work: Callable[..., R]) -> Callable[..., R]:
    """Returns `work` for other threads: its calls have the deadline that holds here and now."""
    context = copy_context()

    def run(*arguments: object) -> R:
        # Only one thread can be in a context at a time.
        return context.copy().run(work, *arguments)

    return run
