"""The share of one process' time that deliveries may spend on waiting for slow receivers.

A batch lasts as long as its slowest delivery, and the queue is served in order. So a receiver that
does not answer would delay the webhooks of all receivers, of all tenants. So waiting is rationed:

::

    slow receivers   wait 15 s |  rest about 30 s  | wait 15 s |  rest  |
    others           in threads next to them, and in all batches meanwhile

A delivery that must rest goes back to the queue. It makes no request, and no attempt counts.

A tenant's waiting is counted in two parts, each with a third of the process' time. One is for
receivers that were quick until then; the other is for all others. So receivers that are dead from
the start, whatever their number, never make those rest that answer.

Everything is kept by tenant: no tenant can make the receiver of another tenant rest.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

__all__ = ["Notes", "Receivers"]

Key = TypeVar("Key")
Value = TypeVar("Value")

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
#: The same while many receivers of the tenant turn slow. It is less than a timeout: after one, this
#: process is free for others first.
_CREDIT_OF_MANY: Final = 12.0
#: Receivers of a tenant that have turned slow lately, from which on they are many. Fewer are an
#: accident, after which the tenant's others are likely to answer.
_MANY: Final = 3
#: A delivery that must rest comes back after this time at the earliest, in seconds. Many of them
#: would otherwise be received again and again. If its receiver is not known to be slow, it is also
#: the latest: another process may have room for it.
_LEAST_RETURN: Final = 10.0
#: The longest waiting that one delivery can account for, in seconds.
_LONGEST_SECONDS: Final = 60.0
#: The time for which no note is written again, in seconds.
_NOTE_SECONDS: Final = 30.0
#: The most receivers that are remembered, and the most tenants. Those that were not used for the
#: longest time are forgotten; they may then keep one more delivery waiting.
_REMEMBERED: Final = 10_000


class Notes(Protocol):
    """Notes by which processes share which receivers are slow."""

    def is_slow(self, tenant: str, origin: str) -> bool:
        """Returns True if any process has noted the receiver lately. Raises nothing."""

    def note_slow(self, tenant: str, origin: str) -> None:
        """Tells the other processes that the receiver is slow. Raises nothing."""

    def note_turned(self, tenant: str, origin: str) -> None:
        """Tells the other processes that a receiver has turned slow. Raises nothing."""

    def count_turned(self, tenant: str) -> int:
        """Returns the number of the tenant's receivers that have turned slow lately.

        They have done so in any process. Raises nothing.
        """


@dataclass
class _Receiver:
    """A receiver: its speed, None if unknown, and the time at which its note was written."""

    is_quick: bool | None = None
    noted_at: float = float("-inf")


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


@dataclass
class _Tenant:
    """The two parts of a tenant's waiting: for receivers that were quick, and for all others."""

    quick: _Waiting = field(default_factory=_Waiting)
    others: _Waiting = field(default_factory=_Waiting)


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

    def rest_seconds(self, tenant: str, origin: str) -> float:
        """Returns the seconds after which a delivery should be tried again; 0 to make it now.

        They are 10 at least, and up to twice the rest, so that not all deliveries come back at the
        same time. They are 20 at most if the receiver is not known to be slow.
        """
        rest = self._rest(tenant, origin)
        if rest <= 0 and self._should_ask(tenant, origin) and self._notes.is_slow(tenant, origin):
            with self._changing:
                _remembered(self._receivers, (tenant, origin), _Receiver).is_quick = False
            rest = self._rest(tenant, origin)
        with_many = self._rest(tenant, origin, _CREDIT_OF_MANY)
        if rest <= 0 < with_many and self._notes.count_turned(tenant) >= _MANY:
            rest = with_many
        if rest <= 0:
            return 0.0
        is_slow = self._is_quick(tenant, origin) is False
        longest = rest if is_slow else _LEAST_RETURN
        return max(longest, _LEAST_RETURN) * (1 + self._jitter())

    @contextmanager
    def waiting(self, tenant: str, origin: str) -> Iterator[None]:
        """Accounts for the time until a delivery's answer, however it ends."""
        start = self._now()
        try:
            yield
        finally:
            has_turned, needs_note = self._count(tenant, origin, start, self._now())
            if needs_note:
                self._notes.note_slow(tenant, origin)
            if has_turned:
                self._notes.note_turned(tenant, origin)

    def _rest(self, tenant: str, origin: str, credit: float = _CREDIT) -> float:
        """Returns the rest that is left to a receiver, 0 or less if none.

        `credit` is for receivers that are not known to be slow.
        """
        with self._changing:
            known, now = self._tenants.get(tenant, _Tenant()), self._now()
            is_quick = self._is_quick(tenant, origin)
            if is_quick is False:
                return known.others.rest_seconds(now, _SLOW_CREDIT)
            return (known.quick if is_quick else known.others).rest_seconds(now, credit)

    def _should_ask(self, tenant: str, origin: str) -> bool:
        """Returns True if a note of other processes would make this unknown receiver rest.

        So nothing is read while no receiver of the tenant is slow.
        """
        with self._changing:
            known = self._tenants.get(tenant, _Tenant())
            owed = known.others.rest_seconds(self._now(), _SLOW_CREDIT)
            return self._is_quick(tenant, origin) is None and owed > 0

    def _is_quick(self, tenant: str, origin: str) -> bool | None:
        return self._receivers.get((tenant, origin), _Receiver()).is_quick

    def _count(self, tenant: str, origin: str, start: float, end: float) -> tuple[bool, bool]:
        """Counts a delivery.

        Returns True if its receiver has turned slow, and True if it needs a note for other
        processes.
        """
        with self._changing:
            receiver = _remembered(self._receivers, (tenant, origin), _Receiver)
            was_quick, receiver.is_quick = receiver.is_quick, end - start < _QUICK_SECONDS
            if receiver.is_quick:
                return False, False
            known = _remembered(self._tenants, tenant, _Tenant)
            rest = _LEAST_REST + (_MOST_REST - _LEAST_REST) * self._jitter()
            (known.quick if was_quick else known.others).add(start, end, rest)
            has_turned = was_quick is not False
            if end - receiver.noted_at < _NOTE_SECONDS:
                return has_turned, False
            receiver.noted_at = end
            return has_turned, True


def _remembered(known: OrderedDict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    """Returns what is known under a key, and forgets what was unused for the longest time."""
    value = known.setdefault(key, make())
    known.move_to_end(key)
    if len(known) > _REMEMBERED:
        known.popitem(last=False)
    return value
