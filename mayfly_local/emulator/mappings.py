"""Positions of event source mappings in their streams, and records that they have missed."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mayfly_local.emulator.journal import Row

__all__ = ["Mappings"]


class Mappings:
    """The positions of all mappings.

    `note(key, value)` notes a row for the journal. The other functions work on the emulator's
    streams: `last_number(stream)` returns the sequence number of the newest record;
    `drop_aged()` drops all records that are older than a day; `drop_read(stream, read)` drops
    records that are read up to each of the numbers in `read`.
    """

    def __init__(
        self,
        note: Callable[[tuple[Any, ...], bytes | None], None],
        *,
        last_number: Callable[[str], str],
        drop_aged: Callable[[], None],
        drop_read: Callable[[str, list[str]], None],
    ) -> None:
        self._note = note
        self._last_number = last_number
        self._drop_aged = drop_aged
        self._drop_records = drop_read
        self._mappings: dict[str, str] = {}
        self._positions: dict[str, dict[str, Any]] = {}
        #: Mappings, or "*" for all, whose streams have lost records before they were read.
        self._lost: set[str] = set()
        self._aged: dict[str, str] = {}

    def declare(self, mappings: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
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
            self._note(("position", gone), None)
        self._mappings = streams
        if "*" in self._lost:
            self._lost.discard("*")
            self._note(("lost", "*"), None)
            for name in streams:
                self._note_lost(name)
        self._drop_aged()
        for stream, last in self._aged.items():
            self._note_missed(stream, last)
        for name, mapping in mappings.items():
            # It reads from now on, even if it starts reading later.
            if mapping["starts_at"] == "LATEST" and name not in self._positions:
                self._note_position(name, self._last_number(mapping["stream"]))
        read = {name: position["sequence_number"] for name, position in self._positions.items()}
        return {"read": read, "lost": sorted(self._lost & set(streams))}

    def read_to(self, mapping: str, sequence_number: str) -> None:
        stream = self._mappings[mapping]
        self._note_position(mapping, sequence_number)
        self._drop_read(stream)

    def drop_read(self) -> None:
        """Drops records of all streams that every mapping has read a while ago."""
        for stream in set(self._mappings.values()):
            self._drop_read(stream)

    def forget_lost(self, mapping: str) -> None:
        """Forgets that a mapping has missed records, since that was reported."""
        self._lost.discard(mapping)
        self._note(("lost", mapping), None)

    def restore(
        self, positions: dict[str, dict[str, Any]], lost: Iterable[str], aged: dict[str, str]
    ) -> None:
        """Sets what the journal has stored."""
        self._positions, self._lost, self._aged = positions, set(lost), aged

    def lose_all(self) -> None:
        """Notes that every mapping has missed records."""
        self._lost.add("*")

    def _drop_read(self, stream: str) -> None:
        """Drops records that every mapping of a stream has read a while ago.

        Of those that were read lately, the newest 250 stay.
        """
        readers = [name for name, arn in self._mappings.items() if arn == stream]
        if all(name in self._positions for name in readers):
            self._drop_records(
                stream, [self._positions[name]["sequence_number"] for name in readers]
            )

    def _note_position(self, mapping: str, sequence_number: str) -> None:
        self._positions[mapping] = {
            "stream": self._mappings[mapping],
            "sequence_number": sequence_number,
        }
        self._note(("position", mapping), json.dumps(self._positions[mapping]).encode())

    def note_aged(self, stream: str | None, last: str) -> None:
        """Notes that a stream dropped its records up to a sequence number, because of their age.

        The records may be unread.
        """
        if stream is not None:
            self._aged[stream] = last
            self._note(("aged", stream), last.encode())
            self._note_missed(stream, last)

    def _note_missed(self, stream: str, last: str) -> None:
        for name, arn in self._mappings.items():
            if arn == stream and self._positions.get(name, {}).get("sequence_number", last) < last:
                self._note_lost(name)

    def _note_lost(self, mapping: str) -> None:
        self._lost.add(mapping)
        self._note(("lost", mapping), b"")

    def rows(self) -> Iterable[Row]:
        """Yields the rows of mappings."""
        yield from (
            (("position", name), json.dumps(position).encode())
            for name, position in list(self._positions.items())
        )
        yield from ((("lost", name), b"") for name in list(self._lost))
        yield from ((("aged", stream), last.encode()) for stream, last in list(self._aged.items()))
