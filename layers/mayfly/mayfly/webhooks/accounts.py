"""Accounts of the time for which one process waits for slow receivers.

Each account has a share of the process' time. Waiting is made up for by rest: while an account owes
more than the credit of a receiver, deliveries to this receiver rest. `mayfly.webhooks.receivers`
says which receiver rests by which account.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

__all__ = ["CommonAccounts", "Known", "TenantAccounts", "is_many"]

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
#: Receivers of a tenant that have turned slow lately, or tenants that have slow receivers, from
#: which on they are many. Fewer are an accident, after which others are likely to answer.
_MANY: Final = 3
#: The longest waiting that one delivery can account for, in seconds.
_LONGEST_SECONDS: Final = 60.0
#: Waiting that a receiver is given in advance in an account over all tenants, in seconds, less the
#: time that its delivery is expected to take. So those that answer sooner have the right of way,
#: and the process waits for two timeouts in a row at most.
_ROOM: Final = 13.0
#: The time that a delivery is expected to take if its receiver did not answer, in seconds.
_DEAD_SECONDS: Final = 13.0
#: The same if nothing is known of its receiver.
_UNKNOWN_SECONDS: Final = 4.0
#: The time after waiting for a tenant from which on its receivers have the right of way over all
#: others, however long they take, in seconds. So each tenant has its turn.
_TURN_SECONDS: Final = 300.0
#: The time after waiting for a tenant in which it has slow receivers, in seconds.
_LATELY_SECONDS: Final = 600.0
#: Deliveries to slow receivers that begin within this time are in one batch, in seconds.
_BATCH_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Known:
    """The last answer of a receiver, as a process knows it, and its age in seconds.

    `is_quick` is None if nothing is known. `late_seconds` is the time that the last delivery took
    if it was slow and was answered, None if it was quick or was not answered.
    """

    is_quick: bool | None = None
    late_seconds: float | None = None
    age: float = float("inf")


@dataclass
class _Account:
    """Waiting for some receivers (a generic cell rate algorithm).

    `rest` is the average rest after a second of waiting, in seconds. `paid_at` is the time at which
    all waiting is made up for by rest. `counted_until` is the end of the waiting that is in
    `paid_at`: deliveries that wait at the same time count once.
    """

    rest: float
    paid_at: float = float("-inf")
    counted_until: float = float("-inf")

    def add(self, start: float, end: float, jitter: float) -> None:
        """Adds the waiting of one delivery.

        `jitter`, from 0 to 1, spreads its rest by a quarter, or all processes would wait for one
        receiver at the same time.
        """
        begun = max(start, self.counted_until)
        waited = min(end - begun, _LONGEST_SECONDS)
        if waited > 0:
            rest = self.rest * (0.75 + jitter / 2)
            self.paid_at = max(self.paid_at, begun) + waited * (1 + rest)
            self.counted_until = end

    def rest_seconds(self, now: float, credit: float) -> float:
        """Returns the rest that is left, 0 or less if none; `credit` is in seconds of waiting."""
        return self.paid_at - now - credit * self.rest


class TenantAccounts:
    """The accounts of one tenant, each with a third of the process' time."""

    def __init__(self) -> None:
        self._total = _Account(rest=2.0)
        self._quick = _Account(rest=2.0)
        self._heard_at = float("-inf")

    def add(self, start: float, end: float, jitter: float, *, was_quick: bool | None) -> None:
        """Adds the waiting of one delivery."""
        self._total.add(start, end, jitter)
        if was_quick:
            self._quick.add(start, end, jitter)

    def rest_seconds(self, now: float, *, is_quick: bool | None) -> float:
        """Returns the rest that is left to a receiver, 0 or less if none."""
        credit = _SLOW_CREDIT if is_quick is False else _CREDIT
        return self._account(is_quick=is_quick).rest_seconds(now, credit)

    def gap_seconds(self, now: float, *, is_quick: bool | None) -> float:
        """Returns what is left of the gap after the last waiting, 0 or less if nothing.

        It ends when slow receivers may be asked again, if that is sooner.
        """
        account = self._account(is_quick=is_quick)
        return min(account.counted_until + _GAP - now, account.rest_seconds(now, _SLOW_CREDIT))

    def owes_rest(self, now: float, *, is_quick: bool | None) -> bool:
        """Returns True if waiting for its kind of receivers is not made up for."""
        return self._account(is_quick=is_quick).rest_seconds(now, _SLOW_CREDIT) > 0

    def hear(self, now: float) -> None:
        """Notes that the tenant has slow receivers, as other processes know."""
        self._heard_at = now

    def has_slow(self, now: float) -> bool:
        """Returns True if the tenant had slow receivers lately, in any process as far as known."""
        return now - max(self._total.counted_until, self._heard_at) < _LATELY_SECONDS

    def unasked_seconds(self, now: float) -> float:
        """Returns the time since this process has waited for the tenant."""
        return now - self._total.counted_until

    def _account(self, *, is_quick: bool | None) -> _Account:
        return self._quick if is_quick else self._total


@dataclass
class CommonAccounts:
    """The accounts over all tenants, for receivers that are not quick.

    Receivers that do not answer have half of the process' time, and those that answer late have a
    quarter. So neither can starve the other, or quick ones. They count only if many tenants have
    slow receivers: fewer have no more than a third each.
    """

    _dead: _Account = field(default_factory=lambda: _Account(rest=1.0))
    _late: _Account = field(default_factory=lambda: _Account(rest=3.0))
    #: The time of the last waiting for each tenant, the earliest first.
    _waited_at: OrderedDict[str, float] = field(default_factory=OrderedDict)
    #: Deliveries of a batch that take at most `_rides_seconds` wait next to a longer one, so they
    #: cost nothing.
    _rides_until: float = float("-inf")
    _rides_seconds: float = 0.0

    def add(
        self, tenant: str, start: float, end: float, jitter: float, *, was_answered: bool
    ) -> None:
        """Adds the waiting of one delivery."""
        self._waited_at[tenant] = end
        self._waited_at.move_to_end(tenant)
        (self._late if was_answered else self._dead).add(start, end, jitter)

    def owe_rest(self, now: float) -> bool:
        """Returns True if waiting of many tenants is not made up for."""
        return self.count(now) and max(self._dead.paid_at, self._late.paid_at) > now

    def count(self, now: float) -> bool:
        """Returns True if the accounts count, since many tenants had slow receivers lately."""
        while self._waited_at and now - next(iter(self._waited_at.values())) > _LATELY_SECONDS:
            self._waited_at.popitem(last=False)
        return is_many(len(self._waited_at))

    def rest_seconds(self, now: float, known: Known, unasked: float) -> float:
        """Returns the rest that is left to a receiver that is not quick, 0 or less if none.

        `unasked` is the time since this process has waited for its tenant.
        """
        seconds = _expected(known)
        if not self.count(now) or (now <= self._rides_until and seconds <= self._rides_seconds):
            return 0.0
        credit = _ROOM - seconds * (1 - min(1.0, unasked / _TURN_SECONDS))
        if known.is_quick is None:  # it may be of either kind
            return max(account.rest_seconds(now, credit) for account in (self._dead, self._late))
        account = self._dead if known.late_seconds is None else self._late
        return account.rest_seconds(now, credit)

    def begin(self, now: float, known: Known) -> None:
        """Notes that a delivery to a receiver that is not quick begins now."""
        seconds = _expected(known)
        if now > self._rides_until or seconds > self._rides_seconds:
            self._rides_until, self._rides_seconds = now + _BATCH_SECONDS, seconds


def is_many(number: int) -> bool:
    """Returns True if this number of receivers, or of tenants with slow ones, is no accident."""
    return number >= _MANY


def _expected(known: Known) -> float:
    """Returns the time that a delivery to a receiver is expected to take, in seconds."""
    if known.is_quick is None:
        return _UNKNOWN_SECONDS
    return _DEAD_SECONDS if known.late_seconds is None else min(known.late_seconds, _DEAD_SECONDS)
