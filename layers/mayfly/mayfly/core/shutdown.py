"""A request to stop, for handlers that wait: SIGTERM ends their wait, not their answer.

Lambda sends SIGTERM at shutdown where an extension is registered, the local runtime whenever it
stops an environment.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["Stopping"]

#: How long an answer may take from the handler to the runtime.
_ANSWER_SECONDS: Final = 0.2
#: How often a wait looks whether it should end.
_STEP_SECONDS: Final = 0.05


class Stopping:
    """Whether this process was asked to stop.

    A plain flag: a signal handler must take no lock that its own thread may hold.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._is_serving = False

    def listen(self) -> "Stopping":
        """Takes SIGTERM from here on.

        An idle process ends soon; the runtime's own thread would keep it alive.
        """

        def stop(number: int, frame: object) -> None:
            self._is_asked = True
            self._leave_soon()

        signal.signal(signal.SIGTERM, stop)
        return self

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Around an invocation, which a stop lets finish; after it the process leaves, when its
        answer has left.
        """
        self._is_serving = True
        try:
            yield
        finally:
            self._is_serving = False
            if self._is_asked:
                self._leave_soon()

    def pause(self, seconds: float) -> bool:
        """Waits, but not beyond a request to stop. Returns whether one was made."""
        left, never = seconds, threading.Event()
        while left > 0 and not self._is_asked:
            never.wait(min(left, _STEP_SECONDS))
            left -= _STEP_SECONDS
        return self._is_asked

    def _leave_soon(self) -> None:
        timer = threading.Timer(_ANSWER_SECONDS, self._leave_if_idle)
        timer.daemon = True
        timer.start()

    def _leave_if_idle(self) -> None:
        if not self._is_serving:
            os._exit(0)
