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
    position, mapping                       how far an event source mapping has read
    aged, stream                            the last record that a stream dropped for its age
    lost, mapping                           its stream dropped records that it had not read
    staged, file                            the new file that replaces an overwritten object
"""

import asyncio
import errno
import gc
import json
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

from mayfly_local.emulator.journal import Journal, Row, StateError
from mayfly_local.emulator.packed import dump, load

__all__ = ["Durable"]

Key = tuple[Any, ...]
#: Services whose settings are stored, by the emulator's own names. The settings of `dynamodb` and
#: `sqs` exclude items and messages.
_SERVICES: Final = ("cloudformation", "dynamodb", "iam", "s3", "sqs", "ssm")
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
#: Seconds after which an expired item is returned again, if it has not been deleted.
_AGAIN_SECONDS: Final = 60
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
        self._mappings: dict[str, str] = {}
        self._positions: dict[str, dict[str, Any]] = {}
        #: Mappings, or "*" for all, whose streams have lost records before they were read.
        self._lost: set[str] = set()
        self._aged: dict[str, str] = {}
        self._expiring: dict[str, str] = {}
        self._indexing: asyncio.Task[None] | None = None
        #: Items by the minute in which they expire. A renewed item is in several minutes; its own
        #: value decides.
        self._due: dict[int, set[tuple[str, Any, Any]]] = {}
        #: New files by the path of the overwritten object; the commit moves them there.
        self._staged: dict[str, str] = {}
        self._copying: Iterator[Row] | None = None
        self._copied = self._live = 0
        self._copy_above = _COPY_ABOVE
        #: Rows of one frame while the journal is copied, and seconds of copying between two
        #: responses.
        self.copy_rows, self.copy_seconds = _COPY_ROWS, _COPY_SECONDS
        #: Seconds for which records stay that every mapping has read: people look at them, and
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
        """Answers the runtime's requests about stream positions and expired items."""
        match what:
            case "mappings":
                return self._declare(arguments)
            case "read":
                self._read_to(arguments["mapping"], arguments["sequence_number"])
                return {}
            case "reported":
                self._lost.discard(arguments["mapping"])
                self.note(("lost", arguments["mapping"]), None)
                return {}
            case "expiring":
                self._index_expiring(arguments)
                return {}
            case "expired":
                return self._expired(arguments["before"], arguments["limit"])
        return None

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
                for stream in set(self._mappings.values()):
                    self._drop_read(stream)
            # The failure is shown on the terminal, and the changes stay noted.
            with suppress(OSError):
                self.commit()
            if self._journal is not None and self._journal.sync_error:
                text = (
                    f"the state in {self._journal.folder} is written, but could not be synced to "
                    f"the disk: {self._journal.sync_error}"
                )
                self._say({"warning": text})

    # ---- the start

    def _begin(self, port: int) -> None:
        from mayfly_local.emulator import contents, hooks
        from mayfly_local.emulator.old_state import OldState

        self._hooks, self._emulator = hooks, contents
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
            self._positions, self._lost, self._aged = saved.positions, set(saved.lost), saved.aged
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
        self._lost.add("*")  # That format had no streams.
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

    def _declare(self, mappings: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        """Sets the mappings, each with `stream` and with `starts_at` as Lambda names it.

        Returns how far each has read, and which missed records.
        """
        streams = {name: mapping["stream"] for name, mapping in mappings.items()}
        for gone in [
            name
            for name, position in self._positions.items()
            if streams.get(name) != position["stream"]
        ]:
            del self._positions[gone]
            self.note(("position", gone), None)
        self._mappings = streams
        if "*" in self._lost:
            self._lost.discard("*")
            self.note(("lost", "*"), None)
            for name in streams:
                self._note_lost(name)
        self._hooks.drop_aged_records()
        for stream, last in self._aged.items():
            self._note_missed(stream, last)
        for name, mapping in mappings.items():
            # It reads from now on, even if it starts reading later.
            if mapping["starts_at"] == "LATEST" and name not in self._positions:
                self._note_position(name, self._hooks.last_number(mapping["stream"]))
        read = {name: position["sequence_number"] for name, position in self._positions.items()}
        return {"read": read, "lost": sorted(self._lost & set(streams))}

    def _read_to(self, mapping: str, sequence_number: str) -> None:
        stream = self._mappings[mapping]
        self._note_position(mapping, sequence_number)
        self._drop_read(stream)

    def _drop_read(self, stream: str) -> None:
        """Drops records that every mapping has read a while ago.

        Of those that were read lately, the newest 250 stay.
        """
        readers = [name for name, arn in self._mappings.items() if arn == stream]
        if all(name in self._positions for name in readers):
            read = [self._positions[name]["sequence_number"] for name in readers]
            self._hooks.drop_records(
                self,
                stream,
                read,
                before=time.time() - self.read_records_seconds,
                most=_READ_RECORDS,
            )

    def _note_position(self, mapping: str, sequence_number: str) -> None:
        self._positions[mapping] = {
            "stream": self._mappings[mapping],
            "sequence_number": sequence_number,
        }
        self.note(("position", mapping), json.dumps(self._positions[mapping]).encode())

    def note_aged(self, stream: str | None, last: str) -> None:
        """Notes that a stream dropped its records up to a sequence number, because of their age.

        The records may be unread.
        """
        if stream is not None:
            self._aged[stream] = last
            self.note(("aged", stream), last.encode())
            self._note_missed(stream, last)

    def _note_missed(self, stream: str, last: str) -> None:
        for name, arn in self._mappings.items():
            if arn == stream and self._positions.get(name, {}).get("sequence_number", last) < last:
                self._note_lost(name)

    def _note_lost(self, mapping: str) -> None:
        self._lost.add(mapping)
        self.note(("lost", mapping), b"")

    def own_rows(self) -> Iterable[Row]:
        """Yields the rows of mappings."""
        yield from (
            (("position", name), json.dumps(position).encode())
            for name, position in list(self._positions.items())
        )
        yield from ((("lost", name), b"") for name in list(self._lost))
        yield from ((("aged", stream), last.encode()) for stream, last in list(self._aged.items()))

    # ---- expiry

    def _index_expiring(self, tables: Mapping[str, str]) -> None:
        """Indexes when the items of tables expire; `tables` gives the TTL attribute of each.

        Existing items are indexed in small steps.
        """
        if self._indexing is not None:
            self._indexing.cancel()
        self._expiring = dict(tables)
        self._due = {}
        self._indexing = asyncio.ensure_future(self._index_items())

    async def _index_items(self) -> None:
        for table, items in self._emulator.tables():
            if (attribute := self._expiring.get(table)) is None:
                continue
            for number, (pk, sk, data) in enumerate(items.rows()):
                self._note_expiry(table, attribute, pk, sk, load(data))
                if not number % 200:
                    await asyncio.sleep(0.01)

    def note_expiry(self, table: str, pk: Any, sk: Any, item: Mapping[str, Any]) -> None:
        """Notes when an item of a table expires."""
        if (attribute := self._expiring.get(table)) is not None:
            self._note_expiry(table, attribute, pk, sk, item)

    def _note_expiry(
        self, table: str, attribute: str, pk: Any, sk: Any, item: Mapping[str, Any]
    ) -> None:
        if (expires := _expiry(item, attribute)) is not None:
            self._due.setdefault(int(expires) // 60, set()).add((table, pk, sk))

    def _expired(self, before: int, limit: int) -> list[dict[str, Any]]:
        """Returns at most `limit` items that expired before a time: table and key.

        If an item is not deleted, it is returned again later.
        """
        expired: list[dict[str, Any]] = []
        again: list[tuple[str, Any, Any]] = []
        for minute in sorted(minute for minute in self._due if minute <= before // 60):
            places = self._due[minute]
            for place in list(places):
                if len(expired) == limit:
                    break
                item = self._emulator.item_of(*place)
                expires = (
                    None if item is None else _expiry(item[0], self._expiring.get(place[0], ""))
                )
                if item is not None and expires is not None and expires <= before:
                    expired.append({"table": place[0], "key": item[1]})
                    again.append(place)
                elif expires is not None and int(expires) // 60 == minute:
                    continue  # It expires later in this minute.
                places.discard(place)
            if not places:
                del self._due[minute]
        if again:
            self._due.setdefault((before + _AGAIN_SECONDS) // 60 + 1, set()).update(again)
        return expired


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


def _expiry(item: Mapping[str, Any], attribute: str) -> float | None:
    """Returns the TTL of an item in seconds since the epoch, or None if it is not a number."""
    try:
        return float(item[attribute]["N"])
    except (KeyError, ValueError, TypeError):
        return None
