"""`mayfly up`: its checks, its signals, and the order of its first steps.

This module loads little, because the emulator takes longest to start. Its process starts first, and
this one loads the rest of the runtime meanwhile.
"""

import asyncio
import gc
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mayfly_local.api_port import check_port
from mayfly_local.emulator.process import Emulator, free_port
from mayfly_local.errors import LocalError
from mayfly_local.iam.credentials import Credentials, Keys, make_private, people
from mayfly_local.logs import Logs
from mayfly_local.options import Options
from mayfly_local.ports.file_limit import raise_file_limit
from mayfly_local.processes.children import Children
from mayfly_local.processes.clock import Clock
from mayfly_local.stack_file import StackFile

if TYPE_CHECKING:
    from mayfly_local.stack import Stack

__all__ = ["Options", "up"]

#: A start that takes longer shows its steps.
_QUIET_SECONDS: Final = 2
_LOOK_SECONDS: Final = 0.2


async def up(options: Options) -> int:
    """Runs the stack until a signal, and returns the exit code.

    The exit code is 0 if all running work finished in time.
    """
    started = time.monotonic()
    gc.disable()  # Nothing that the start loads and makes is garbage.
    # Only this user may read what this process writes. Functions get Lambda's umask 022 back.
    os.umask(0o077)
    files = raise_file_limit()
    check_port(options.port)
    StackFile.refuse_a_second(options.work)
    opened = _check_folder(options.work)
    if options.state is not None:
        opened += _check_folder(options.state)
    logs = Logs(options.work / "logs", form=options.log)
    for path in opened:
        logs.say(f"{path} could be read by other users of this machine; access is now closed")
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    children = Children()
    await children.open()
    clock = Clock(options.work / "clock" if options.movable_clock else None)
    keys, emulator = await _start_emulator(options, logs, children, clock)
    from mayfly_local.stack import Stack

    stack = Stack(
        options, logs, files=files, children=children, keys=keys, emulator=emulator, clock=clock
    )
    try:
        starting = asyncio.ensure_future(stack.start())
        stopped = asyncio.ensure_future(signals.get())
        narrating = asyncio.ensure_future(_narrate(stack, logs))
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        narrating.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
            return 0
        starting.result()
        gc.enable()
        gc.freeze()
        stack.announce(time.monotonic() - started)
        broken = asyncio.ensure_future(stack.broken())
        await asyncio.wait([stopped, broken], return_when=asyncio.FIRST_COMPLETED)
        if broken.done():
            raise LocalError(broken.result())
        broken.cancel()
        return await _drain(stack, signals, options, logs)
    finally:
        await stack.close()
        logs.close()


async def _narrate(stack: "Stack", logs: Logs) -> None:
    """Shows each step of a start that takes long, from `_QUIET_SECONDS` on."""
    await asyncio.sleep(_QUIET_SECONDS)
    shown = ""
    while True:
        if stack.step != shown:
            shown = stack.step
            logs.say(f"{shown} ...")
        await asyncio.sleep(_LOOK_SECONDS)


async def _start_emulator(
    options: Options, logs: Logs, children: Children, clock: Clock
) -> tuple[Keys, Emulator | None]:
    """Starts the emulator's process, unless the state is at an endpoint of the user's own."""
    if options.endpoint is not None:
        return Keys.foreign(), None
    keys = Keys(people(options.work), Credentials.new("runtime"))
    emulator = Emulator(
        free_port(options.port + 1), work=options.work, state=options.state,
        log=logs.of("mayfly"), keys=keys, hosts=options.hosts,
        any_credentials=options.any_credentials, say=logs.say,
        transaction_seconds=options.transaction_seconds, clock=clock.path,
    )  # fmt: skip
    await emulator.spawn(children)
    return keys, emulator


async def _drain(stack: "Stack", signals: asyncio.Queue[int], options: Options, logs: Logs) -> int:
    logs.say(
        f"stopping: running work has {options.grace:.0f} s to finish; "
        "press Ctrl-C again to stop immediately"
    )
    draining = asyncio.ensure_future(stack.drain())
    again = asyncio.ensure_future(signals.get())
    await asyncio.wait(
        [draining, again], timeout=options.grace, return_when=asyncio.FIRST_COMPLETED
    )
    is_clean = draining.done()
    again.cancel()
    draining.cancel()
    if returned := await stack.release():
        logs.say(f"{returned} unfinished messages are back on their queues")
    logs.say("stopped" if is_clean else "stopped; work that was still running was killed")
    return 0 if is_clean else 1


def _check_folder(folder: Path) -> list[str]:
    """Creates a folder, or checks that it can be used, and closes it to other users.

    Returns the paths that other users could read before.
    """
    is_own = not folder.exists() or folder.name == ".mayfly" or folder.parent.name == ".mayfly"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f".write-{os.getpid()}").touch()
        (folder / f".write-{os.getpid()}").unlink()
        return make_private(folder, is_own=is_own)
    except OSError as problem:
        raise LocalError(f"the folder {folder} cannot be written to: {problem.strerror}") from None
