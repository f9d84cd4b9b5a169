"""An event loop whose time passes only while nothing can run, and then at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["VirtualLoop", "run"]


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs callbacks at once, in the order of their times. Nothing may wait for another process."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0

    def time(self) -> float:
        """Returns the virtual seconds since the loop was made."""
        return self._seconds

    def _run_once(self) -> None:
        timers = self._scheduled  # type: ignore[attr-defined]
        if not self._ready and timers:  # type: ignore[attr-defined]
            self._seconds = max(self._seconds, timers[0].when())
        super()._run_once()  # type: ignore[misc]


def run(make: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine in virtual time, and returns its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(make)
