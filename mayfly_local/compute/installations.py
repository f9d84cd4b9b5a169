"""Installations of packages that go on while the stack runs.

A function waits for its own packages only, and a failure is the failure of its invocations. So one
package that does not exist for this machine does not keep the rest from running.
"""

import asyncio
import contextlib
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from mayfly_local.compute.requirements import Requirements
from mayfly_local.compute.reuse import mark, reuse
from mayfly_local.errors import LocalError

__all__ = ["Installations", "installed", "package_folder"]

#: Installations at once: the network is the slow part.
_AT_ONCE: Final = 4


def package_folder(requirements: Requirements, cache: Path) -> Path:
    """Returns the folder of installed requirements, whether or not it exists yet."""
    platform_text = f"{sys.version_info[:2]} {platform.machine()} {sys.platform}"
    text = f"{platform_text}\n{requirements.text}{requirements.constraints}"
    text += mark(requirements.text)
    return cache / "packages" / hashlib.sha256(text.encode()).hexdigest()[:24]


async def installed(
    requirements: Requirements, *, cache: Path, say: Callable[[str], None] = lambda _: None
) -> Path:
    """Installs packages for this machine unless they are there, and returns their folder.

    `say` gets a line before pip starts. Raises LocalError with pip's error.
    """
    folder = package_folder(requirements, cache)
    if folder.exists():
        return folder
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    unfinished.mkdir(parents=True, exist_ok=True)
    given, locked = unfinished.with_suffix(".txt"), unfinished.with_suffix(".lock")
    given.write_text(requirements.text)
    # A lock with hashes lists every package. Any other file is resolved as `sam build` does.
    more = ["--require-hashes", "--no-deps"] if "--hash=" in requirements.text else []
    if requirements.constraints:
        locked.write_text(requirements.constraints)
        more = ["--constraint", str(locked)]
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-warn-conflicts", "--no-compile", *more, "--target", str(unfinished),
        "-r", str(given),
    ]  # fmt: skip
    try:
        if not await asyncio.to_thread(reuse, requirements.text, unfinished):
            say(f"installing the packages of {requirements.origin} for this machine (once) ...")
            code, printed = await _run(command, requirements.folder)
            if code != 0:
                raise LocalError(
                    f"the packages of {requirements.origin} could not be installed:\n{printed}"
                )
        with contextlib.suppress(OSError):  # Another start was faster.
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        given.unlink(missing_ok=True)
        locked.unlink(missing_ok=True)
    return folder


async def _run(command: list[str], folder: Path) -> tuple[int, str]:
    """Returns the exit code of a command and its errors. Kills it if the caller is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        _, printed = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return process.returncode or 0, printed.decode(errors="replace").strip()


class Installations:
    """The installations that functions wait for, by function."""

    def __init__(
        self,
        wanted: Mapping[str, Iterable[Requirements]],
        *,
        cache: Path,
        say: Callable[[str], None],
        install: Callable[..., Awaitable[Path]] = installed,
    ) -> None:
        self._cache = cache
        self._say = say
        self._install = install
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[Path, asyncio.Task[str]] = {}
        self._of: dict[str, list[asyncio.Task[str]]] = {}
        for function, all_requirements in wanted.items():
            self._of[function] = [
                self._task(requirements)
                for requirements in all_requirements
                if not package_folder(requirements, cache).exists()
            ]

    async def settle(self, seconds: float) -> list[str]:
        """Waits for a while, and returns the functions whose packages are still on their way."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=seconds)
        return [
            function
            for function, tasks in self._of.items()
            if any(not task.done() for task in tasks)
        ]

    async def ready(self, function: str) -> str:
        """Waits for a function's packages, and returns the error if they cannot be installed."""
        for task in self._of.get(function, ()):
            if problem := await asyncio.shield(task):
                return problem
        return ""

    async def close(self) -> None:
        """Ends every installation that is still running."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _task(self, requirements: Requirements) -> asyncio.Task[str]:
        folder = package_folder(requirements, self._cache)
        if folder not in self._tasks:
            self._tasks[folder] = asyncio.ensure_future(self._run(requirements))
        return self._tasks[folder]

    async def _run(self, requirements: Requirements) -> str:
        async with self._turns:
            try:
                await self._install(requirements, cache=self._cache, say=self._say)
            except LocalError as problem:
                self._say(str(problem))
                return str(problem)
            return ""
