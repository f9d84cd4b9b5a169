"""The index of items by the time at which they expire, so that TTL need not read whole tables."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from mayfly_local.emulator.packed import load

__all__ = ["ExpiryIndex"]

#: Seconds after which an expired item is returned again, if it has not been deleted.
_AGAIN_SECONDS: Final = 60


class ExpiryIndex:
    """Items by the minute in which they expire.

    A renewed item is in several minutes; its own value decides. `tables()` returns the tables with
    their items. `item_of(table, pk, sk)` returns an item with its key, None if it does not exist.
    """

    def __init__(
        self,
        tables: Callable[[], Iterable[tuple[str, Any]]],
        item_of: Callable[[str, Any, Any], tuple[dict[str, Any], dict[str, Any]] | None],
    ) -> None:
        self._tables = tables
        self._item_of = item_of
        self._attributes: dict[str, str] = {}
        self._due: dict[int, set[tuple[str, Any, Any]]] = {}
        self._indexing: asyncio.Task[None] | None = None

    def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Sets the TTL attribute of each table, and indexes existing items in small steps."""
        if self._indexing is not None:
            self._indexing.cancel()
        self._attributes = dict(attributes)
        self._due = {}
        self._indexing = asyncio.ensure_future(self._index())

    def note(self, table: str, pk: Any, sk: Any, item: Mapping[str, Any]) -> None:
        """Notes when an item of a table expires."""
        attribute = self._attributes.get(table)
        if attribute is not None and (expires := _expiry(item, attribute)) is not None:
            self._due.setdefault(int(expires) // 60, set()).add((table, pk, sk))

    def expired(self, before: int, limit: int) -> list[dict[str, Any]]:
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
                item = self._item_of(*place)
                expires = (
                    None if item is None else _expiry(item[0], self._attributes.get(place[0], ""))
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

    def next_after(self, now: float, lag: float) -> float | None:
        """Returns when the next items are to be deleted, `lag` seconds after their minute.

        Returns None if no item expires.
        """
        ends = ((minute + 1) * 60 + lag for minute in self._due)
        return min((end for end in ends if end > now), default=None)

    async def _index(self) -> None:
        for table, items in self._tables():
            if table not in self._attributes:
                continue
            for number, (pk, sk, data) in enumerate(items.rows()):
                self.note(table, pk, sk, load(data))
                if not number % 200:
                    await asyncio.sleep(0.01)


def _expiry(item: Mapping[str, Any], attribute: str) -> float | None:
    """Returns the TTL of an item in seconds since the epoch, or None if it is not a number."""
    try:
        return float(item[attribute]["N"])
    except (KeyError, ValueError, TypeError):
        return None
