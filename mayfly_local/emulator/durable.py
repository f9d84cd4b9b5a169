"""Stores the emulator's state durably.

Each change is noted as a row when it happens. The rows are written to the journal before the
response to the request starts.

    item, record, token, message ... --> noted rows --> one frame in the journal --> response

The emulator serves one request at a time on one event loop. When a response starts, the noted rows
are therefore complete. Without a journal (no --state) nothing is written, and the packed forms only
save memory. The kinds of rows, by the first part of their keys:

    item, account, region, table, pk, sk    an item's bytes
    record, account, region, table, n       the stream's n-th record
    horizon, account, region, table         the number of the first remaining record
    token, account, region, token           a transaction's token
    message, account, region, queue, id     a message with its receipt and visibility
    fifo, account, region, queue            a FIFO queue's sequence number
    dedup, account, region, queue, key      an entry of its deduplication
    service, name                           everything else of a service, in the emulator's JSON
    invocation, id                          an asynchronous invocation that is not done
    position, mapping                       how far an event source mapping has read
    aged, stream                            the last record that a stream dropped for its age
    lost, mapping                           its stream dropped records that it had not read
    staged, file                            the new file that replaces an overwritten object
"""

import asyncio
import errno
import gc
import os
import shutil
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mayfly_local.emulator.arrivals import Arrivals
from mayfly_local.emulator.expiry import ExpiryIndex
from mayfly_local.emulator.functions import Functions
from mayfly_local.emulator.invocations import Invocations
from mayfly_local.emulator.journal import Journal, Row, StateError
from mayfly_local.emulator.mappings import Mappings
from mayfly_local.emulator.outlook import of_queue
from mayfly_local.emulator.packed import dump
from mayfly_local.emulator.stacks import RunningStack

__all__ = ["Durable"]

Key = tuple[Any, ...]
#: Services whose settings are stored, by the emulator's own names. The settings of `dynamodb` and
#: `sqs` exclude items and messages.
_SERVICES: Final = (
    "cloudformation", "dynamodb", "eventbridge", "iam", "kinesis", "kms", "s3", "secretsmanager",
    "sns", "sqs", "ssm",
)  # fmt: skip
_TICK_SECONDS: Final = 1.0
_DROP_SECONDS: Final = 30.0
_READ_RECORDS_SECONDS: Final = 900.0
_READ_RECORDS: Final = 250
#: CloudFormation continues after its response. Settings are checked for this long after the last
#: call that may change them.
_UNSETTLED_SECONDS: Final = 60.0
#: The journal is copied when it exceeds this many times the live bytes of the last copy.
_COPY_FACTOR: Final = 2
_COPY_ABOVE: Final = 16 * 1024 * 1024
#: Approximate bytes of a row's key and frame.
_ROW_BYTES: Final = 120
#: Folder of new files that are to replace others.
_STAGED: Final = "staged"
_COPY_ROWS: Final = 100
_COPY_SECONDS: Final = 0.002
_FULL: Final = (
    "the state cannot be written to {folder}: {reason}. Nothing is acknowledged "
    "until it can be written; free some space there"
)


class Durable:
    """The state of this process's emulator."""

    def __init__(self, journal: Journal | None, say: Callable[[dict[str, Any]], None]) -> None:
        self._journal = journal
        self._say = say
        self._noted: dict[Key, bytes | None] = {}
        self._changed_messages: dict[Key, dict[str, Any]] = {}
        self._stale: set[str] = set()
        self._kept: dict[str, bytes] = {}
        self._unsettled_until = 0.0
        self.arrivals = Arrivals()
        self.functions = Functions()
        self.stack = RunningStack()
        self.invocations = Invocations(self.note, self.arrivals)
        self.mappings: Mappings
        self.expiry: ExpiryIndex
        #: New files by the path of the overwritten object; the commit moves them there.
        self._staged: dict[str, str] = {}
        self._copying: Iterator[Row] | None = None
        self._copied = self._live = 0
        self._copy_above = _COPY_ABOVE
        #: Rows of one frame while the journal is copied, and seconds of copying between two
        #: responses.
        self.copy_rows, self.copy_seconds = _COPY_ROWS, _COPY_SECONDS
        #: Seconds for which records stay after every mapping has read them. People look at them,
        #: and reports come late.
        self.read_records_seconds = _READ_RECORDS_SECONDS
        self._next_drop = 0.0
        self._is_failing = False
        self._failed_file: OSError | None = None
        self._ticking: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, settings: Mapping[str, Any], say: Callable[[dict[str, Any]], None]) -> "Durable":
        """Reads the state, if it is stored, and hooks into the emulator.

        Ends the process if the state cannot be used.
        """
        folder = Path(settings["state"]) if settings["state"] else None
        try:
            durable = cls(
                Journal(folder, lambda text: say({"said": text})) if folder else None, say
            )
            gc.disable()  # Millions of small objects, none of them garbage.
            durable._begin(int(settings["port"]))
            gc.enable()
            gc.freeze()
        except StateError as problem:
            say({"problem": str(problem)})
            raise SystemExit(1) from None
        except OSError as problem:
            say({"problem": f"the state in {folder} cannot be used: {problem.strerror or problem}"})
            raise SystemExit(1) from None
        return durable

    # ---- calls of the guard

    def commit(self) -> None:
        """Writes all changes since the last call as one frame.

        Raises OSError if the disk does not accept them. These rows stay noted, and the next call
        retries.
        """
        if self._journal is None:
            return
        if self._failed_file is not None:
            failed, self._failed_file = self._failed_file, None
            self._forget_staged()
            self._failing(failed)
            raise failed
        if self._stale:
            self._note_services()
        if self._noted or self._changed_messages:
            self._write(self._take())
            self._replace_staged()
        elif self._is_failing:
            self._write([])
        if self._copying is not None:
            self._copy_some()
        elif self._journal.size > self._copy_above:
            self.begin_copy()

    def serve(self, what: str, arguments: Any) -> Any:
        """Answers the runtime's requests: stream positions, expired items, invocations."""
        match what:
            case "mappings":
                return self.mappings.declare(arguments)
            case "read":
                self.mappings.read_to(arguments["mapping"], arguments["sequence_number"])
                return {}
            case "reported":
                self.mappings.forget_lost(arguments["mapping"])
                return {}
            case "expiring":
                self.expiry.set_attributes(arguments)
                return {}
            case "stopping":
                self.arrivals.close()
                return {}
            case "expired":
                return self.expiry.expired(arguments["before"], arguments["limit"])
            case "functions":
                self.functions.set(arguments)
                return {}
            case "stack":
                self.stack.set(arguments)
                return {}
            case "outlook":
                return self._outlook(**arguments)
        return self.invocations.serve(what, arguments)

    def _outlook(self, queues: list[str], streams: list[str], lag: float) -> dict[str, Any]:
        """Returns what waits in queues and streams, and as invocations.

        Wakes the requests that wait for it, since a clock that was moved does not. `expires` is the
        time at which the next items are to be deleted, `lag` seconds after they expire.
        """
        now = time.time()
        waiting = {}
        for queue in self._hooks.queues():
            if queue["name"] in queues:
                waiting[queue["name"]] = of_queue(queue, now)
                if waiting[queue["name"]]["visible"]:
                    self.arrivals.note(queue.scope)
        return {
            "queues": waiting,
            "streams": {stream: self._hooks.last_number(stream) for stream in streams},
            "invocations": self.invocations.outlook(now),
            "expires": self.expiry.next_after(now, lag),
        }

    async def newest_record(self, stream: str, *, known: str, seconds: float) -> str:
        """Returns the sequence number of a stream's newest record, when it is no longer `known`.

        After `seconds` it returns what there is.
        """
        ends = time.monotonic() + seconds
        while True:
            seen = self.arrivals.count(self._hooks.STREAMS)
            newest = str(self._hooks.last_number(stream))
            left = ends - time.monotonic()
            if newest != known or left <= 0 or self.arrivals.is_closed:
                return newest
            await self.arrivals.wait(self._hooks.STREAMS, seen, left)

    async def due_invocations(self, *, holding: list[str], seconds: float) -> list[dict[str, Any]]:
        """Returns the invocations that are due and not held, as soon as there are some."""
        return await self.invocations.due(holding, seconds=seconds)

    async def started(self) -> None:
        """Starts checking for changes between requests."""
        self._ticking = asyncio.ensure_future(self._tick())
        self._ticking.add_done_callback(_end_process_if_failed)

    def stopped(self) -> None:
        """Writes the remaining changes, and marks the stop as clean."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._journal is not None:
            self._stale.update(_SERVICES)
            # The failure was reported already, and everything acknowledged is written.
            with suppress(OSError):
                self.commit()
            self._journal.close()

    # ---- changes

    def note(self, key: Key, value: bytes | None) -> None:
        """Notes a row; a later row with the same key replaces it."""
        if self._journal is not None:
            self._noted[key] = value

    def note_message(self, key: Key, message: dict[str, Any] | None) -> None:
        """Notes a message in its state at the end of the request, or None if it is deleted."""
        if self._journal is None:
            return
        if message is None:
            self._changed_messages.pop(key, None)
            self._noted[key] = None
        else:
            self._noted.pop(key, None)
            self._changed_messages[key] = message

    def note_service(self, name: str) -> None:
        """Notes that a service's settings may have changed."""
        self._stale.add(name)
        if name == "cloudformation":  # CloudFormation continues after its response.
            self._unsettled_until = time.monotonic() + _UNSETTLED_SECONDS

    def note_failed_file(self, problem: OSError) -> None:
        """Notes that an object of a bucket could not be written.

        The current request then fails.
        """
        self._failed_file = problem

    def staging(self, path: str) -> str:
        """Returns the path of a new file that replaces `path` at the next commit."""
        assert self._journal is not None
        return str(
            self._journal.folder / _STAGED / f"{uuid.uuid4().hex}-{os.path.basename(path)[-40:]}"
        )

    def note_staged(self, path: str, staged: str) -> None:
        """Notes the new file that replaces another one at the next commit."""
        self._staged[path] = staged
        self.note(("staged", path), staged.encode())

    def _replace_staged(self) -> None:
        staged, self._staged = self._staged, {}
        for path, new in staged.items():
            os.replace(new, path)
            self.note_file(path)
            self.note(("staged", path), None)

    def _forget_staged(self) -> None:
        staged, self._staged = self._staged, {}
        for path, new in staged.items():
            self._noted.pop(("staged", path), None)
            with suppress(OSError):
                os.unlink(new)

    def note_file(self, path: str) -> None:
        """Notes an object's file, which is synced with the journal."""
        if self._journal is not None:
            self._journal.files.add(path)

    @property
    def is_failing(self) -> bool:
        """True if the last write failed."""
        return self._is_failing

    def _take(self) -> list[Row]:
        # Swapped before reading, because CloudFormation's threads note changes, too.
        noted, self._noted = self._noted, {}
        messages, self._changed_messages = self._changed_messages, {}
        return [*noted.items(), *((key, dump(message)) for key, message in messages.items())]

    def _write(self, rows: list[Row]) -> None:
        assert self._journal is not None
        try:
            self._journal.append(rows)
        except OSError as problem:
            for key, value in rows:
                if key not in self._changed_messages:
                    self._noted.setdefault(key, value)
            self._failing(problem)
            raise
        if self._is_failing:
            self._is_failing = False
            self._say({"said": "the state is written again"})

    def _failing(self, problem: OSError) -> None:
        assert self._journal is not None
        if not self._is_failing:
            self._is_failing = True
            self._say(
                {"warning": _FULL.format(folder=self._journal.folder, reason=problem.strerror)}
            )

    def _note_services(self) -> None:
        if "cloudformation" in self._stale:
            # A stack and its resources are written together, when all are created.
            if not self._emulator.is_settled():
                return
            self._stale.update(_SERVICES)
        stale, self._stale = self._stale, set()
        for name in stale:
            data = self._emulator.settings_of(name)
            if data != self._kept.get(name):
                self._kept[name] = data
                self.note(("service", name), data)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if time.monotonic() < self._unsettled_until:
                self._stale.update(_SERVICES)
            if time.monotonic() > self._next_drop:
                self._next_drop = time.monotonic() + _DROP_SECONDS
                self.mappings.drop_read()
            # The failure is shown on the terminal, and the changes stay noted.
            with suppress(OSError):
                self.commit()
            if self._journal is not None and self._journal.sync_error:
                text = (
                    f"the state in {self._journal.folder} is written, but could not be synced to "
                    f"the disk: {self._journal.sync_error}"
                )
                self._say({"warning": text})

    def _drop_read(self, stream: str, read: list[str]) -> None:
        before = time.time() - self.read_records_seconds
        self._hooks.drop_records(self, stream, read, before=before, most=_READ_RECORDS)

    # ---- the start

    def _begin(self, port: int) -> None:
        from mayfly_local.emulator import contents, hooks
        from mayfly_local.emulator.old_state import OldState

        self._hooks, self._emulator = hooks, contents
        self.expiry = ExpiryIndex(contents.tables, contents.item_of)
        self.mappings = Mappings(
            self.note,
            last_number=hooks.last_number,
            drop_aged=hooks.drop_aged_records,
            drop_read=self._drop_read,
        )
        hooks.hook(self)
        if self._journal is None:
            return
        (self._journal.folder / _STAGED).mkdir(exist_ok=True)
        old = OldState.find(self._journal.folder) if self._journal.is_new else None
        if old is not None:
            self._take_over(old, port)
        else:
            saved = contents.Found()
            story = self._journal.read(saved.take)
            OldState.settle(self._journal.folder, story.taken_over)
            self._kept = saved.restore(self, port)
            self.invocations.restore(saved.invocations)
            self.mappings.restore(saved.positions, saved.lost, saved.aged)
            self._noted.clear()  # The rows that were just read are written already.
            self._changed_messages.clear()
            self._finish_staged(saved.staged)
            self._tell(story)
        self._settle_copy(_bytes_of(self._emulator.rows(self)))

    def _finish_staged(self, staged: Mapping[str, bytes]) -> None:
        """Moves new files into place if their commit was written, and deletes the others."""
        assert self._journal is not None
        for path, new in staged.items():
            with suppress(FileNotFoundError):  # It was moved before the kill.
                os.replace(new.decode(), path)
            self.note(("staged", path), None)
        for left in (self._journal.folder / _STAGED).iterdir():
            left.unlink()
        if staged:
            self._hooks.load_objects()

    def _take_over(self, old: Any, port: int) -> None:
        """Converts a folder of the format before 0.2.0 to a journal; moves its files aside."""
        assert self._journal is not None
        old.restore(self, port)
        self.mappings.lose_all()  # That format had no streams.
        self._noted.clear()
        self._changed_messages.clear()
        self._kept = {name: self._emulator.settings_of(name) for name in _SERVICES}
        settings = [(("service", name), data) for name, data in self._kept.items()]
        self._journal.make([*settings, *self._emulator.rows(self)], taken_over=old.names)
        old.put_aside()
        text = (
            f"the state in {self._journal.folder} has been taken over from an older version, "
            f"whose files are kept in {old.aside}"
        )
        self._say({"said": text})

    def _tell(self, story: Any) -> None:
        assert self._journal is not None
        findings = []
        if story.lost_power:
            findings.append(
                "the machine went down while the stack ran; changes of the last second may be "
                "missing"
            )
        elif not story.was_clean:
            findings.append("the last run was killed; all that could be read is here")
        if story.cut:
            findings.append(
                f"{story.cut} bytes at the end were not a complete write and were removed: a kill "
                "interrupted the write, or the file was damaged"
            )
        if findings:
            self._say({"said": f"the state in {self._journal.folder}: {'; '.join(findings)}"})

    # ---- copying the journal

    def _settle_copy(self, live: int) -> None:
        """Sets the size at which the journal is copied: twice the `live` bytes, and some more."""
        self._live = live
        self._copy_above = _COPY_FACTOR * self._live + _COPY_ABOVE

    def begin_copy(self) -> None:
        """Starts writing all live rows to the next file."""
        assert self._journal is not None
        try:
            if shutil.disk_usage(self._journal.folder).free < 2 * self._live + _COPY_ABOVE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._journal.begin_copy()
        except OSError as problem:
            self._postpone_copy(problem)
            return
        self._copying, self._copied = self._emulator.rows(self), 0

    def _postpone_copy(self, problem: OSError) -> None:
        """Continues with the current files, and tries again when they have grown."""
        assert self._journal is not None
        self._copying, self._copy_above = None, self._journal.size + max(_COPY_ABOVE, self._live)
        text = (
            f"the state in {self._journal.folder} keeps growing, because there is no room to "
            f"compact it: {problem.strerror}"
        )
        self._say({"warning": text})

    def _copy_some(self) -> None:
        """Copies live rows for a short time.

        If a row changes meanwhile, the change itself is written to the new file.
        """
        assert self._journal is not None
        assert self._copying is not None
        until = time.monotonic() + self.copy_seconds
        try:
            while True:
                if rows := list(islice(self._copying, self.copy_rows)):
                    self._journal.append(rows)
                    self._copied += _bytes_of(rows)
                    if time.monotonic() >= until:
                        return
                    continue
                self._journal.append(
                    [(("service", name), data) for name, data in self._kept.items()]
                )
                self._journal.end_copy()
                self._copying = None
                self._settle_copy(self._copied)
                return
        except OSError as problem:
            self._postpone_copy(problem)

    # ---- streams


def _end_process_if_failed(ticking: "asyncio.Task[None]") -> None:
    """Ends the process if the check between responses has failed.

    Such an emulator would no longer write those changes. The supervisor restarts it from its
    journal.
    """
    if not ticking.cancelled() and (problem := ticking.exception()) is not None:
        traceback.print_exception(problem)
        os._exit(70)


def _bytes_of(rows: Iterable[Row]) -> int:
    return sum(len(value or b"") + _ROW_BYTES for _, value in rows)
