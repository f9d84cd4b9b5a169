"""The emulator's items, stream records and transaction tokens as bytes.

They need a third of the memory, and are ready to be written to a file. Each class behaves like the
list or dict that it replaces and notes every change, so the emulator's functions need no changes.

Python 3.4 to 3.14 read `marshal` version 4. It is used only for data of this process, or of a file
with a checked sum.
"""

import hashlib
import json
import marshal
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence
from typing import Any, Final, overload

__all__ = ["Items", "Partition", "Records", "Token", "dump", "load"]

_VERSION: Final = 4

Item = dict[str, Any]
#: Called with each change of an item: partition key, sort key, the item and its bytes. Both are
#: None for a deletion.
NoteItem = Callable[[Any, Any, "Item | None", "bytes | None"], None]


def dump(value: Any) -> bytes:
    """Returns the bytes of a value of JSON's types, bytes and tuples."""
    return marshal.dumps(value, _VERSION)


def load(data: bytes) -> Any:
    """Returns the value that `dump` was given."""
    return marshal.loads(data)  # noqa: S302 - made here, or read from a file whose sum was checked


class Items(MutableMapping[Any, "Partition"]):
    """A table's items by partition key.

    A missing partition is created, as by the emulator's defaultdict.
    """

    __slots__ = ("note", "partitions")

    def __init__(self, note: NoteItem) -> None:
        self.note = note
        self.partitions: dict[Any, Partition] = {}

    def __getitem__(self, pk: Any) -> "Partition":
        partition = self.partitions.get(pk)
        if partition is None:
            partition = self.partitions[pk] = Partition(self, pk)
        return partition

    def __setitem__(self, pk: Any, rows: Mapping[Any, Item]) -> None:
        partition = self[pk]
        for gone in [sk for sk in partition.rows if sk not in rows]:
            del partition[gone]
        for sk, item in rows.items():
            partition[sk] = item

    def __delitem__(self, pk: Any) -> None:
        partition = self.partitions[pk]
        for sk in list(partition.rows):
            del partition[sk]
        del self.partitions[pk]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.partitions)

    def __len__(self) -> int:
        return len(self.partitions)

    def __contains__(self, pk: object) -> bool:
        return pk in self.partitions

    def get(self, pk: Any, default: Any = None) -> Any:
        return self.partitions.get(pk, default)

    def put(self, pk: Any, sk: Any, data: bytes) -> None:
        """Sets an item that was read from a file, without noting it."""
        self[pk].rows[sk] = data

    def rows(self) -> Iterator[tuple[Any, Any, bytes]]:
        """Yields all items as partition key, sort key and bytes; items may change meanwhile."""
        for pk in list(self.partitions):
            for sk in list(self.partitions[pk].rows) if pk in self.partitions else ():
                # Each time: it may have been replaced or deleted.
                partition = self.partitions.get(pk)
                if partition is not None and (data := partition.rows.get(sk)) is not None:
                    yield pk, sk, data


class Partition(MutableMapping[Any, Item]):
    """The items of one partition key, by sort key."""

    __slots__ = ("_items", "_pk", "rows")

    def __init__(self, items: Items, pk: Any) -> None:
        self._items = items
        self._pk = pk
        self.rows: dict[Any, bytes] = {}

    def __getitem__(self, sk: Any) -> Item:
        item: Item = load(self.rows[sk])
        return item

    def __setitem__(self, sk: Any, item: Item) -> None:
        data = dump(item)
        if self.rows.get(sk) != data:
            self.rows[sk] = data
            self._items.note(self._pk, sk, item, data)

    def __delitem__(self, sk: Any) -> None:
        del self.rows[sk]
        self._items.note(self._pk, sk, None, None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, sk: object) -> bool:
        return sk in self.rows

    def get(self, sk: Any, default: Any = None) -> Any:
        data = self.rows.get(sk)
        return default if data is None else load(data)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Item]:
        return {sk: load(data) for sk, data in self.rows.items()}


class Records(MutableSequence[Item]):
    """The records of a table's stream, oldest first.

    It calls `note` with index and bytes of each new record, and `aged` with the records that the
    emulator drops by age.
    """

    __slots__ = ("_aged", "_note", "rows")

    def __init__(
        self,
        note: Callable[[int, bytes], None],
        aged: Callable[[list[bytes]], None],
        rows: list[bytes] | None = None,
    ) -> None:
        self._note = note
        self._aged = aged
        self.rows = rows or []

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [load(data) for data in self.rows[index]]
        record: Item = load(self.rows[index])
        return record

    def __setitem__(self, index: Any, record: Any) -> None:
        raise TypeError("a stream's records do not change")

    def __delitem__(self, index: int | slice) -> None:
        self._aged(self.rows[index] if isinstance(index, slice) else [self.rows[index]])
        del self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def insert(self, index: int, record: Item) -> None:
        if index != len(self.rows):
            raise TypeError("a stream's records are appended")
        data = dump(record)
        self.rows.append(data)
        self._note(index, data)

    def append(self, record: Item) -> None:
        self.insert(len(self.rows), record)

    def detach(self) -> None:
        """Stops noting changes."""
        self._note, self._aged = _nothing, _nothing


def _nothing(*_: Any) -> None:
    return


class Token:
    """The record of a transaction's token, with a digest of the request."""

    __slots__ = ("completed_at", "digest", "reply")

    def __init__(self, digest: bytes, reply: bytes, completed_at: float) -> None:
        self.digest = digest
        self.reply = reply
        self.completed_at = completed_at

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Token":
        """Returns the token for the emulator's own entry: `signature`, `response`, `sizes`."""
        rest = {name: entry[name] for name in entry if name not in ("signature", "completed_at")}
        reply = dump(rest)
        return cls(_digest(entry["signature"]), reply, float(entry.get("completed_at", 0.0)))

    def __getitem__(self, name: str) -> Any:
        if name == "completed_at":
            return self.completed_at
        if name == "signature":
            return _Signature(self.digest)
        return load(self.reply)[name]

    def __setitem__(self, name: str, value: float) -> None:
        if name != "completed_at":
            raise TypeError(f"a token's {name} does not change")
        self.completed_at = value

    def get(self, name: str, default: Any = None) -> Any:
        """Returns a value by name, like a dict."""
        try:
            return self[name]
        except KeyError:
            return default


class _Signature:
    """A request as its digest, equal to the request itself."""

    __slots__ = ("_digest",)

    def __init__(self, digest: bytes) -> None:
        self._digest = digest

    def __eq__(self, other: object) -> bool:
        return self._digest == _digest(other)

    __hash__ = None  # type: ignore[assignment]  # it equals dicts, which are not hashable


def _digest(request: Any) -> bytes:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).digest()[:16]
