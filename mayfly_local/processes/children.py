"""Child processes that cannot outlive the supervisor, each the leader of its own process group."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from mayfly_local.processes.folders import Folders

__all__ = ["Child", "Children"]

_HERE: Final = Path(__file__).parent
#: The longest line of output that is kept whole, in bytes.
LINE_LIMIT: Final = 1024 * 1024
#: Seconds for which the output of an ended process is still read.
_LAST_WORDS_SECONDS: Final = 0.3
#: The longest time in seconds for which a child that is to be stopped may work before its signal,
#: and the seconds between two looks at it.
_RESTED_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.002


class _Protocol(asyncio.SubprocessProtocol):
    """Feeds the output to a reader, and reports the end as soon as the process has ended.

    asyncio's own Process also waits for the end of the output. A child of the child can keep that
    open forever.
    """

    def __init__(self) -> None:
        self.output = asyncio.StreamReader(limit=LINE_LIMIT)
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        pipe = transport.get_pipe_transport(1)
        assert pipe is not None
        self.output.set_transport(pipe)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output.feed_data(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.output.feed_eof()
        if not self.drained.done():
            self.drained.set_result(None)

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)


class Child:
    """One running child.

    Killing it kills its whole group, and all descendants that have left the group.
    """

    def __init__(
        self, transport: asyncio.SubprocessTransport, protocol: _Protocol, children: "Children"
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._children = children
        self.pid = transport.get_pid()
        self.ended = asyncio.ensure_future(self._watch())

    @property
    def output(self) -> asyncio.StreamReader:
        """Standard output and error, in the order written."""
        return self._protocol.output

    @property
    def is_running(self) -> bool:
        """True while the process runs and no SIGKILL is pending for it.

        This asks the operating system, because asyncio may not have noticed the end yet.
        """
        if self._transport.get_returncode() is not None:
            return False
        if not hasattr(os, "waitid"):  # macOS: only asyncio's own knowledge is available.
            return True
        try:
            return os.waitid(
                os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
            ) is None and not _is_being_killed(self.pid)
        except ChildProcessError:  # The process was reaped a moment ago.
            return False

    def freeze(self) -> None:
        """Stops the threads of the whole group, until `thaw`."""
        self._signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets the threads of the group continue."""
        self._signal_group(signal.SIGCONT)

    def kill(self) -> None:
        """Sends SIGKILL to the whole group and every descendant."""
        descendants: list[psutil.Process] = []
        # The process has ended, or the system has no open file left for the check.
        with contextlib.suppress(psutil.Error, OSError):
            descendants = psutil.Process(self.pid).children(recursive=True)
        self._kill_group()
        for descendant in descendants:
            with contextlib.suppress(psutil.Error):
                descendant.kill()

    async def stop(self, grace_seconds: float) -> None:
        """Sends SIGTERM, then SIGKILL to the rest of the group.

        The second follows when the child has ended or the grace period is over. A frozen child
        continues first, or it could not handle the signal. It gets the signal when it waits again:
        Python would notice one that comes just before a read only after the read, and a child is
        mostly frozen just before the read of its next event.
        """
        if self._transport.get_returncode() is None:
            self.thaw()
            await self._rested()
            with contextlib.suppress(ProcessLookupError):
                self._transport.send_signal(signal.SIGTERM)
            await asyncio.wait([self.ended], timeout=grace_seconds)
        self.kill()
        await self.ended

    async def _rested(self) -> None:
        """Returns when the child waits for something, or after a moment if it works."""
        with contextlib.suppress(psutil.Error):
            process, until = psutil.Process(self.pid), time.monotonic() + _RESTED_SECONDS
            # No event tells of it.
            while (  # noqa: ASYNC110
                process.status() != psutil.STATUS_SLEEPING and time.monotonic() < until
            ):
                await asyncio.sleep(_LOOK_SECONDS)

    async def _watch(self) -> int:
        await self._protocol.exited
        self._kill_group()  # Processes that the child started and left behind.
        self._children.forget(self.pid)
        code = self._transport.get_returncode()
        self._children.releasing(self._release())
        return code if code is not None else -signal.SIGKILL

    async def _release(self) -> None:
        """Closes the pipe.

        A process that left the group may hold the pipe open. Its output so far is read, and the
        rest is not awaited.
        """
        await asyncio.wait([self._protocol.drained], timeout=_LAST_WORDS_SECONDS)
        self._transport.close()

    def _kill_group(self) -> None:
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _is_being_killed(pid: int) -> bool:
    """Returns whether a SIGKILL is pending for a process.

    Linux only: returns False if the system does not tell. On a busy machine, some time can pass
    until the process gets its turn to die. A read in which it waits still accepts new data. The end
    of its connection then looks as if the process had read everything.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    pending = [
        int(value, 16)
        for name, _, value in (line.partition(":") for line in status.splitlines())
        if name in ("SigPnd", "ShdPnd")
    ]
    return any(mask & 1 << (signal.SIGKILL - 1) for mask in pending)


class Children:
    """Starts children, and reports them to a watchdog process.

    The watchdog kills their groups when this process is gone.
    """

    def __init__(self) -> None:
        self._watchdog: Process | None = None
        self._releases: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Starts the watchdog."""
        script = str(_HERE / "watchdog.py")
        self._watchdog = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-P", script,
            stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True,
        )  # fmt: skip

    async def close(self) -> None:
        """Ends the watchdog. Every child must have ended."""
        await asyncio.gather(*self._releases)
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
            await self._watchdog.wait()

    async def spawn(
        self,
        target: str,
        arguments: Sequence[str] = (),
        *,
        env: Mapping[str, str],
        folder: Path,
        isolated: bool = False,
        folders: Folders | None = None,
        umask: int = 0o022,
        files: Sequence[int] = (),
    ) -> Child:
        """Starts a Python module or file as a child in `folder`.

        The child inherits `files`. With `isolated` it sees only the standard library and
        PYTHONPATH, not this environment's packages. With `folders` it has folders of its own.

        If the caller is cancelled meanwhile, no process is left behind. Raises OSError if the
        machine has no room for another process.
        """
        flags = ["-S", "-s", "-P"] if isolated else ["-P"]
        if folders is not None:
            # The folders of the code are read-only.
            flags += ["-X", f"pycache_prefix={folders.writable}"]
        starting = asyncio.get_running_loop().subprocess_exec(
            _Protocol, sys.executable, *flags, str(_HERE / "bootstrap.py"), str(os.getpid()),
            "" if folders is None else folders.text, target, *arguments,
            stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=dict(env), cwd=folder,
            start_new_session=True, umask=umask, pass_fds=files,
        )  # fmt: skip
        spawning = asyncio.ensure_future(starting)
        try:
            # A cancelled subprocess_exec can wait forever for pipes that are no longer connected.
            transport, protocol = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            child = self._child(*await spawning)
            child.kill()
            await child.ended
            raise
        return self._child(transport, protocol)

    def _child(self, transport: asyncio.SubprocessTransport, protocol: _Protocol) -> Child:
        self._tell("+", transport.get_pid())
        return Child(transport, protocol, self)

    def releasing(self, release: Coroutine[Any, Any, None]) -> None:
        """Runs the cleanup of an ended child in the background."""
        task = asyncio.ensure_future(release)
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    def forget(self, pid: int) -> None:
        """Tells the watchdog that a group has ended."""
        self._tell("-", pid)

    def _tell(self, sign: str, pid: int) -> None:
        if (
            self._watchdog is not None
            and self._watchdog.stdin is not None
            and not self._watchdog.stdin.is_closing()
        ):
            self._watchdog.stdin.write(f"{sign}{pid}\n".encode())
