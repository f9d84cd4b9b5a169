"""The clock of a stack: the machine's, or one that a test moves ahead.

    stack.advance() --> Clock.move --> a file of 8 bytes --> the emulator's process: time.time
                                                         --> functions: mayfly.core.clock

The runtime reads it, too. Code that reads the machine's time by itself is not moved.
"""

import asyncio
import contextlib
import mmap
import os
import time
from pathlib import Path

from mayfly_local.processes.moved_time import SIZE, reader

__all__ = ["Clock"]


class Clock:
    """A clock in seconds since the epoch. Call it for the time.

    With a `path`, it can be moved, and the file there tells other processes the offset. Raises
    OSError if the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._time_ns = time.time_ns
        self._moved = asyncio.Event()
        if path is not None:
            path.write_bytes(bytes(SIZE))
            descriptor = os.open(path, os.O_RDWR)
            self._shared = mmap.mmap(descriptor, SIZE)
            os.close(descriptor)
            self._time_ns = reader(str(path))

    def __call__(self) -> float:
        """Returns the seconds since the epoch."""
        return self._time_ns() / 1e9

    @property
    def can_move(self) -> bool:
        """True if it has a file."""
        return self.path is not None

    def move(self, moment: float) -> None:
        """Moves the clock ahead to a moment; a moment that has passed changes nothing.

        Wakes everything that sleeps by this clock.
        """
        assert self.can_move
        ahead = round(moment * 1e9) - self._time_ns()
        if ahead > 0:
            offset = int.from_bytes(self._shared[:SIZE], "little", signed=True) + ahead
            self._shared[:SIZE] = offset.to_bytes(SIZE, "little", signed=True)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def sleep_until(self, moment: float) -> None:
        """Returns when the clock has come to a moment."""
        while (left := moment - self()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left)
