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

Everything is kept by tenant: no tenant can make the receiver of another tenant rest. If three
tenants or more had slow receivers lately, so that their thirds are all of the time, two accounts
over all tenants count as well:

::

    receiver                        waiting is added to     it rests by
    its last answer was quick       as it turns out         neither
    nothing is known of it          as it turns out         both, if its tenant has slow ones
    did not answer                  dead: half the time     dead, by turns of tenants
    answered, but late              late: a quarter         late, by turns; sooner ones first

So a tenant without slow receivers does not notice those of others. Receivers that answer late wait
for each other, and not for dead ones. A tenant for which the process has not waited for five
minutes has its turn, so many receivers or many webhooks do not give a tenant more.

A delivery that waits next to a longer one of its batch costs nothing, and does not need a turn.

A message that rests is received again, and the queue gives up on it after 200 receives. So its
rests grow after the first minutes: see `least_return_seconds`.
"""

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from mayfly.webhooks.accounts import CommonAccounts, Known, TenantAccounts, is_many

__all__ = ["NOTES_KEPT_SECONDS", "Note", "Notes", "Receivers", "least_return_seconds"]

Key = TypeVar("Key")
Value = TypeVar("Value")

#: The time for which a note on a receiver is kept, in seconds.
NOTES_KEPT_SECONDS: Final = 3600
#: A delivery that takes less than this does not count as waiting, in seconds.
_QUICK_SECONDS: Final = 2.0
#: A delivery that must rest comes back after this time at the earliest, in seconds. Many of them
#: would otherwise be received again and again. If its receiver is not known to be slow, it is also
#: the latest at first: another process may have room for it.
_LEAST_RETURN: Final = 10.0
#: The n-th receive of a message brings it back after n^4 / 370,000 s at the earliest. So 200
#: receives (`maxReceiveCount` of the queue) take more than two days, and no such rest is longer
#: than an eighth of those before it. It counts from the 44th receive on.
_RECEIVES_TO_THE_FOURTH: Final = 370_000.0
#: Deliveries that rest by an account over all tenants come back at multiples of this time, in
#: seconds. So their next batches are full, and one timeout finds out about ten receivers.
_SLOT_SECONDS: Final = 5.0
#: The time for which an answer to this process is newer than what a note may say, in seconds.
_FRESH_SECONDS: Final = 30.0
#: Deliveries that must rest come back together if they do so within this time, in seconds. So their
#: next batch is full, and a process finds out about ten receivers in one timeout, not about one.
_TOGETHER_SECONDS: Final = 1.0
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

    The age is about right, since processes' clocks differ. `late_seconds` is the time that the
    delivery took if it was slow and was answered, None if it was quick or was not answered.
    """

    is_quick: bool
    age: float
    late_seconds: float | None = None


class Notes(Protocol):
    """Notes by which processes tell each other about receivers."""

    def read(self, tenant: str, origin: str) -> Note | None:
        """Returns the note on a receiver, None if it has none. Raises nothing."""

    def write(
        self, tenant: str, origin: str, *, is_quick: bool, late_seconds: float | None = None
    ) -> None:
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

    `late_seconds` is as in Note. `noted` is whether its note says quick, as this process has seen
    or written it last, and `noted_at` is the time at which this process has written it.
    """

    is_quick: bool | None = None
    late_seconds: float | None = None
    answered_at: float = float("-inf")
    noted: bool | None = None
    noted_at: float = float("-inf")

    def needs_note(self, now: float) -> bool:
        """Returns True if the note for other processes should be written."""
        is_old_news = self.is_quick and self.noted
        return now - self.noted_at >= (_QUICK_NOTE_SECONDS if is_old_news else _NOTE_SECONDS)


class Receivers:
    """The receivers that one process knows, by tenant and origin. Any thread may use it.

    `now()` returns seconds of a clock that is never set back, `jitter()` draws from 0 to 1.
    """

    def __init__(self, now: Callable[[], float], jitter: Callable[[], float], notes: Notes) -> None:
        self._now = now
        self._jitter = jitter
        self._notes = notes
        self._receivers: OrderedDict[tuple[str, str], _Receiver] = OrderedDict()
        self._tenants: OrderedDict[str, TenantAccounts] = OrderedDict()
        self._common = CommonAccounts()
        self._changing = threading.Lock()
        #: Draws of a second for deliveries that rest, and the number of these by receiver.
        self._drawn_at = float("-inf")
        self._drawn: list[float] = []
        self._rested: Counter[tuple[str, str]] = Counter()

    def rest_seconds(self, tenant: str, origin: str, receives: int = 1) -> float:
        """Returns the seconds after which a delivery should be tried again; 0 to make it now.

        They are 10 at least, and up to twice the rest, so that not all deliveries come back at the
        same time. They are 20 at most if the receiver is not known to be slow. They grow with
        `receives`, the receives of the message so far: see `least_return_seconds`.
        """
        if self._should_ask(tenant, origin) and (note := self._notes.read(tenant, origin)):
            self._learn(tenant, origin, note)
        if self._should_count(tenant, origin) and self._notes.count_turned(tenant):
            self._hear(tenant)
        with self._changing:
            accounts, now = self._accounts(tenant), self._now()
            known = self._known(tenant, origin)
            rest = accounts.rest_seconds(now, is_quick=known.is_quick)
            gap = accounts.gap_seconds(now, is_quick=known.is_quick)
            common = self._common_rest(tenant, known, now)
        if rest <= 0 < gap and is_many(self._notes.count_turned(tenant)):
            rest = gap
        if max(rest, common) <= 0:
            with self._changing:
                if not known.is_quick:
                    self._common.begin(now, known)
            return 0.0
        longest = max(rest, common) if known.is_quick is False else 0.0
        least = max(longest, least_return_seconds(receives))
        seconds = least * (1 + self._spread(tenant, origin, now))
        return seconds if common <= 0 else _until_slot(now, seconds)

    @contextmanager
    def waiting(self, tenant: str, origin: str) -> Iterator[None]:
        """Accounts for the time until a delivery's answer, however it ends.

        A delivery that raises was not answered.
        """
        start, was_answered = self._now(), False
        try:
            yield
            was_answered = True
        finally:
            self._end(tenant, origin, start, self._now(), was_answered=was_answered)

    def _end(
        self, tenant: str, origin: str, start: float, end: float, *, was_answered: bool
    ) -> None:
        is_quick = end - start < _QUICK_SECONDS
        late_seconds = end - start if was_answered and not is_quick else None
        with self._changing:
            receiver = _remembered(self._receivers, (tenant, origin), _Receiver)
            was_quick = receiver.is_quick
            receiver.is_quick, receiver.late_seconds = is_quick, late_seconds
            receiver.answered_at = end
            if not is_quick:
                jitter = self._jitter()
                _remembered(self._tenants, tenant, TenantAccounts).add(
                    start, end, jitter, was_quick=was_quick
                )
                self._common.add(tenant, start, end, jitter, was_answered=was_answered)
            needs_note = receiver.needs_note(end)
            if needs_note:
                receiver.noted, receiver.noted_at = is_quick, end
        if needs_note:
            self._notes.write(tenant, origin, is_quick=is_quick, late_seconds=late_seconds)
        if was_quick is not False and not is_quick:
            self._notes.note_turned(tenant, origin)

    def _common_rest(self, tenant: str, known: Known, now: float) -> float:
        """Returns the rest by the accounts over all tenants, 0 or less if none.

        Quick receivers, and unknown ones of tenants that have no slow ones, never rest by them. So
        a tenant that has no slow receivers does not notice those of others.
        """
        accounts = self._accounts(tenant)
        if known.is_quick or (known.is_quick is None and not accounts.has_slow(now)):
            return 0.0
        return self._common.rest_seconds(now, known, accounts.unasked_seconds(now))

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

        So nothing is read while no receiver of the tenant is slow, and fewer than three tenants
        have slow ones.
        """
        with self._changing:
            known, now = self._known(tenant, origin), self._now()
            if self._common.owe_rest(now) and known.age >= _FRESH_SECONDS:
                return True
            is_quick = known.is_quick
            return is_quick is not False and self._accounts(tenant).owes_rest(
                now, is_quick=is_quick
            )

    def _should_count(self, tenant: str, origin: str) -> bool:
        """Returns True if slow ones of its tenant in other processes make a receiver rest."""
        with self._changing:
            now = self._now()
            return (
                self._common.owe_rest(now)
                and self._known(tenant, origin).is_quick is None
                and not self._accounts(tenant).has_slow(now)
            )

    def _hear(self, tenant: str) -> None:
        with self._changing:
            _remembered(self._tenants, tenant, TenantAccounts).hear(self._now())

    def _learn(self, tenant: str, origin: str, note: Note) -> None:
        """Takes over a note, if it is newer than the last answer to this process."""
        with self._changing:
            receiver = _remembered(self._receivers, (tenant, origin), _Receiver)
            receiver.noted = note.is_quick
            answered_at = self._now() - note.age
            if answered_at > receiver.answered_at:
                receiver.is_quick, receiver.late_seconds = note.is_quick, note.late_seconds
                receiver.answered_at = answered_at

    def _known(self, tenant: str, origin: str) -> Known:
        receiver = self._receivers.get((tenant, origin), _Receiver())
        return Known(receiver.is_quick, receiver.late_seconds, self._now() - receiver.answered_at)

    def _accounts(self, tenant: str) -> TenantAccounts:
        return self._tenants.get(tenant) or TenantAccounts()


def least_return_seconds(receives: int) -> float:
    """Returns the least time until a message comes back that rests, in seconds.

    `receives` counts its receives so far.
    """
    return max(_LEAST_RETURN, receives**4 / _RECEIVES_TO_THE_FOURTH)


def _until_slot(now: float, seconds: float) -> float:
    """Returns the seconds until the end of the slot in which `seconds` from `now` are."""
    return math.ceil((now + seconds) / _SLOT_SECONDS) * _SLOT_SECONDS - now


def _remembered(known: OrderedDict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    """Returns what is known under a key, and forgets what was unused for the longest time."""
    value = known.setdefault(key, make())
    known.move_to_end(key)
    if len(known) > _REMEMBERED:
        known.popitem(last=False)
    return value
