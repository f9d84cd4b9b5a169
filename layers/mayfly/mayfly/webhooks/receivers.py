"""The share of one process' time that deliveries may spend on waiting for slow receivers.

A batch lasts as long as its slowest delivery, and the queue is served in order. So a receiver that
does not answer would delay the webhooks of all receivers, of all tenants. So waiting is rationed:

::

    slow receivers   wait 15 s |  rest about 30 s  | wait 15 s |  rest  |
    others           in threads next to them, and in all batches meanwhile

A delivery that must rest goes back to the queue. It makes no request, and no attempt counts.

A tenant's waiting is counted in two accounts, each with a third of the process' time:

::

    receiver                        waiting is added to     it rests by
    its last answer was quick       total, quick            quick
    nothing is known of it          total                   total, less 24 s of waiting
    its last answer was slow        total                   total, less 5 s of waiting

So dead receivers, whatever their number, never make those rest that answer; and those that are
known to be slow leave room for those of which nothing is known. All waiting of a tenant has a third
of the time: until the last delivery to one that was not quick, since that begins only if `total` is
paid; and after it, since only `quick` is used.

Processes tell each other the last answer of each receiver. So a process that starts knows it, and
not every process has to wait for the same dead receivers.

Everything is kept by tenant: no tenant can make the receiver of another tenant rest.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

__all__ = ["NOTES_KEPT_SECONDS", "Note", "Notes", "Receivers"]

Key = TypeVar("Key")
Value = TypeVar("Value")

#: The time for which a note on a receiver is kept, in seconds.
NOTES_KEPT_SECONDS: Final = 3600
#: A delivery that takes less than this does not count as waiting, in seconds.
_QUICK_SECONDS: Final = 2.0
#: The rest after a second of waiting is between these two, in seconds. It is drawn at random, or
#: all processes would wait for one receiver at the same time.
_LEAST_REST: Final = 1.5
_MOST_REST: Final = 2.5
#: Waiting that a tenant is given in advance, in seconds, if the receiver of a delivery is known to
#: be slow. One slow answer causes no rest.
_SLOW_CREDIT: Final = 5.0
#: The same if the receiver was quick, or nothing is known of it. Slow receivers leave room for
#: unknown ones: a delivery that begins within the first credit, and ends by its timeout, does not
#: use up the second.
_CREDIT: Final = 24.0
#: The rest after all waiting while many receivers of the tenant turn slow, in seconds, if no other
#: rest is longer. After one timeout, this process passes over the tenant's webhooks that are in the
#: queue, and is free for others.
_GAP: Final = 6.0
#: Receivers of a tenant that have turned slow lately, from which on they are many. Fewer are an
#: accident, after which the tenant's others are likely to answer.
_MANY: Final = 3
#: A delivery that must rest comes back after this time at the earliest, in seconds. Many of them
#: would otherwise be received again and again. If its receiver is not known to be slow, it is also
#: the latest: another process may have room for it.
_LEAST_RETURN: Final = 10.0
#: Deliveries that must rest come back together if they do so within this time, in seconds. So their
#: next batch is full, and a process finds out about ten receivers in one timeout, not about one.
_TOGETHER_SECONDS: Final = 1.0
#: The longest waiting that one delivery can account for, in seconds.
_LONGEST_SECONDS: Final = 60.0
#: The time for which no note on a receiver is written again, in seconds.
_NOTE_SECONDS: Final = 30.0
#: The same if it would say once more that the receiver is quick. It is half of the time for which
#: notes are kept, so the note on a receiver that is in use does not expire.
_QUICK_NOTE_SECONDS: Final = NOTES_KEPT_SECONDS / 2
#: The most receivers that are remembered, and the most tenants. Those that were not used for the
#: longest time are forgotten; they may then keep one more delivery waiting.
_REMEMBERED: Final = 10_000


@dataclass(frozen=True)
class Note:
    """The last answer of a receiver to any process: whether it was quick, and its age in seconds.

    The age is about right, since processes' clocks differ.
    """

    is_quick: bool
    age: float


class Notes(Protocol):
    """Notes by which processes tell each other about receivers."""

    def read(self, tenant: str, origin: str) -> Note | None:
        """Returns the note on a receiver, None if it has none. Raises nothing."""

    def write(self, tenant: str, origin: str, *, is_quick: bool) -> None:
        """Replaces the note on a receiver. Raises nothing."""

    def note_turned(self, tenant: str, origin: str) -> None:
        """Tells the other processes that a receiver has turned slow. Raises nothing."""

    def count_turned(self, tenant: str) -> int:
        """Returns the number of the tenant's receivers that have turned slow lately.

        They have done so in any process. Raises nothing.
        """


@dataclass
class _Receiver:
    """A receiver: whether its last answer was quick, None if unknown, and the answer's time.

    `noted` is the same of its note, as this process has seen or written it last, and `noted_at` is
    the time at which this process has written it.
    """

    is_quick: bool | None = None
    answered_at: float = float("-inf")
    noted: bool | None = None
    noted_at: float = float("-inf")

    def needs_note(self, now: float) -> bool:
        """Returns True if the note for other processes should be written."""
        is_old_news = self.is_quick and self.noted
        return now - self.noted_at >= (_QUICK_NOTE_SECONDS if is_old_news else _NOTE_SECONDS)


@dataclass
class _Waiting:
    """Waiting for the receivers of one tenant (a generic cell rate algorithm).

    `paid_at` is the time at which all of it is made up for by rest. `counted_until` is the end of
    the waiting that is in `paid_at`: deliveries that wait at the same time count once.
    """

    paid_at: float = float("-inf")
    counted_until: float = float("-inf")

    def add(self, start: float, end: float, rest: float) -> None:
        """Adds the waiting of one delivery; each second of it needs `rest` seconds of rest."""
        begun = max(start, self.counted_until)
        waited = min(end - begun, _LONGEST_SECONDS)
        if waited > 0:
            self.paid_at = max(self.paid_at, begun) + waited * (1 + rest)
            self.counted_until = end

    def rest_seconds(self, now: float, credit: float) -> float:
        """Returns the rest that is left, 0 or less if none; `credit` is in seconds of waiting."""
        return self.paid_at - now - credit * (_LEAST_REST + _MOST_REST) / 2

    def gap_seconds(self, now: float) -> float:
        """Returns what is left of the gap after the last waiting, 0 or less if nothing.

        It ends when slow receivers may be asked again, if that is sooner.
        """
        return min(self.counted_until + _GAP - now, self.rest_seconds(now, _SLOW_CREDIT))


@dataclass
class _Tenant:
    """The accounts of a tenant's waiting: for all its receivers, and for those that were quick."""

    total: _Waiting = field(default_factory=_Waiting)
    quick: _Waiting = field(default_factory=_Waiting)

    def add(self, start: float, end: float, rest: float, *, was_quick: bool | None) -> None:
        """Adds the waiting for a receiver; each second of it needs `rest` seconds of rest."""
        self.total.add(start, end, rest)
        if was_quick:
            self.quick.add(start, end, rest)

    def rest_seconds(self, now: float, *, is_quick: bool | None) -> float:
        """Returns the rest that is left to a receiver, 0 or less if none."""
        account = self.quick if is_quick else self.total
        return account.rest_seconds(now, _SLOW_CREDIT if is_quick is False else _CREDIT)

    def gap_seconds(self, now: float, *, is_quick: bool | None) -> float:
        """Returns the rest that is left to it while many receivers turn slow."""
        return (self.quick if is_quick else self.total).gap_seconds(now)

    def owes_rest(self, now: float, *, is_quick: bool | None) -> bool:
        """Returns True if waiting for its kind of receivers is not made up for."""
        return (self.quick if is_quick else self.total).rest_seconds(now, _SLOW_CREDIT) > 0


class Receivers:
    """The receivers that one process knows, by tenant and origin. Any thread may use it.

    `now()` returns seconds of a clock that is never set back, `jitter()` draws from 0 to 1.
    """

    def __init__(self, now: Callable[[], float], jitter: Callable[[], float], notes: Notes) -> None:
        self._now = now
        self._jitter = jitter
        self._notes = notes
        self._receivers: OrderedDict[tuple[str, str], _Receiver] = OrderedDict()
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        self._changing = threading.Lock()
        #: Draws of a second for deliveries that rest, and the number of these by receiver.
        self._drawn_at = float("-inf")
        self._drawn: list[float] = []
        self._rested: Counter[tuple[str, str]] = Counter()

    def rest_seconds(self, tenant: str, origin: str) -> float:
        """Returns the seconds after which a delivery should be tried again; 0 to make it now.

        They are 10 at least, and up to twice the rest, so that not all deliveries come back at the
        same time. They are 20 at most if the receiver is not known to be slow.
        """
        if self._should_ask(tenant, origin) and (note := self._notes.read(tenant, origin)):
            self._learn(tenant, origin, note)
        with self._changing:
            known, now = self._tenants.get(tenant, _Tenant()), self._now()
            is_quick = self._is_quick(tenant, origin)
            rest = known.rest_seconds(now, is_quick=is_quick)
            gap = known.gap_seconds(now, is_quick=is_quick)
        if rest <= 0 < gap and self._notes.count_turned(tenant) >= _MANY:
            rest = gap
        if rest <= 0:
            return 0.0
        longest = rest if is_quick is False else _LEAST_RETURN
        return max(longest, _LEAST_RETURN) * (1 + self._spread(tenant, origin, now))

    @contextmanager
    def waiting(self, tenant: str, origin: str) -> Iterator[None]:
        """Accounts for the time until a delivery's answer, however it ends."""
        start = self._now()
        try:
            yield
        finally:
            is_quick, has_turned, needs_note = self._count(tenant, origin, start, self._now())
            if needs_note:
                self._notes.write(tenant, origin, is_quick=is_quick)
            if has_turned:
                self._notes.note_turned(tenant, origin)

    def _spread(self, tenant: str, origin: str, now: float) -> float:
        """Returns a number from 0 to 1.

        Within a second, it is the same one for deliveries to different receivers of a tenant. Each
        further delivery to the same receiver has a number of its own.
        """
        with self._changing:
            if now - self._drawn_at >= _TOGETHER_SECONDS:
                self._drawn_at, self._drawn, self._rested = now, [], Counter()
            number = self._rested[tenant, origin]
            self._rested[tenant, origin] += 1
            if number == len(self._drawn):
                self._drawn.append(self._jitter())
            return self._drawn[number]

    def _should_ask(self, tenant: str, origin: str) -> bool:
        """Returns True if a note of other processes may decide whether a receiver rests.

        So nothing is read while no receiver of the tenant is slow.
        """
        with self._changing:
            known = self._tenants.get(tenant, _Tenant())
            is_quick = self._is_quick(tenant, origin)
            return is_quick is not False and known.owes_rest(self._now(), is_quick=is_quick)

    def _learn(self, tenant: str, origin: str, note: Note) -> None:
        """Takes over a note, if it is newer than the last answer to this process."""
        with self._changing:
            receiver = _remembered(self._receivers, (tenant, origin), _Receiver)
            receiver.noted = note.is_quick
            answered_at = self._now() - note.age
            if answered_at > receiver.answered_at:
                receiver.is_quick, receiver.answered_at = note.is_quick, answered_at

    def _is_quick(self, tenant: str, origin: str) -> bool | None:
        return self._receivers.get((tenant, origin), _Receiver()).is_quick

    def _count(self, tenant: str, origin: str, start: float, end: float) -> tuple[bool, bool, bool]:
        """Counts a delivery.

        Returns True if it was quick, True if its receiver has turned slow, and True if it needs a
        note for other processes.
        """
        with self._changing:
            receiver = _remembered(self._receivers, (tenant, origin), _Receiver)
            was_quick, is_quick = receiver.is_quick, end - start < _QUICK_SECONDS
            receiver.is_quick, receiver.answered_at = is_quick, end
            if not is_quick:
                rest = _LEAST_REST + (_MOST_REST - _LEAST_REST) * self._jitter()
                _remembered(self._tenants, tenant, _Tenant).add(
                    start, end, rest, was_quick=was_quick
                )
            has_turned = was_quick is not False and not is_quick
            needs_note = receiver.needs_note(end)
            if needs_note:
                receiver.noted, receiver.noted_at = is_quick, end
            return is_quick, has_turned, needs_note


def _remembered(known: OrderedDict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    """Returns what is known under a key, and forgets what was unused for the longest time."""
    value = known.setdefault(key, make())
    known.move_to_end(key)
    if len(known) > _REMEMBERED:
        known.popitem(last=False)
    return value
