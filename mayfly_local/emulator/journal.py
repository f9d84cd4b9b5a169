"""A journal of rows in files.

A process may die at any instant: each change is appended before it is acknowledged.

    journal-1.log   header, then frames: magic, length, CRC-32, rows
    journal-2.log   the next file, while the live rows of the last one are copied to it

An incomplete frame is ignored, so either all rows of a frame exist or none. A completed write is in
the page cache: only a power cut or a kernel crash can lose it. fdatasync in a thread limits that
loss to about a second. The reasons are in docs/decisions/0015.
"""

import contextlib
import errno
import fcntl
import json
import os
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import psutil

from mayfly_local.emulator.packed import dump, load

__all__ = ["Journal", "Row", "StateError", "Story"]

#: A key, whose first part is its kind, and the value's bytes, or None if the row is deleted.
Row = tuple[tuple[Any, ...], "bytes | None"]

#: Writes bytes to a file at a position, and returns how many were written.
Write = Callable[[int, bytes, int], int]

_VERSION: Final = 1
_TITLE: Final = b"mayfly-state "
_HEADER: Final = _TITLE + b"%d\n"
_MAGIC: Final = b"\xaaMf\x1e"
_FRAME: Final = struct.Struct("<4sII")
#: The kind of rows about the journal itself.
_MARK: Final = "journal"
_SYNC_SECONDS: Final = 1.0
#: Rows of one frame when many are written.
_BATCH: Final = 100
#: Seconds that a start waits for the process that holds the folder, which may be about to die.
_LOCK_SECONDS: Final = 5.0
_PROGRESS_BYTES: Final = 100 * 1024 * 1024


class StateError(Exception):
    """The state cannot be used; its files are unchanged. The text is for the terminal."""


@dataclass
class Story:
    """Findings of reading the files.

    `lost_power` means that the machine went down while they were written.
    """

    rows: int = 0
    bytes: int = 0
    was_clean: bool = True
    lost_power: bool = False
    cut: int = 0
    #: Services whose files of the old format were converted to these.
    taken_over: set[str] = field(default_factory=set)


class Journal:
    """The files of one folder, locked by this process."""

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        *,
        lock_seconds: float = _LOCK_SECONDS,
        write: Write = os.pwrite,
    ) -> None:
        """Locks the folder.

        Raises StateError if another process uses the folder, and OSError if the folder cannot be
        used.
        """
        self.folder = folder
        self._write = write
        self._say = say
        self._lock = _locked(folder, lock_seconds)
        self._file = -1
        self._path = folder
        self._size = 0
        self._synced = 0
        self._marked = 0
        self._is_marked = True
        self._older: list[Path] = []
        self._older_size = 0
        #: Other files that were written, and must be synced as well.
        self.files: set[str] = set()
        self._sync_error: str | None = None
        self._stopping = threading.Event()
        self._syncing = threading.Lock()
        self._thread = threading.Thread(target=self._sync_for_ever, name="journal", daemon=True)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self._size + self._older_size

    @property
    def is_new(self) -> bool:
        """True if the folder has no journal files yet."""
        return not _files(self.folder)

    def read(self, take: Callable[[tuple[Any, ...], bytes | None], None]) -> Story:
        """Gives every row to `take`, oldest first, and opens the newest file for appending.

        An incomplete frame at the end is cut. Raises StateError for anything else that cannot be
        read, and unlocks the folder.
        """
        try:
            story = self._read(take)
        except StateError:
            os.close(self._lock)
            raise
        self._open()
        self._start()
        return story

    def make(self, rows: Iterable[Row], *, taken_over: list[str]) -> None:
        """Creates the first file with these rows, or not at all, and opens it. Raises OSError."""
        self._path = self.folder / "journal.new"
        self._path.unlink(missing_ok=True)
        self._open()
        self.append([((_MARK, "taken over"), json.dumps(taken_over).encode())])
        rows = iter(rows)
        while batch := list(islice(rows, _BATCH)):
            self.append(batch)
        os.fsync(self._file)
        self._path = self._path.rename(self.folder / "journal-1.log")
        _sync_folder(self.folder)
        self._start()

    def _start(self) -> None:
        self._is_marked = False
        # It is written with the first rows that the disk accepts.
        with contextlib.suppress(OSError):
            self.append([])
        self._thread.start()

    def _read(self, take: Callable[[tuple[Any, ...], bytes | None], None]) -> Story:
        story, boot = Story(), ""
        paths = _files(self.folder)
        for path in paths:
            is_last = path is paths[-1]
            end = path.stat().st_size
            position = _after_header(path)
            with path.open("rb", buffering=1024 * 1024) as file:
                file.seek(position)
                for rows, after in _frames(file, position):
                    position = after
                    for key, value in rows:
                        if key[0] != _MARK:
                            take(key, value)
                        elif key[1] == "start":
                            boot, story.was_clean = json.loads(value or b"{}")["boot"], False
                        elif key[1] == "clean":
                            story.was_clean = True
                        elif key[1] == "taken over":
                            story.taken_over = set(json.loads(value or b"[]"))
                    story.rows += len(rows)
                    if position // _PROGRESS_BYTES > story.bytes // _PROGRESS_BYTES:
                        self._say(
                            f"reading the state: {position // 1_000_000} of {end // 1_000_000} MB"
                        )
                    story.bytes = position
            if position < end:
                story.lost_power = boot not in ("", _boot())
                _check_tail(path, position, may_have_holes=story.lost_power, is_last=is_last)
                story.cut = end - position
                os.truncate(path, position)
        story.lost_power = not story.was_clean and boot not in ("", _boot())
        self._older = paths[:-1]
        self._older_size = sum(path.stat().st_size for path in self._older)
        self._path = paths[-1] if paths else self.folder / "journal-1.log"
        return story

    def append(self, rows: Iterable[Row]) -> None:
        """Writes rows as one frame.

        Raises OSError if the disk did not accept it; the journal is then unchanged.
        """
        rows = list(rows)
        is_marked = self._is_marked
        if not is_marked:
            rows.insert(0, self._start_mark())
        if self._synced != self._marked:
            rows.append(((_MARK, "synced"), str(self._synced).encode()))
        payload = dump(rows)
        frame = _FRAME.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload
        written = 0
        try:
            while written < len(frame):
                count = self._write(
                    self._file, frame[written:] if written else frame, self._size + written
                )
                if not count:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written += count
        except OSError:
            if written:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._size)
            raise
        self._size += len(frame)
        self._marked, self._is_marked = self._synced, True

    def begin_copy(self) -> None:
        """Opens the next file, to which rows are written from now on.

        The caller then copies the live rows. Raises OSError.
        """
        _sync(self._file)
        before, older = self._path, [*self._older, self._path]
        kept = self._file, self._size, self._synced, self._marked
        self._path = self.folder / f"journal-{_number(before) + 1}.log"
        try:
            with self._syncing:
                self._open()
        except OSError:
            self._file, self._size, self._synced, self._marked = kept
            self._path.unlink(missing_ok=True)
            self._path = before
            raise
        self._older, self._older_size = older, self._older_size + kept[1]
        os.close(kept[0])
        self._is_marked = False

    @staticmethod
    def _start_mark() -> Row:
        return (_MARK, "start"), json.dumps(
            {"boot": _boot(), "at": time.time(), "pid": os.getpid()}
        ).encode()

    def end_copy(self) -> None:
        """Deletes the older files after all live rows were copied to the newest.

        Raises OSError.
        """
        os.fsync(self._file)
        _sync_folder(self.folder)
        for path in self._older:
            path.unlink(missing_ok=True)
        self._older, self._older_size = [], 0

    def close(self) -> None:
        """Marks the stop as clean, and unlocks the folder."""
        self._stopping.set()
        self._thread.join(timeout=30)
        with contextlib.suppress(OSError):
            self.append([((_MARK, "clean"), b"")])
            os.fsync(self._file)
        os.close(self._file)
        self._file = -1
        os.close(self._lock)

    @property
    def sync_error(self) -> str | None:
        """The reason why the last fdatasync failed, or None if it succeeded."""
        return self._sync_error

    def _open(self) -> None:
        if not self._path.exists():
            self._create(self._path)
        self._file = os.open(self._path, os.O_RDWR)
        self._size = os.fstat(self._file).st_size
        self._synced = self._marked = 0

    def _create(self, path: Path) -> None:
        """Creates a file with its whole header, or no file.

        A file without a whole header is therefore always a damaged one.
        """
        unfinished = self.folder / "journal.unfinished"
        file = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            header = _HEADER % _VERSION
            if self._write(file, header, 0) != len(header):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        finally:
            os.close(file)
        unfinished.rename(path)
        _sync_folder(self.folder)

    def _sync_for_ever(self) -> None:
        while not self._stopping.wait(_SYNC_SECONDS):
            with self._syncing:
                self._sync_files()
                file, size = self._file, self._size
                if size == self._synced:
                    continue
                try:
                    _sync(file)
                except OSError as problem:
                    self._sync_error = problem.strerror
                    continue
                self._synced, self._sync_error = size, None

    def _sync_files(self) -> None:
        failed: set[str] = set()
        while self.files:  # One by one, because the event loop adds to them meanwhile.
            name = self.files.pop()
            try:
                handle = os.open(name, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except FileNotFoundError:  # The file was deleted meanwhile.
                continue
            except OSError as problem:
                failed.add(name)
                self._sync_error = problem.strerror
        self.files.update(failed)


def _sync(file: int) -> None:
    os.fdatasync(file) if hasattr(os, "fdatasync") else os.fsync(file)


def _locked(folder: Path, seconds: float) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise StateError(
                f"another stack uses the state in {folder} (process {holder}); stop it, or give "
                "this one another folder with --state DIR"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock


def _files(folder: Path) -> list[Path]:
    return sorted(
        (path for path in folder.glob("journal-*.log") if path.stem.partition("-")[2].isdigit()),
        key=_number,
    )


def _number(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _after_header(path: Path) -> int:
    """Returns the offset of the first frame.

    Raises StateError if the file does not have this format, or has a newer one.
    """
    with path.open("rb") as file:
        line = file.readline(64)
    version = line.removeprefix(_TITLE).strip()
    if not line.startswith(_TITLE) or not version.isdigit() or not line.endswith(b"\n"):
        raise StateError(
            f"{path} is not a state file of Mayfly's, or is damaged at its beginning; the file "
            f"is unchanged: {_ADVICE}"
        )
    if int(version) > _VERSION:
        raise StateError(
            f"{path} was written by a newer Mayfly (format {int(version)}, this one reads "
            f"{_VERSION}); upgrade, or {_ADVICE}"
        )
    return len(line)


_ADVICE: Final = "move its folder away, or give another one with --state"


def _frames(file: Any, position: int) -> Iterator[tuple[list[Row], int]]:
    """Yields the rows of each frame, and the frame's end.

    It stops before the first frame that is incomplete or damaged.
    """
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        magic, length, checksum = _FRAME.unpack(head)
        if magic != _MAGIC:
            return
        payload = file.read(length)
        if len(payload) != length or zlib.crc32(payload) != checksum:
            return
        position += _FRAME.size + length
        yield load(payload), position


def _check_tail(path: Path, position: int, *, may_have_holes: bool, is_last: bool) -> None:
    """Raises StateError unless the bytes from `position` on are the end of an interrupted write.

    After a power cut, the disk may have later pages of unsynced data without the earlier ones.
    """
    data = path.read_bytes()
    at = data.find(_MAGIC, position + 1)
    while is_last and at >= 0:
        end = 1
        for rows, after in _frames(_Bytes(memoryview(data)[at:]), 0):
            synced = next(
                (int(value or b"0") for key, value in rows if key[:2] == (_MARK, "synced")), 0
            )
            is_last = is_last and may_have_holes and synced <= position
            end = after
        at = data.find(_MAGIC, at + end)
    if not is_last:
        raise StateError(
            f"{path} is damaged at byte {position}, with readable rows behind it; the file is "
            f"unchanged: {_ADVICE}"
        )


class _Bytes:
    """Bytes with the `read` of a file."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def read(self, count: int) -> bytes:
        part = bytes(self._data[self._position : self._position + count])
        self._position += len(part)
        return part


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _boot() -> str:
    """Returns an id of the machine's current run, which changes with each boot."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return str(round(psutil.boot_time() / 60))
