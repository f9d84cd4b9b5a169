"""Changes below folders, as the kernel of Linux reports them: at once, and in order.

A change that was made before a request arrived is therefore known when the request is served. The
kernel's report: https://man7.org/linux/man-pages/man7/inotify.7.html
"""

import contextlib
import ctypes
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

__all__ = ["Inotify"]

# linux/inotify.h
_CLOSE_WRITE: Final = 0x8
_MOVED_FROM: Final = 0x40
_MOVED_TO: Final = 0x80
_CREATE: Final = 0x100
_DELETE: Final = 0x200
_OVERFLOW: Final = 0x4000
_IS_DIRECTORY: Final = 0x40000000
#: A file that is being written is reported when it is closed. Folders and links have no such end.
_WATCHED: Final = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_EVENT: Final = struct.Struct("iIII")
_BUFFER: Final = 256 * 1024


class Inotify:
    """Watches folders with all that is below them, and single files.

    `is_watched` may refuse paths below the folders. Raises OSError if the system has no watches
    left.
    """

    def __init__(
        self, folders: Iterable[Path], files: Iterable[Path], is_watched: Callable[[str], bool]
    ) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._is_watched = is_watched
        self._folders: dict[int, str] = {}
        self._files = {str(file) for file in files}
        #: Folders that are watched for single files in them.
        self._shallow: set[int] = set()
        self.descriptor = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "")
        try:
            for file in self._files:
                self._shallow.add(self._watch(os.path.dirname(file)))
            for folder in folders:
                self._add(str(folder))
        except OSError:
            self.close()
            raise

    def read(self) -> set[Path]:
        """Returns the paths that have changed since the last call, without waiting."""
        changed: set[Path] = set()
        while True:
            try:
                report = os.read(self.descriptor, _BUFFER)
            except BlockingIOError:
                return changed
            changed |= self._paths(report)

    def close(self) -> None:
        """Ends the watch."""
        os.close(self.descriptor)

    def _paths(self, report: bytes) -> set[Path]:
        paths, position = set(), 0
        while position < len(report):
            watch, mask, _, length = _EVENT.unpack_from(report, position)
            start = position + _EVENT.size
            name = os.fsdecode(report[start : start + length].rstrip(b"\0"))
            position = start + length
            if mask & _OVERFLOW:  # Any path may have changed.
                paths |= {Path(folder, "?") for folder in self._folders.values()}
                continue
            path = f"{self._folders.get(watch, '')}/{name}"
            if path in self._files:
                paths.add(Path(path))
                continue
            if watch in self._shallow or not self._is_watched(path):
                continue
            if mask & _IS_DIRECTORY and mask & (_CREATE | _MOVED_TO):
                self._add(path)
            elif mask & _CREATE and not os.path.islink(path):
                continue
            paths.add(Path(path))
        return paths

    def _add(self, top: str) -> None:
        for folder, names, _ in os.walk(top):
            names[:] = [name for name in names if self._is_watched(f"{folder}/{name}")]
            with contextlib.suppress(FileNotFoundError):  # It was deleted a moment ago.
                self._shallow.discard(self._watch(folder))

    def _watch(self, folder: str) -> int:
        number = self._checked(
            self._libc.inotify_add_watch(
                self.descriptor, os.fsencode(folder), ctypes.c_uint32(_WATCHED)
            ),
            folder,
        )
        self._folders[number] = folder
        return number

    @staticmethod
    def _checked(result: int, what: str) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), what)
        return result
