"""The requests of a storm that met a transaction, counted through restarts of the store."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["Conflicts"]


class Conflicts:
    """Requests that the store refused since a transaction held their item, by operation.

    `met` are those that met a transaction of the application, and `requested` those that met one
    that a strike requested. The store counts in its memory, so what it counts between the last look
    and its end is missing here.
    """

    def __init__(self) -> None:
        self.met: Counter[str] = Counter()
        self.requested: Counter[str] = Counter()
        self._last: Mapping[str, Any] = {}

    def note(self, report: Mapping[str, Any]) -> None:
        """Adds what a report of the store has more than the last one of the same process."""
        is_same = self._last.get("since") == report["since"]
        for name, counts in (("met", self.met), ("requested", self.requested)):
            counts.update(report[name])
            if is_same:
                counts.subtract(self._last[name])
        self._last = report
