"""Child processes that cannot outlive the supervisor, each the leader of a process group of its own."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["Child", "Children"]

_HERE: Final = Path(__file__).parent
#: The longest line of output that is kept whole, in bytes.
LINE_LIMIT: Final = 1024 * 1024


class Child:
    """One running child. Killing it kills its whole group."""

    def __init__(self, process: Process, children: "Children") -> None:
        self._process = process
        self._children = children
        self.pid = process.pid
        self.ended = asyncio.ensure_future(self._watch())

    @property
    def output(self) -> asyncio.StreamReader:
        """Standard output and error, in the order written."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def is_running(self) -> bool:
        """Whether the operating system still has it; asks, since the end may not have been noticed yet."""
        if self._process.returncode is not None:
            return False
        if not hasattr(os, "waitid"):  # macOS: what asyncio has noticed is all there is
            return True
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:  # reaped a moment ago
            return False

    def kill(self) -> None:
        """SIGKILL for the whole group."""
        self._signal(signal.SIGKILL)

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL for what is left of the group when the child has ended or the grace is over."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            await asyncio.wait([self.ended], timeout=grace_seconds)
        self.kill()
        await self.ended

    async def _watch(self) -> int:
        code = await self._process.wait()
        self.kill()  # what the child started and left behind
        self._children.forget(self.pid)
        return code

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class Children:
    """Starts children and tells a guard process about them, which kills their groups when this process is gone."""

    def __init__(self) -> None:
        self._guard: Process | None = None

    async def open(self) -> None:
        """Starts the guard."""
        script = str(_HERE / "guard.py")
        self._guard = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-P", script, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
        )

    async def close(self) -> None:
        """Ends the guard. Every child must have ended."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            await self._guard.wait()

    async def spawn(
        self, target: str, arguments: Sequence[str] = (), *, env: Mapping[str, str], folder: Path, isolated: bool = False
    ) -> Child:
        """Starts a Python module or file as a child in `folder`.

        `isolated` hides this environment's packages from it: it sees the standard library and PYTHONPATH only.
        """
        flags = ["-S", "-s", "-P"] if isolated else ["-P"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *flags, str(_HERE / "launch.py"), str(os.getpid()), target, *arguments,
            stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=dict(env), cwd=folder, start_new_session=True, limit=LINE_LIMIT,
        )  # fmt: skip
        self._tell("+", process.pid)
        return Child(process, self)

    def forget(self, pid: int) -> None:
        """Called when a group has ended."""
        self._tell("-", pid)

    def _tell(self, sign: str, pid: int) -> None:
        if self._guard is not None and self._guard.stdin is not None and not self._guard.stdin.is_closing():
            self._guard.stdin.write(f"{sign}{pid}\n".encode())
