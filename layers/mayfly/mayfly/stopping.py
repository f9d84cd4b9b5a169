"""A request to stop, for handlers that wait: SIGTERM ends their wait, not their answer.

Lambda sends SIGTERM at shutdown where an extension is registered, the local runtime whenever it stops an environment.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopping"]


class Stopping:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._is_serving = False

    def listen(self) -> "Stopping":
        """Takes SIGTERM from here on. An idle process ends at once; the runtime's own thread would keep it alive."""

        def stop(number: int, frame: object) -> None:
            self._asked.set()
            if not self._is_serving:
                os._exit(0)

        signal.signal(signal.SIGTERM, stop)
        return self

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Around the work that a stop should let finish."""
        self._is_serving = True
        try:
            yield
        finally:
            self._is_serving = False

    def pause(self, seconds: float) -> bool:
        """Waits, but not beyond a request to stop. Returns whether one was made."""
        return self._asked.wait(seconds)
