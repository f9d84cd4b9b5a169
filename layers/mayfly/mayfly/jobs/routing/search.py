"""The state of the search for stranded jobs: one item of the jobs table."""

import json
from dataclasses import dataclass, field, replace
from typing import Final

from mayfly.aws.dynamodb import Item
from mayfly.core.json_input import canonical_json
from mayfly.jobs.model import Window
from mayfly.jobs.routing.windows import covers, hull

__all__ = ["HELD_MS", "SEARCH_KEY", "Counts", "Search", "read_search", "search_item", "window_pair"]

#: The time for which a receive holds the search after each page that it has finished. A receive
#: works for 45 s at most, and a message comes back after 60 s. So when the message of a crashed
#: receive comes back, the search is free.
HELD_MS: Final = 15_000
#: The number of searched windows that are remembered. Reports of one outage come together.
_REMEMBERED: Final = 20
#: The sort key is not that of a job: the filter on the table's stream stops the item.
SEARCH_KEY: Final = {"pk": {"S": "stranded"}, "sk": {"S": "search"}}


@dataclass(frozen=True)
class Counts:
    """The work of a pass: items read, jobs resent, and messages sent to jobs that must wait."""

    read: int = 0
    resent: int = 0
    delayed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.read + other.read, self.resent + other.resent, self.delayed + other.delayed
        )


@dataclass(frozen=True)
class Search:
    """The state of the search. `window` is that of the running pass, None if no pass runs.

    The pass continues at `cursor`. `next` covers the windows of reports that came since it began.
    `done` are the windows that were searched. The receive that drew `owner` works on the search.
    """

    version: int = 0
    window: Window | None = None
    started_at_ms: int = 0
    cursor: Item | None = None
    counts: Counts = field(default_factory=Counts)
    next: Window | None = None
    done: tuple[Window, ...] = ()
    owner: str | None = None
    held_until_ms: int = 0

    def has_searched(self, window: Window) -> bool:
        """Returns True if every job that may be stranded by a loss in this window was handled."""
        return covers(self.done, window)

    def is_to_search(self, window: Window) -> bool:
        """Returns True if the running pass, or the next one, covers a window."""
        planned = [one for one in (self.window, self.next) if one is not None]
        return covers(planned, window)

    def is_held(self, now_ms: int) -> bool:
        """Returns True if a receive works on the search."""
        return now_ms < self.held_until_ms

    def wanting(self, window: Window, now_ms: int) -> "Search":
        """Returns the search with one more window.

        A pass over it begins now, or it is part of the next one.
        """
        if self.window is None:
            return replace(self, window=window, started_at_ms=now_ms)
        return self if self.is_to_search(window) else replace(self, next=hull(self.next, window))

    def at(self, cursor: Item | None, counts: Counts, now_ms: int) -> "Search":
        """Returns the search after work on a page; the pass continues at `cursor`."""
        return replace(
            self, cursor=cursor, counts=self.counts + counts, held_until_ms=now_ms + HELD_MS
        )

    def ended(self, now_ms: int) -> "Search":
        """Returns the search after the last page of a pass.

        The next pass begins if there is one.
        """
        assert self.window is not None
        others = (window for window in self.done if not covers([self.window], window))
        done = (self.window, *others)[:_REMEMBERED]
        ended = replace(
            self, window=self.next, next=None, started_at_ms=now_ms, counts=Counts(), done=done
        )
        return ended if ended.window else ended.released()

    def released(self) -> "Search":
        """Returns the search without an owner."""
        return replace(self, owner=None, held_until_ms=0)


def search_item(search: Search, *, expires_at_s: int) -> Item:
    """Returns the item that stores the search."""
    state = {
        "window": window_pair(search.window),
        "started_at": search.started_at_ms,
        "cursor": search.cursor,
        "counts": vars(search.counts),
        "next": window_pair(search.next),
        "done": [window_pair(window) for window in search.done],
        "owner": search.owner,
        "held_until": search.held_until_ms,
    }
    return {
        **SEARCH_KEY,
        "version": {"N": str(search.version)},
        "state": {"S": canonical_json(state)},
        "expires_at": {"N": str(expires_at_s)},
    }


def read_search(item: Item) -> Search:
    """Returns the search in an item."""
    state = json.loads(item["state"]["S"])
    return Search(
        version=int(item["version"]["N"]),
        window=_window(state["window"]),
        started_at_ms=state["started_at"],
        cursor=state["cursor"],
        counts=Counts(**state["counts"]),
        next=_window(state["next"]),
        done=tuple(Window(*pair) for pair in state["done"]),
        owner=state["owner"],
        held_until_ms=state["held_until"],
    )


def window_pair(window: Window | None) -> list[int] | None:
    """Returns the two ends of a window, None if there is no window."""
    return None if window is None else [window.from_ms, window.to_ms]


def _window(pair: list[int] | None) -> Window | None:
    return None if pair is None else Window(*pair)
