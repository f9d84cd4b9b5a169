"""Waits of requests for messages that arrive in a queue, and for records in a stream."""

import asyncio
import threading
from collections import Counter
from collections.abc import Hashable

__all__ = ["Arrivals"]


class Arrivals:
    """Wakes requests that wait for something new in a queue or a stream.

    A request takes the `count` of a place before it looks there. If it finds nothing, it waits for
    another count, so that it misses nothing in between.
    """

    def __init__(self) -> None:
        self._counts: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, set[asyncio.Future[None]]] = {}
        # CloudFormation's threads change queues, too.
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """True if no request waits from now on."""
        return self._is_closed

    def count(self, place: Hashable) -> int:
        """Returns how often a place has changed."""
        return self._counts[place]

    def note(self, place: Hashable) -> None:
        """Notes a change, and wakes the requests that wait for it. Any thread may call it."""
        with self._lock:
            self._counts[place] += 1
            waiting = list(self._waiting.get(place, ()))
        for future in waiting:
            future.get_loop().call_soon_threadsafe(_wake, future)

    async def wait(self, place: Hashable, seen: int, seconds: float) -> None:
        """Returns when the count is no longer `seen`, when seconds are over, or at `close`."""
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._is_closed or self._counts[place] != seen:
                return
            self._waiting.setdefault(place, set()).add(future)
        try:
            await asyncio.wait([future], timeout=seconds)
        finally:
            with self._lock:
                self._waiting[place].discard(future)
                if not self._waiting[place]:
                    del self._waiting[place]

    def close(self) -> None:
        """Wakes every request. None waits from now on, since the stack is stopping."""
        with self._lock:
            self._is_closed = True
            waiting = [future for futures in self._waiting.values() for future in futures]
        for future in waiting:
            future.get_loop().call_soon_threadsafe(_wake, future)


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
