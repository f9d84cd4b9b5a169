"""A request to stop, for handlers that wait: SIGTERM ends their wait, not their answer.

Lambda sends SIGTERM at shutdown where an extension is registered, the local runtime whenever it stops an environment.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopping"]

#: How long an answer may take from the handler to the runtime.
_ANSWER_SECONDS = 0.2


class Stopping:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._is_serving = False

    def listen(self) -> "Stopping":
        """Takes SIGTERM from here on. An idle process ends at once; the runtime's own thread would keep it alive."""

        def stop(number: int, frame: object) -> None:
            self._asked.set()
            self._leave_if_idle()

        signal.signal(signal.SIGTERM, stop)
        return self

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Around the work that a stop should let finish; after it the process leaves, when its answer has left."""
        self._is_serving = True
        try:
            yield
        finally:
            self._is_serving = False
            if self._asked.is_set():
                threading.Timer(_ANSWER_SECONDS, self._leave_if_idle).start()

    def _leave_if_idle(self) -> None:
        if not self._is_serving:
            os._exit(0)

    def pause(self, seconds: float) -> bool:
        """Waits, but not beyond a request to stop. Returns whether one was made."""
        return self._asked.wait(seconds)
