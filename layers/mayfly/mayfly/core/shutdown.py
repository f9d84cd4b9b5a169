"""Shutdown of handlers that wait: SIGTERM ends their wait, and they still answer.

Lambda sends SIGTERM at shutdown if an extension is registered. The local runtime sends it whenever
it stops an execution environment.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["Stopping"]

#: Time that an answer may take from the handler to the runtime.
_ANSWER_SECONDS: Final = 0.2
#: Interval at which a wait checks whether it should end.
_STEP_SECONDS: Final = 0.05


class Stopping:
    """Record of whether SIGTERM asked this process to stop.

    It is a plain flag: a signal handler must not take a lock that its own thread may hold.
    """

    def __init__(self) -> None:
        self._must_stop = False
        self._is_serving = False

    def listen(self) -> "Stopping":
        """Handles SIGTERM from now on, and returns self.

        After SIGTERM an idle process exits soon; the runtime's own thread would keep it alive.
        """

        def stop(number: int, frame: object) -> None:
            self._must_stop = True
            self._exit_soon()

        signal.signal(signal.SIGTERM, stop)
        return self

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Marks an invocation, which may finish after SIGTERM.

        If SIGTERM came meanwhile, the process exits once the answer has been sent.
        """
        self._is_serving = True
        try:
            yield
        finally:
            self._is_serving = False
            if self._must_stop:
                self._exit_soon()

    def pause(self, seconds: float) -> bool:
        """Waits for `seconds`, or until SIGTERM. Returns True if SIGTERM has come."""
        left, never = seconds, threading.Event()
        while left > 0 and not self._must_stop:
            never.wait(min(left, _STEP_SECONDS))
            left -= _STEP_SECONDS
        return self._must_stop

    def _exit_soon(self) -> None:
        timer = threading.Timer(_ANSWER_SECONDS, self._exit_if_idle)
        timer.daemon = True
        timer.start()

    def _exit_if_idle(self) -> None:
        if not self._is_serving:
            os._exit(0)
