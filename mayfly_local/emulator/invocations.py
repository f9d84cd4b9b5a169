"""Invocations of functions that clients and other services request from the emulator.

The runtime runs the functions. It asks for what is due, runs it, and reports what became of it.
Nothing is forgotten until then: an asynchronous invocation is a row of the journal.

    requested --> due --> handed to the runtime --> done
                   ^                  |
                   +---- again -------+

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html
"""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from mayfly_local.emulator.arrivals import Arrivals
from mayfly_local.emulator.journal import Row
from mayfly_local.emulator.packed import dump, load

__all__ = ["AT_ONCE", "Invocations", "run_of"]

#: Most asynchronous invocations of one function that the runtime holds at once.
AT_ONCE: Final = 10
#: The place of all invocations among the arrivals.
_PLACE: Final = "invocations"


@dataclass
class _Requested:
    """A requested invocation. Times are seconds since 1970, and `event` is JSON.

    With `reports` a caller waits for the reply, and with `tail` it wants the log as well.
    """

    id: str
    function: str
    event: str
    requested_at: float
    due: float
    tries: int = 0
    reports: bool = False
    tail: bool = False
    client_context: str = ""

    @property
    def run(self) -> str:
        """The next run. A retry is another run, which the runtime does not hold yet."""
        return run_of(self.id, self.tries)


def run_of(invocation: str, tries: int) -> str:
    """Returns the name of a run of an invocation that ran so often before."""
    return f"{invocation}/{tries}"


class Invocations:
    """All requested invocations that are not done.

    `note(key, value)` notes a row for the journal.
    """

    def __init__(
        self, note: Callable[[tuple[Any, ...], bytes | None], None], arrivals: Arrivals
    ) -> None:
        self._note = note
        self._arrivals = arrivals
        self._requested: dict[str, _Requested] = {}
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def add(self, function: str, event: str, *, client_context: str = "") -> str:
        """Adds an asynchronous invocation of a function, by its logical id; returns its id."""
        now = time.time()
        requested = _Requested(
            str(uuid.uuid4()), function, event, now, now, client_context=client_context
        )
        self._keep(requested)
        return requested.id

    async def call(
        self, function: str, event: str, *, tail: bool = False, client_context: str = ""
    ) -> dict[str, Any]:
        """Requests an invocation, and waits for the reply of the runtime.

        Such an invocation ends with the caller's connection, so it is in no journal.
        """
        now, call_id = time.time(), str(uuid.uuid4())
        self._requested[call_id] = _Requested(
            call_id, function, event, now, now,
            reports=True, tail=tail, client_context=client_context,
        )  # fmt: skip
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[call_id] = reply
        self._arrivals.note(_PLACE)
        try:
            return await reply
        finally:
            del self._replies[call_id]
            self._requested.pop(call_id, None)

    async def due(self, holding: Collection[str], *, seconds: float) -> list[dict[str, Any]]:
        """Returns the invocations that are due, as soon as there are some.

        `holding` are the runs that the runtime has already. After `seconds` the list is
        empty.
        """
        ends = time.monotonic() + seconds
        while True:
            seen = self._arrivals.count(_PLACE)
            now = time.time()
            found = self._due_now(frozenset(holding), now)
            left = ends - time.monotonic()
            if found or left <= 0 or self._arrivals.is_closed:
                return [asdict(requested) for requested in found]
            later = [requested.due for requested in self._requested.values() if requested.due > now]
            pause = min([left, *(moment - now for moment in later)])
            await self._arrivals.wait(_PLACE, seen, max(0.0, pause))

    def again(self, invocation: str, *, tries: int, due: float) -> None:
        """Postpones an invocation that failed; `tries` is how often it has run."""
        if (requested := self._requested.get(invocation)) is not None:
            requested.tries, requested.due = tries, due
            self._keep(requested)

    def done(self, invocation: str) -> None:
        """Forgets an asynchronous invocation."""
        if self._requested.pop(invocation, None) is not None:
            self._note(("invocation", invocation), None)
            self._arrivals.note(_PLACE)  # The function may run the next one now.

    def answer(self, invocation: str, reply: dict[str, Any]) -> None:
        """Gives the reply of an invocation to its caller, if that still waits."""
        waiting = self._replies.get(invocation)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    @property
    def left(self) -> int:
        """The number of asynchronous invocations that are not done."""
        return sum(not requested.reports for requested in self._requested.values())

    def outlook(self, now: float) -> dict[str, Any]:
        """Returns the number of invocations that are due or run, and when the next one is due.

        Wakes the runtime if there are some.
        """
        due = sum(requested.due <= now for requested in self._requested.values())
        if due:
            self._arrivals.note(_PLACE)
        later = [requested.due for requested in self._requested.values() if requested.due > now]
        return {"due": due, "next": min(later, default=None)}

    def serve(self, what: str, arguments: Any) -> dict[str, Any] | None:
        """Answers a request of the runtime; None if it is about something else."""
        match what:
            case "invoke":
                return {"id": self.add(arguments["function"], arguments["event"])}
            case "again":
                self.again(arguments["id"], tries=arguments["tries"], due=arguments["due"])
            case "done":
                self.done(arguments["id"])
            case "left":
                return {"count": self.left}
            case "answer":
                self.answer(arguments["id"], arguments["reply"])
            case _:
                return None
        return {}

    def rows(self) -> Iterator[Row]:
        """Yields the row of each asynchronous invocation."""
        for requested in list(self._requested.values()):
            if not requested.reports and requested.id in self._requested:
                yield _row(requested)

    def restore(self, rows: Mapping[str, bytes]) -> None:
        """Restores the invocations of a journal. Those that were running run again."""
        self._requested |= {name: _Requested(**load(data)) for name, data in rows.items()}

    def _keep(self, requested: _Requested) -> None:
        self._requested[requested.id] = requested
        self._note(*_row(requested))
        self._arrivals.note(_PLACE)

    def _due_now(self, holding: frozenset[str], now: float) -> list[_Requested]:
        """Returns what is due, in the order of the requests.

        A function with a backlog does not delay the others: it gets a few at a time.
        """
        held = Counter(
            requested.function
            for requested in self._requested.values()
            if requested.run in holding and not requested.reports
        )
        found = []
        for requested in self._requested.values():
            if requested.run in holding or requested.due > now:
                continue
            if not requested.reports:
                if held[requested.function] >= AT_ONCE:
                    continue
                held[requested.function] += 1
            found.append(requested)
        return found


def _row(requested: _Requested) -> tuple[tuple[Any, ...], bytes]:
    return ("invocation", requested.id), dump(asdict(requested))
