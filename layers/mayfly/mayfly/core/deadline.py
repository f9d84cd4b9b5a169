"""The deadline of a request, for everything that waits for an answer.

A request that outlasts its function ends with the gateway's own 500. So each call to a store gets a
share of the time that is left, and the request is answered before the function's timeout.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from typing import Final

__all__ = ["ANSWER_SECONDS", "limited", "seconds_left"]

#: Seconds before the function's timeout that are kept for the answer: one, and what its way takes.
ANSWER_SECONDS: Final = 1.1

_ends: ContextVar[tuple[float, Callable[[], float]] | None] = ContextVar("deadline", default=None)


@contextmanager
def limited(
    remaining_ms: int, *, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Limits the calls of a block to the milliseconds that its invocation has left.

    Threads that the block starts are not limited.
    """
    token = _ends.set((monotonic() + remaining_ms / 1000 - ANSWER_SECONDS, monotonic))
    try:
        yield
    finally:
        _ends.reset(token)


def seconds_left() -> float:
    """Returns the seconds until the deadline, infinity without one. They can be negative."""
    found = _ends.get()
    return inf if found is None else found[0] - found[1]()
