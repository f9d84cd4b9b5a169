"""Hot reload: when code is saved, the next invocation of its functions runs the new code."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from watchfiles import Change, DefaultFilter, awatch

from mayfly_local.application.model import Application
from mayfly_local.compute.inotify import Inotify
from mayfly_local.compute.pool import Pool

__all__ = ["Reload"]

#: Files of packages, which are installed at the start only.
_PACKAGES: Final = {"pyproject.toml", "requirements.txt", "uv.lock"}
#: Seconds without a change, after which the terminal shows what was reloaded.
_QUIET_SECONDS: Final = 0.1


class Reload:
    """Watches the folders of all functions, libraries and layers, and what needs a restart.

    `fixed` are the template and archives, which are read at the start only. All paths are resolved.
    On Linux, `check` finds every change that was saved before its call. On other systems a change
    is noticed some hundredths of a second later. `bytecode` is the folder of the functions'
    byte-code.
    """

    def __init__(
        self,
        application: Application,
        fixed: Sequence[Path],
        pools: Mapping[str, Pool],
        say: Callable[[str], None],
        bytecode: Path,
    ) -> None:
        self._fixed = list(fixed)
        self._pools = pools
        self._say = say
        self._bytecode = bytecode
        self._users: dict[Path, set[str]] = {}
        self._reloaded: set[str] = set()
        self._ends: set[asyncio.Future[None]] = set()
        self._inotify: Inotify | None = None
        for name, function in application.functions.items():
            for folder in (function.code, *function.libraries, *function.layers):
                if folder is not None:
                    self._users.setdefault(folder, set()).add(name)

    async def run(self) -> None:
        """Follows changes until it is cancelled."""
        try:
            async for changed in self._changes():
                self._apply(changed)
        except OSError as problem:
            self._say(
                f"saved changes are not noticed, because the system cannot watch the code "
                f"({problem.strerror}): start again to apply them"
            )

    def check(self) -> None:
        """Applies every change that was saved before now, on systems that tell at once."""
        if self._inotify is not None and (changed := self._inotify.read()):
            self._apply(changed)

    async def _changes(self) -> AsyncIterator[set[Path]]:
        if sys.platform != "linux":
            watched = awatch(
                *self._users, *self._fixed, watch_filter=_Saved(), debounce=100, step=20
            )
            async for changes in watched:
                yield {Path(path) for _, path in changes}
            return
        saved = _Saved()
        inotify = Inotify(self._users, self._fixed, lambda path: saved(Change.modified, path))
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(inotify.descriptor, readable.set)
        self._inotify = inotify
        try:
            while True:
                await readable.wait()
                readable.clear()
                yield inotify.read()
        finally:
            self._inotify = None
            loop.remove_reader(inotify.descriptor)
            inotify.close()

    def _apply(self, changed: set[Path]) -> None:
        for path in sorted(changed):
            if path in self._fixed or path.name in _PACKAGES:
                self._say(f"{path.name} has changed: stop and start again to apply it")
        names = {
            name
            for folder, users in self._users.items()
            if any(folder in path.parents for path in changed)
            for name in users
        }
        for path in changed:
            for compiled in _byte_code(path, self._bytecode):
                compiled.unlink(missing_ok=True)
        for name in names:
            self._end(self._pools[name].outdate())
        if names and not self._reloaded:
            asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._announce)
        self._reloaded |= names

    def _announce(self) -> None:
        self._say(f"reloaded {', '.join(sorted(self._reloaded))}")
        self._reloaded.clear()

    def _end(self, ending: Awaitable[None]) -> None:
        task = asyncio.ensure_future(ending)
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)


def _byte_code(source: Path, cache: Path) -> list[Path]:
    """Returns where Python keeps the byte-code of a module, with a folder of its own or without.

    Python takes byte-code as current if the source has the same size and second of its last change.
    A second save within one second can have both: https://peps.python.org/pep-0552/
    """
    if source.suffix != ".py":
        return []
    name = f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    return [source.parent / "__pycache__" / name, cache / source.parent.relative_to("/") / name]


class _Saved(DefaultFilter):
    """Passes the files that people save, and not the files that tools write."""

    def __call__(self, change: Change, path: str) -> bool:
        return (
            super().__call__(change, path)
            and not path.endswith((".pyc", "~"))
            and "/.mayfly/" not in f"{path}/"
        )
