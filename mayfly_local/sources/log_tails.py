"""The end of an invocation's log, for callers that ask for it with `LogType: Tail`.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

import asyncio
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from mayfly_local.logs import Log

__all__ = ["LogTails", "Tail"]

#: Lambda returns the last 4 KB.
_LIMIT: Final = 4096
#: Turns of the event loop in which it reads what a pipe holds already.
_TURNS: Final = 4


class Tail:
    """The lines that one invocation has printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def text(self, request_id: str, seconds: float, *, memory_mb: int) -> str:
        """Returns the last 4 KB of the log, with the lines that Lambda adds."""
        milliseconds = seconds * 1000
        whole = [
            f"START RequestId: {request_id} Version: $LATEST",
            *self.lines,
            f"END RequestId: {request_id}",
            f"REPORT RequestId: {request_id}\tDuration: {milliseconds:.2f} ms\t"
            f"Billed Duration: {math.ceil(milliseconds)} ms\tMemory Size: {memory_mb} MB\t",
        ]
        end = "\n".join([*whole, ""]).encode()[-_LIMIT:]
        return end.decode(errors="ignore")


class LogTails:
    """Collects the lines of invocations from the logs of their functions."""

    def __init__(self, logs: Mapping[str, Log]) -> None:
        self._logs = logs

    @contextmanager
    def collecting(self, function: str, request_id: str) -> Iterator[Tail]:
        """Collects the lines that an invocation prints, while it runs."""
        tail = Tail()
        with self._logs[function].listening(request_id, tail.lines.append):
            yield tail

    async def settle(self) -> None:
        """Returns when the lines printed before the reply have been read.

        They are in the process's pipe already, and the event loop reads it in its next turns.
        """
        for _ in range(_TURNS):
            await asyncio.sleep(0)
