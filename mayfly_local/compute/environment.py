"""An execution environment: one process of a function, and the Runtime API that it talks to.

It runs at most one invocation at a time. Between two invocations it is frozen, as on Lambda:
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

import asyncio
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Final

from mayfly_local.compute.invocation import Failure, Invocation, NotSent, Reply
from mayfly_local.compute.launch import Launch
from mayfly_local.compute.memory import MemoryWatch
from mayfly_local.compute.runtime_api import Poll, RuntimeApi
from mayfly_local.logs import Log
from mayfly_local.processes.children import Child, Children
from mayfly_local.processes.folders import Folders
from mayfly_local.processes.moved_time import VARIABLE

__all__ = ["Environment"]

#: Seconds that a function has to initialise, as on Lambda.
INIT_SECONDS: Final = 10.0
#: The program of a process that waits for a debugger first.
_DEBUGGED: Final = str(Path(__file__).parent / "debugged_runtime.py")
#: Folders that every process loads from: this runtime, Python, and AWS's runtime.
_RUNTIME: Final = (Path(__file__).parent.parent, Path(sys.prefix), Path(sys.base_prefix))


class Environment:
    """A started process of a function. With `freezes`, its threads stop between invocations."""

    def __init__(
        self, launch: Launch, log: Log, *, tells_peers: bool | None = None, freezes: bool = True
    ) -> None:
        self.id = uuid.uuid4().hex[:8]
        self.idle_since = 0.0
        self.invocations = 0
        self._launch = launch
        self._log = log
        self._child: Child | None = None
        self._api = RuntimeApi(launch.arn, self._note_refusal, tells_peers=tells_peers)
        # A frozen process could not answer its debugger.
        self._freezes = freezes and launch.debug_port is None
        self._freezing: asyncio.Task[None] | None = None
        self._tmp: Path | None = None
        self._memory: MemoryWatch | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._child is not None and self._child.is_running

    async def start(self, children: Children) -> Failure | None:
        """Starts the process and waits until it asks for its first event.

        Returns a Failure with the reason if it never asks. Returns a Failure as well if the system
        has no file or process left; the next invocation then tries again.
        """
        try:
            await self._api.listen()
            folders = self._folders()
            variables = {
                **self._launch.variables,
                "AWS_LAMBDA_RUNTIME_API": self._api.address,
                "AWS_LAMBDA_LOG_STREAM_NAME": self._log_stream,
                "PYTHONPATH": ":".join(str(folder) for folder in self._launch.path),
            }
            if self._launch.clock is not None:
                variables[VARIABLE] = str(self._launch.clock)
            if folders is None:
                self._tmp = Path(tempfile.mkdtemp(prefix="mayfly-function-"))
                variables["TMPDIR"] = str(self._tmp)
            target, arguments = self._program()
            self._child = await children.spawn(
                target,
                arguments,
                env=variables,
                folder=self._launch.folder,
                isolated=True,
                folders=folders,
            )
        except asyncio.CancelledError:
            await self._close()
            raise
        except OSError as problem:
            await self._close()
            failure = Failure(
                "Sandbox.StartFailed",
                f"no process could be started for the function: {problem.strerror or problem}",
            )
            self._log.event(
                "start failed",
                "ERROR",
                environment=self.id,
                reason=failure.message,
                next="the next invocation tries again",
            )
            return failure
        self._reader = asyncio.ensure_future(self._read_output(self._child))
        self._api.serve_only(self._child)
        self._memory = MemoryWatch(self._child, self._launch.memory_mb, self._runs_code)
        started = time.monotonic()
        poll = asyncio.ensure_future(self._api.next_poll())
        ended = self._child.ended
        waits: list[asyncio.Future[Any]] = [poll, ended, self._api.init_error]
        try:
            await asyncio.wait(
                waits,
                timeout=INIT_SECONDS if self._launch.debug_port is None else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:  # The pool is closing.
            poll.cancel()
            await self.kill()
            raise
        if poll.done():
            self._api.keep(poll.result())
            self._log.event(
                "init",
                quiet=True,
                environment=self.id,
                pid=self.pid,
                milliseconds=round((time.monotonic() - started) * 1000),
            )
            self._rest()
            return None
        poll.cancel()
        if self._api.init_error.done():
            failure = self._api.init_error.result()
        elif ended.done():
            failure = self._memory.verdict or Failure(
                "Runtime.ExitError", f"Runtime exited during init: {_describe_exit(ended.result())}"
            )
        else:
            failure = Failure(
                "Sandbox.Timedout", f"Init timed out after {INIT_SECONDS:.2f} seconds"
            )
        await self.kill()
        self._log.event(
            "init failed", "ERROR", environment=self.id, error=failure.kind, reason=failure.message
        )
        return failure

    async def invoke(self, invocation: Invocation) -> Reply | Failure:
        """Gives the process one event, and waits for the result until the function's timeout.

        After a Failure the process is dead, unless the handler itself reported the failure. Raises
        NotSent if the process died before it read the event.
        """
        self._wake()
        poll = await self._poll_or_end()
        if poll is None or not self.is_alive:
            await self.kill()
            raise NotSent
        self.invocations += 1
        started = time.monotonic()
        self._log.event("start", quiet=True, environment=self.id, request_id=invocation.request_id)
        deadline_ms = time.time_ns() // 1_000_000 + round(self._launch.timeout_seconds * 1000)
        outcome = self._api.send(poll, invocation, deadline_ms)
        try:
            result = await self._result(outcome)
        finally:
            self._api.end()
        facts: dict[str, Any] = {
            "environment": self.id,
            "request_id": invocation.request_id,
            "milliseconds": round((time.monotonic() - started) * 1000, 1),
        }
        if isinstance(result, Failure):
            self._log.event(
                "invocation failed", "ERROR", **facts, error=result.kind, reason=result.message
            )
        else:
            self._log.event("end", quiet=True, **facts)
        self.idle_since = time.monotonic()
        self._rest()
        return result

    async def stop(self, grace_seconds: float) -> None:
        """Sends SIGTERM, then SIGKILL after the grace period."""
        # A process that answers first needs a moment after its answer to end by itself.
        self._freezes = False
        self._wake()
        if self._child is not None:
            await self._child.stop(grace_seconds)
        await self._close()

    async def kill(self) -> None:
        """Sends SIGKILL immediately."""
        if self._child is not None:
            self._child.kill()
            await self._child.ended
        await self._close()

    def crash(self) -> None:
        """Kills the process. The invocation that runs notices its end, as that of any crash."""
        assert self._child is not None
        self._child.kill()

    async def _result(self, outcome: "asyncio.Future[Reply | Failure]") -> Reply | Failure:
        assert self._child is not None
        assert self._memory is not None
        ended = self._child.ended
        waits: list[asyncio.Future[Any]] = [outcome, ended]
        await asyncio.wait(
            waits, timeout=self._launch.timeout_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if outcome.done():
            return outcome.result()
        if ended.done():
            was_unread = self._memory.verdict is None and await self._api.was_unread()
            if outcome.done():  # The reply was still on the way when the process ended.
                return outcome.result()
            if was_unread:
                await self.kill()
                raise NotSent
            failure = self._memory.verdict or Failure(
                "Runtime.ExitError",
                f"RequestId: {self._api.request_id} Error: {_describe_exit(ended.result())}",
            )
        else:
            failure = Failure(
                "Sandbox.Timedout",
                f"Task timed out after {self._launch.timeout_seconds:.2f} seconds",
            )
        await self.kill()
        return failure

    async def _poll_or_end(self) -> Poll | None:
        assert self._child is not None
        poll = asyncio.ensure_future(self._api.next_poll())
        await asyncio.wait([poll, self._child.ended], return_when=asyncio.FIRST_COMPLETED)
        if poll.done() and not self._child.ended.done():
            return poll.result()
        poll.cancel()
        return None

    async def _read_output(self, child: Child) -> None:
        while True:
            try:
                line = await child.output.readline()
            except ValueError:  # The line is longer than the limit; the rest of it follows.
                continue
            if not line:
                return
            for part in line.decode(errors="replace").rstrip("\r\n").split("\r"):
                self._log.line(part, environment=self.id, request_id=self._api.request_id)

    def _rest(self) -> None:
        """Freezes the process as soon as it asks for its next event, as Lambda does."""
        if self._freezes and self.is_alive:
            self._freezing = asyncio.ensure_future(self._freeze())

    async def _freeze(self) -> None:
        assert self._child is not None
        self._api.keep(await self._api.next_poll())
        self._child.freeze()

    def _wake(self) -> None:
        if self._freezing is not None and self._child is not None:
            self._freezing.cancel()
            self._freezing = None
            self._child.thaw()

    def _program(self) -> tuple[str, list[str]]:
        """Returns what the process runs, and its arguments."""
        launch = self._launch
        if launch.debug_port is None:
            return launch.runtime, [launch.handler]
        return _DEBUGGED, [str(launch.debug_port), launch.runtime, launch.handler]

    def _folders(self) -> Folders | None:
        """Returns the folders of the process, or None if this system cannot provide them."""
        launch = self._launch
        if launch.bytecode is None:
            return None
        return Folders(
            task=launch.folder,
            layers=launch.layers,
            tmp_mb=launch.tmp_mb,
            writable=launch.bytecode,
            needed=[*_RUNTIME, *launch.path, *launch.layers],
        )

    @property
    def _log_stream(self) -> str:
        """The name of a log stream in Lambda's form: date, version, and an id of 32 digits."""
        return time.strftime(f"%Y/%m/%d/[$LATEST]{self.id}{uuid.uuid4().hex[8:]}", time.gmtime())

    async def _close(self) -> None:
        if self._freezing is not None:
            self._freezing.cancel()
        if self._tmp is not None:
            await asyncio.to_thread(shutil.rmtree, self._tmp, ignore_errors=True)
        if self._memory is not None:
            self._memory.close()
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=1)
        await self._api.close()

    def _runs_code(self) -> bool:
        """Returns whether an invocation or the initialisation runs."""
        return self._api.request_id is not None or not self.invocations

    def _note_refusal(self, path: str, why: str) -> None:
        self._log.event("refused", "ERROR", environment=self.id, path=path, reason=why)


def _describe_exit(code: int) -> str:
    return (
        f"Runtime exited with error: signal {-code}"
        if code < 0
        else f"Runtime exited with error: exit status {code}"
    )
