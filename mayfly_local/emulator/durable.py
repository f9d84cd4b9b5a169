"""Keeps the emulator's state: what changes is noted where it changes, and written to the journal
before the answer that tells of it.

    item, record, token, message ... --> noted rows --> one frame in the journal --> the answer goes out

The emulator serves one request after another on one event loop, so that what was noted when an
answer is about to start is complete. Without a journal (no --state) nothing is written, and the
packed forms only save memory. Rows, by the first part of their keys:

    item, account, region, table, pk, sk    an item's bytes
    record, account, region, table, n       the stream's n-th record
    horizon, account, region, table         the first record that is still there
    token, account, region, token           a transaction's token
    message, account, region, queue, id     a message with its receipt and visibility
    fifo, account, region, queue            a FIFO queue's sequence number
    dedup, account, region, queue, key      an entry of its deduplication
    service, name                           everything else of a service, in the emulator's own JSON
    position, mapping                       how far an event source mapping has read
    aged, stream                            the last record that a stream dropped for its age
    lost, mapping                           its stream dropped records that it had not read
    staged, file                            the file that takes its place: an object that was overwritten
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
#: Services with settings to keep, by the emulator's own names; `dynamodb` and `sqs` without their
#: items and messages.
_SERVICES: Final = ("cloudformation", "dynamodb", "iam", "s3", "sqs", "ssm")
_TICK_SECONDS: Final = 1.0
_DROP_SECONDS: Final = 30.0
_READ_RECORDS_SECONDS: Final = 900.0
_READ_RECORDS: Final = 250
#: CloudFormation works on after its answer; this long after the last call that may change settings
#: they are looked at.
_UNSETTLED_SECONDS: Final = 60.0
#: The journal is copied when it is this much larger than what counted when it was copied last.
_COPY_FACTOR: Final = 2
_COPY_ABOVE: Final = 16 * 1024 * 1024
#: About what a row's key and its frame need.
_ROW_BYTES: Final = 120
#: Where files wait that take the place of others.
_STAGED: Final = "staged"
_COPY_ROWS: Final = 100
_COPY_SECONDS: Final = 0.002
#: When an expired item is given out again, if it has not been deleted meanwhile.
_AGAIN_SECONDS: Final = 60
_FULL: Final = (
    "the state cannot be written to {folder}: {reason}. Nothing is acknowledged "
    "until it can; free some space there"
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
        #: Items by the minute in which they expire. A renewed item stands in several; its own value
        #: decides.
        self._due: dict[int, set[tuple[str, Any, Any]]] = {}
        #: Files of objects that were overwritten, each with the one that takes its place at the
        #: commit.
        self._staged: dict[str, str] = {}
        self._copying: Iterator[Row] | None = None
        self._copied = self._live = 0
        self._copy_above = _COPY_ABOVE
        #: Rows of one frame while the journal is copied, and seconds of copying between two
        #: answers.
        self.copy_rows, self.copy_seconds = _COPY_ROWS, _COPY_SECONDS
        #: Seconds for which records stay that every mapping has read: people look at them, and
        #: reports come late.
        self.read_records_seconds = _READ_RECORDS_SECONDS
        self._next_drop = 0.0
        self._is_failing = False
        self._failed_file: OSError | None = None
        self._ticking: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, settings: Mapping[str, Any], say: Callable[[dict[str, Any]], None]) -> "Durable":
        """Reads the state, if it is kept, and hooks into the emulator.

        Ends the process for state that cannot be used.
        """
        folder = Path(settings["state"]) if settings["state"] else None
        try:
            durable = cls(
                Journal(folder, lambda text: say({"said": text})) if folder else None, say
            )
            gc.disable()  # millions of small objects, none of them garbage
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

    # ---- what the guard asks

    def commit(self) -> None:
        """Writes what has changed since the last call as one frame. Raises OSError if the disk does
        not take it.

        Rows that were not written stay noted; the next call retries.
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

    def serve(self, what: str, asked: Any) -> Any:
        """Answers the runtime's questions on stream positions and expired items."""
        match what:
            case "mappings":
                return self._declare(asked)
            case "read":
                self._read_to(asked["mapping"], asked["sequence_number"])
                return {}
            case "reported":
                self._lost.discard(asked["mapping"])
                self.note(("lost", asked["mapping"]), None)
                return {}
            case "expiring":
                self._index_expiring(asked)
                return {}
            case "expired":
                return self._expired(asked["before"], asked["limit"])
        return None

    async def started(self) -> None:
        """Begins to look at what changes between requests."""
        self._ticking = asyncio.ensure_future(self._tick())
        self._ticking.add_done_callback(_end_process_if_failed)

    def stopped(self) -> None:
        """Writes what is left, and that the stop was clean."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._journal is not None:
            self._stale.update(_SERVICES)
            with suppress(OSError):  # told already; what was acknowledged is written
                self.commit()
            self._journal.close()

    # ---- changes

    def note(self, key: Key, value: bytes | None) -> None:
        """Takes note of a row; of several with one key the last counts."""
        if self._journal is not None:
            self._noted[key] = value

    def note_message(self, key: Key, message: dict[str, Any] | None) -> None:
        """Takes note of a message, as it will be when the request is done; None if it is gone."""
        if self._journal is None:
            return
        if message is None:
            self._changed_messages.pop(key, None)
            self._noted[key] = None
        else:
            self._noted.pop(key, None)
            self._changed_messages[key] = message

    def note_service(self, name: str) -> None:
        """Takes note that a service's settings may have changed."""
        self._stale.add(name)
        if name == "cloudformation":  # it works on after its answer
            self._unsettled_until = time.monotonic() + _UNSETTLED_SECONDS

    def note_failed_file(self, problem: OSError) -> None:
        """Takes note that an object of a bucket could not be written, so that the request in hand
        is not acknowledged.
        """
        self._failed_file = problem

    def staging(self, path: str) -> str:
        """The place of a file that takes the place of `path` with the next commit."""
        assert self._journal is not None
        return str(
            self._journal.folder / _STAGED / f"{uuid.uuid4().hex}-{os.path.basename(path)[-40:]}"
        )

    def note_staged(self, path: str, staged: str) -> None:
        """Takes note of the file that takes the place of another one with the next commit."""
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
        """Takes note of an object's file, to be synced with the journal."""
        if self._journal is not None:
            self._journal.files.add(path)

    @property
    def is_failing(self) -> bool:
        """True if the last write failed."""
        return self._is_failing

    def _take(self) -> list[Row]:
        # Swapped before they are read: CloudFormation's threads note, too.
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
            if (
                not self._emulator.is_settled()
            ):  # a stack and its resources are written together, when all are made
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
            with suppress(OSError):  # told on the terminal; what has changed stays noted
                self.commit()
            if self._journal is not None and self._journal.sync_error:
                self._say(
                    {
                        "warning": f"the state in {self._journal.folder} is written, and not "
                        f"synced: {self._journal.sync_error}"
                    }
                )

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
            found = contents.Found()
            story = self._journal.read(found.take)
            OldState.settle(self._journal.folder, story.taken_over)
            self._kept = found.restore(self, port)
            self._positions, self._lost, self._aged = found.positions, set(found.lost), found.aged
            self._noted.clear()  # what was read is written already
            self._changed_messages.clear()
            self._finish_staged(found.staged)
            self._tell(story)
        self._settle_copy(_bytes_of(self._emulator.rows(self)))

    def _finish_staged(self, staged: Mapping[str, bytes]) -> None:
        """Puts files in place whose commit was written, and deletes those whose was not."""
        assert self._journal is not None
        for path, new in staged.items():
            with suppress(FileNotFoundError):  # done before the kill
                os.replace(new.decode(), path)
            self.note(("staged", path), None)
        for left in (self._journal.folder / _STAGED).iterdir():
            left.unlink()
        if staged:
            self._hooks.load_objects()

    def _take_over(self, old: Any, port: int) -> None:
        """Writes a folder of the form before 0.2.0 into the journal, and puts its files aside."""
        assert self._journal is not None
        old.restore(self, port)
        self._lost.add("*")  # that form held no streams
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
        told = []
        if story.lost_power:
            told.append(
                "the machine went down while the stack ran; changes of the last second may be "
                "missing"
            )
        elif not story.was_clean:
            told.append("the last run was killed; all that could be read is here")
        if story.cut:
            told.append(
                f"{story.cut} bytes at its end were no whole write, and were cut: a kill "
                "interrupted it, or the file was damaged"
            )
        if told:
            self._say({"said": f"the state in {self._journal.folder}: {'; '.join(told)}"})

    # ---- copying the journal

    def _settle_copy(self, live: int) -> None:
        """Decides how large the journal may grow: twice what counts, which are `live` bytes, and
        some more.
        """
        self._live = live
        self._copy_above = _COPY_FACTOR * self._live + _COPY_ABOVE

    def begin_copy(self) -> None:
        """Begins to write what counts into the next file."""
        assert self._journal is not None
        try:
            if shutil.disk_usage(self._journal.folder).free < 2 * self._live + _COPY_ABOVE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._journal.begin_copy()
        except OSError as problem:
            self._put_off_copy(problem)
            return
        self._copying, self._copied = self._emulator.rows(self), 0

    def _put_off_copy(self, problem: OSError) -> None:
        """Goes on with the files that there are, and tries again when they have grown."""
        assert self._journal is not None
        self._copying, self._copy_above = None, self._journal.size + max(_COPY_ABOVE, self._live)
        text = (
            f"the state in {self._journal.folder} grows, since there is no room to write it "
            f"anew: {problem.strerror}"
        )
        self._say({"warning": text})

    def _copy_some(self) -> None:
        """Copies rows that still count, for a moment.

        A row that is changed meanwhile is written to the new file by its change.
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
            self._put_off_copy(problem)

    # ---- streams

    def _declare(self, mappings: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        """Takes the mappings: `stream`, and `starts_at` as Lambda names it.

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
            if (
                mapping["starts_at"] == "LATEST" and name not in self._positions
            ):  # from now on, whenever it begins to read
                self._note_position(name, self._hooks.last_number(mapping["stream"]))
        read = {name: position["sequence_number"] for name, position in self._positions.items()}
        return {"read": read, "lost": sorted(self._lost & set(streams))}

    def _read_to(self, mapping: str, sequence_number: str) -> None:
        stream = self._mappings[mapping]
        self._note_position(mapping, sequence_number)
        self._drop_read(stream)

    def _drop_read(self, stream: str) -> None:
        """Drops the records that every mapping has read a while ago; of those read lately it keeps
        the newest 250.
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
        """Takes note that a stream has dropped its records up to a sequence number for their age,
        read or not.
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
        """Returns the rows of mappings and of files that are to be put in place."""
        yield from (
            (("position", name), json.dumps(position).encode())
            for name, position in list(self._positions.items())
        )
        yield from ((("lost", name), b"") for name in list(self._lost))
        yield from ((("aged", stream), last.encode()) for stream, last in list(self._aged.items()))

    # ---- expiry

    def _index_expiring(self, tables: Mapping[str, str]) -> None:
        """Notes when the items of tables expire, by the attribute of each.

        Those that there are are looked through bit by bit.
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
        """Takes note of when an item of a table expires."""
        if (attribute := self._expiring.get(table)) is not None:
            self._note_expiry(table, attribute, pk, sk, item)

    def _note_expiry(
        self, table: str, attribute: str, pk: Any, sk: Any, item: Mapping[str, Any]
    ) -> None:
        if (expires := _expiry(item, attribute)) is not None:
            self._due.setdefault(int(expires) // 60, set()).add((table, pk, sk))

    def _expired(self, before: int, limit: int) -> list[dict[str, Any]]:
        """Items that have expired before a time, at most `limit`: table and key.

        An item that is not deleted is given again later.
        """
        found: list[dict[str, Any]] = []
        again: list[tuple[str, Any, Any]] = []
        for minute in sorted(each for each in self._due if each <= before // 60):
            places = self._due[minute]
            for place in list(places):
                if len(found) == limit:
                    break
                item = self._emulator.item_of(*place)
                expires = (
                    None if item is None else _expiry(item[0], self._expiring.get(place[0], ""))
                )
                if item is not None and expires is not None and expires <= before:
                    found.append({"table": place[0], "key": item[1]})
                    again.append(place)
                elif expires is not None and int(expires) // 60 == minute:  # later in this minute
                    continue
                places.discard(place)
            if not places:
                del self._due[minute]
        if again:
            self._due.setdefault((before + _AGAIN_SECONDS) // 60 + 1, set()).update(again)
        return found


def _end_process_if_failed(ticking: "asyncio.Task[None]") -> None:
    """A store that no longer writes what changes between answers must not go on: it is started
    again from its journal.
    """
    if not ticking.cancelled() and (problem := ticking.exception()) is not None:
        traceback.print_exception(problem)
        os._exit(70)


def _bytes_of(rows: Iterable[Row]) -> int:
    return sum(len(value or b"") + _ROW_BYTES for _, value in rows)


def _expiry(item: Mapping[str, Any], attribute: str) -> float | None:
    """The time to live of an item in seconds since the epoch. Only a number is one."""
    try:
        return float(item[attribute]["N"])
    except (KeyError, ValueError, TypeError):
        return None
