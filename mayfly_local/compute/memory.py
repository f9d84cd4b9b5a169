"""The memory of a function's process: it is killed if it exceeds its memory size, as on Lambda."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import psutil

from mayfly_local.compute.invocation import Failure
from mayfly_local.processes.children import Child

__all__ = ["MemoryWatch"]

#: Seconds between two checks of a process that runs an invocation, and of one that waits.
_ACTIVE_INTERVAL: Final = 0.02
_IDLE_INTERVAL: Final = 0.5
#: Every tenth check includes the children of the process, which takes longer.
_CHECKS_OF_CHILDREN: Final = 10


class MemoryWatch:
    """Watches one process; `is_active()` returns whether it runs code of the function now.

    `verdict` is the failure of a process that was killed.
    """

    def __init__(self, child: Child, memory_mb: int, is_active: Callable[[], bool]) -> None:
        self.verdict: Failure | None = None
        self._child = child
        self._memory_mb = memory_mb
        self._is_active = is_active
        self._task = asyncio.ensure_future(self._watch())

    def close(self) -> None:
        """Ends the watch."""
        self._task.cancel()

    async def _watch(self) -> None:
        try:
            process, checks, used = psutil.Process(self._child.pid), 0, 0
            while True:
                await asyncio.sleep(_ACTIVE_INTERVAL if self._is_active() else _IDLE_INTERVAL)
                checks += 1
                # The system may have no open file left for this check; the next one tries again.
                with contextlib.suppress(OSError):
                    used = _memory_of(process, with_children=not checks % _CHECKS_OF_CHILDREN)
                if used > self._memory_mb * 1024 * 1024:
                    self.verdict = Failure(
                        "Runtime.OutOfMemory",
                        f"Memory Size: {self._memory_mb} MB exceeded "
                        f"(used: {used / 1024 / 1024:.0f} MB); the process was killed",
                    )
                    self._child.kill()
                    return
        except psutil.Error:  # The process has ended.
            return


def _memory_of(process: psutil.Process, *, with_children: bool) -> int:
    """Returns the resident bytes.

    Raises psutil.Error once the process has ended, and OSError if the system cannot be asked.
    """
    used: int = process.memory_info().rss
    if with_children:
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):  # The child ended between two checks.
                used += child.memory_info().rss
    return used
