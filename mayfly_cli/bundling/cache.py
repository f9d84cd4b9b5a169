"""Finished folders, kept by the content of what they are made of.

SAM builds each function by itself, and several at the same time. The first one makes a folder; all
of them then get hard links to its files.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["Cache", "digest", "link", "settle"]

#: Every file's time, in seconds: 1980-01-02, the earliest day that a zip holds in all time zones.
#: Equal folders then make equal zips.
_TIME: Final = 315_619_200


class Cache:
    """A folder with finished folders. One process at a time works with it."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        """Takes the folder of the cache, and a clock that returns seconds since 1970."""
        self._folder = folder
        self._time = now

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Waits until no other build uses the cache, and keeps others out."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def generation(self, name: str, idle_seconds: float) -> str:
        """Returns a text that stays the same while it is asked for at least once in `idle_seconds`.

        It tells functions of one build, which follow one another, from those of the next build.
        """
        path = self._folder / f"{name}.generation"
        now = self._time()
        if path.exists() and 0 <= now - path.stat().st_mtime < idle_seconds:
            text = path.read_text(encoding="ascii")
        else:
            text = str(now)
            path.write_text(text, encoding="ascii")
        os.utime(path, (now, now))
        return text

    def made(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """Returns the folder of a kind with this key; `make` fills it if there is none.

        Deletes folders of this kind with other keys.
        """
        folder = self._folder / f"{kind}-{key}"
        if folder.exists():
            return folder
        for old in self._folder.iterdir():
            if old.name.rpartition("-")[0] == kind:
                shutil.rmtree(old)
        unfinished = self._folder / f"{kind}-unfinished"
        unfinished.mkdir()
        make(unfinished)
        unfinished.rename(folder)
        return folder


def digest(*parts: str | Path) -> str:
    """Returns a key for texts, files and folders. A folder counts with its names and contents."""
    hashed = hashlib.sha256()
    for part in parts:
        contents = _contents(part)
        hashed.update(f"{len(contents)} ".encode())
        for name, content in contents:
            hashed.update(f"{len(name)} {name} {len(content)} ".encode())
            hashed.update(content)
    return hashed.hexdigest()[:24]


def _contents(part: str | Path) -> list[tuple[str, bytes]]:
    if isinstance(part, str):
        return [("", part.encode())]
    if part.is_file():
        return [(part.name, part.read_bytes())]
    return [
        (str(path.relative_to(part)), path.read_bytes())
        for path in sorted(part.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def link(source: Path, target: Path) -> None:
    """Puts the files of a folder into another one: as hard links, or as copies if need be."""
    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # The target is on another file system.
        shutil.copy2(source, target)


def settle(folder: Path) -> None:
    """Gives all files the same time, and modes that let Lambda's user read them.

    They are read-only, since one file is in the folders of all functions. Programs stay executable.
    """
    for path in folder.rglob("*"):
        is_program = path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if path.is_dir() else 0o555 if is_program else 0o444)
        os.utime(path, (_TIME, _TIME))
