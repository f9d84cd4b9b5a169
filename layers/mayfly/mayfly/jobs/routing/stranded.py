"""The search for stranded jobs: jobs that were accepted, and whose announcement is lost.

Accepting and running jobs write nothing for it. A report of the relay's mapping starts the search.
The message stays on the queue until the search is done, and each receive works on a portion of the
table. One search serves all reports: it is one item of the jobs table
(`mayfly.jobs.routing.search`).

::

    report A   pass 1: portion ---- portion ---- portion: its window is searched, settled
    report B        held: noted for pass 2                 portion ---- portion: settled
    report C             held: pass 2 covers it already             held ---- searched, settled

A pass resends each job that may be stranded, in the version that was read. A job that must wait for
its lease or its backoff stays unchanged, and gets a message with that delay. So a finished page
needs no second look, and the cursor is written after it. After a crash a page is read again, and
none is left out.

The rate: a pass reads at most `PAGES_A_SECOND` pages of `PAGE_ITEMS` items. That is 2,000 items a
second, and at most 256 read units, since a page ends at 1 MB (128 units). In the first minute after
the end of the window, pages are read consistently, which costs twice as much. Jobs are resent one
after another, as quickly as the store answers: about 100 to 200 a second, never more than 2,000.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from mayfly.aws.dynamodb import ConditionFailed, Item, RequestRefused
from mayfly.core.clock import Clock
from mayfly.core.errors import StoreUnavailable
from mayfly.core.observability import Observer
from mayfly.jobs.items import UNREADABLE, read_job
from mayfly.jobs.model import Job, Status, Window
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.routing.outbox import Announcement, Outbox, wake
from mayfly.jobs.routing.search import (
    HELD_MS,
    SEARCH_KEY,
    Counts,
    Search,
    read_search,
    search_item,
    window_pair,
)
from mayfly.jobs.routing.windows import may_be_stranded
from mayfly.jobs.rules import describe, wait_before_claim_ms

__all__ = ["PAGES_A_SECOND", "PAGE_ITEMS", "StrandedSearch"]

#: Items of a page. Of ordinary jobs, these are a little less than 1 MB, at which DynamoDB ends it.
PAGE_ITEMS: Final = 1_000
#: The most pages that a pass reads in a second.
PAGES_A_SECOND: Final = 2
#: Pages are read consistently if the window ended less than this before the pass began.
_FRESH_MS: Final = 60_000
#: The time for which a message stays on the queue of the reports.
_KEPT_SECONDS: Final = 14 * 24 * 3600
#: Tries of a change of the search. Reports that only note their windows may conflict with it.
_TRIES: Final = 5


@dataclass(frozen=True)
class _Page:
    """The outcome of a page.

    `is_whole` if all of it was worked on; `after` is None at the table's end.
    """

    counts: Counts
    is_whole: bool
    after: Item | None


@dataclass(frozen=True)
class StrandedSearch:
    """Dependencies of the search. `pause(seconds)` keeps its rate, `new_nonce` names a receive."""

    operations: JobOperations
    outbox: Outbox
    observe: Observer
    clock: Clock
    pause: Callable[[float], object]
    new_nonce: Callable[[], str]
    page_items: int = PAGE_ITEMS

    def read(self) -> Search:
        """Reads the state of the search. Raises StoreUnavailable."""
        store = self.operations.store
        item = store.db.get("search", store.table, SEARCH_KEY)
        return Search() if item is None else read_search(item)

    def work(self, seen: Search, window: Window, *, is_over: Callable[[], bool]) -> bool:
        """Works on the search as it was `seen`, until `is_over()`.

        Returns True if `window` is searched. If another receive works on the search, the window is
        noted for the next pass. Raises StoreUnavailable: the message comes again, and the search
        continues at its cursor.
        """
        now_ms = self.clock()
        target = seen.wanting(window, now_ms)
        if seen.is_held(now_ms):
            if target != seen:
                self._write(seen, target)  # after a conflict, the next receive notes the window
            return False
        mine = self._write(
            seen, replace(target, owner=self.new_nonce(), held_until_ms=now_ms + HELD_MS)
        )
        while mine is not None and mine.window is not None and not is_over():
            began_ms = self.clock()
            page = self._work_on_page(mine, mine.window, is_over)
            # While the search is held, no other receive may read the next page too early.
            self._keep_rate(began_ms)
            mine = self._note(mine, page)
        if mine is None:  # another receive has taken it over
            return False
        if mine.owner is not None:
            mine = self._release(mine)
        return mine.has_searched(window)

    def _work_on_page(self, search: Search, window: Window, is_over: Callable[[], bool]) -> _Page:
        """Resends the jobs of the page at the cursor that may be stranded.

        Stops when `is_over()`.
        """
        is_fresh = search.started_at_ms < window.to_ms + _FRESH_MS
        unfinished = self.operations.unfinished(
            after=search.cursor, limit=self.page_items, is_consistent=is_fresh
        )
        resent, held = 0, dict[str, Announcement]()
        for item in unfinished.items:
            if is_over():
                return _Page(Counts(resent=resent), is_whole=False, after=None)
            try:
                job = read_job(item)
                # The sweep finds jobs in the `due` index. One that was resent since the pass began
                # has an announcement that came after the window.
                is_done = "due" in item or (job.resent_at_ms or 0) >= search.started_at_ms
                if is_done or not may_be_stranded(job, window):
                    continue
                wait_ms = wait_before_claim_ms(job, self.clock())
                if job.status is not Status.SCHEDULED and wait_ms > 0:
                    held[item["pk"]["S"]] = wake(job.tenant, job.id, job.task, wait_ms / 1000)
                else:
                    resent += self._resend(job)
            except RequestRefused as problem:
                if not problem.is_malformed:
                    raise
                self._skip(item, problem)
            except UNREADABLE as problem:
                self._skip(item, problem)
        if self.outbox.send(held):
            raise StoreUnavailable("announce", "the queue did not take it")
        counts = Counts(unfinished.read, resent, len(held))
        return _Page(counts, is_whole=True, after=unfinished.next)

    def _resend(self, job: Job) -> bool:
        written = self.operations.resend_seen(job, now_ms=self.clock())
        if written is Status.DEAD:
            self.observe.count("JobDead")
            self.observe.log.error("the job is dead; its last attempt was interrupted", job=job.id)
            return False
        if written is not None:
            self.observe.count("StrandedJobsResent")
        return written is not None

    def _skip(self, item: Item, problem: Exception) -> None:
        pk = item.get("pk", {}).get("S")
        self.observe.log.error(
            "an item cannot be resent; the search for stranded jobs continues without it",
            pk=pk,
            error=describe(problem),
        )

    def _note(self, mine: Search, page: _Page) -> Search | None:
        """Writes the outcome of a page.

        Returns the search, None if another receive has taken it over.
        """
        is_last = page.is_whole and page.after is None

        def change(search: Search) -> Search:
            moved = search.at(
                page.after if page.is_whole else search.cursor, page.counts, self.clock()
            )
            return moved.ended(self.clock()) if is_last else moved

        written = self._change(mine, change)
        if written is not None and is_last:
            counts = mine.counts + page.counts
            self.observe.log.warning(
                "the search for stranded jobs is complete", **vars(counts), **_facts(mine)
            )
        return written

    def _release(self, mine: Search) -> Search:
        """Releases the search, so that the next receive can work on it immediately."""
        self.observe.log.info(
            "the search for stranded jobs continues with its message",
            **vars(mine.counts),
            **_facts(mine),
        )
        return self._change(mine, Search.released) or mine

    def _keep_rate(self, began_ms: int) -> None:
        left_ms = 1_000 // PAGES_A_SECOND - max(0, self.clock() - began_ms)
        if left_ms > 0:
            self.pause(left_ms / 1_000)

    def _change(self, mine: Search, change: Callable[[Search], Search]) -> Search | None:
        """Changes the search that this receive holds.

        Returns it, None if another receive has taken it over. If a report has noted its window
        meanwhile, the change is made to the newer state.
        """
        for _ in range(_TRIES):
            if written := self._write(mine, change(mine)):
                return written
            current = self.read()
            if replace(current, version=mine.version, next=mine.next) != mine:
                return None
            mine = current
        return None

    def _write(self, seen: Search, target: Search) -> Search | None:
        """Writes the search in the version that was seen. Returns it, None if it has changed since.

        ::

            receive A   v3 -- page 7 -- stopped for long ------ cursor behind page 7: v4? refused
            receive B              held no longer: v4 -- page 7 -- page 8: v5 -- v6
        """
        store = self.operations.store
        target = replace(target, version=seen.version + 1)
        item = search_item(target, expires_at_s=self.clock() // 1_000 + _KEPT_SECONDS)
        is_as_seen = "#version = :seen" if seen.version else "attribute_not_exists(pk)"
        values = {
            "ExpressionAttributeValues": {":seen": {"N": str(seen.version)}},
            "ExpressionAttributeNames": {"#version": "version"},
        }
        try:
            store.db.put(
                "search",
                TableName=store.table,
                Item=item,
                ConditionExpression=is_as_seen,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **(values if seen.version else {}),
            )
        except ConditionFailed as refusal:
            # If the SDK retries after a lost response, the retry meets the first write.
            return target if refusal.item == item else None
        return target


def _facts(search: Search) -> dict[str, Any]:
    return {"window": window_pair(search.window), "started_at_ms": search.started_at_ms}
