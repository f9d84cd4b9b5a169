"""Limits on DynamoDB: each take is a conditional write, or a transaction of several."""

from collections.abc import Mapping, Sequence
from typing import Final

from mayfly.aws.dynamodb import ConditionFailed, DynamoDB, Item, TransactionCancelled
from mayfly.core.clock import Clock
from mayfly.core.errors import StoreUnavailable
from mayfly.limits.model import Decision, Limit
from mayfly.limits.rules import Write, decide, item_key, look, plan, update

__all__ = ["LimitStore"]

#: Tries of a take. A try fails if the state was not as this process guessed.
_TRIES: Final = 12
#: States that this process remembers for its guesses. A forgotten one costs one more call.
_REMEMBERED: Final = 10_000
#: Time for which a remembered state may refuse without a call, in milliseconds. Another process may
#: have reset the limit.
_REFUSES_MS: Final = 1000
_PASSING: Final = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}


class LimitStore:
    """Limits of all tenants, in the table of the counters."""

    def __init__(self, db: DynamoDB, table: str, *, clock: Clock) -> None:
        self._db = db
        self._table = table
        self._clock = clock
        #: States as this process last read them, and when, for guesses. The store decides each
        #: admission. A refusal that follows from a guess is certain (rules.py) unless the limit was
        #: reset since, so it costs no call for `_REFUSES_MS`.
        self._seen: dict[str, tuple[Mapping[str, int], int]] = {}

    def take(self, tenant: str, limit: Limit, subject: str, cost: int) -> Decision:
        """Takes from one limit, or refuses.

        Costs one write if the guess of the state was good enough, otherwise two. If a response is
        lost, the SDK's retry may take twice; then there is less room, so the limit still holds.
        A cost of 0 is a read. Raises StoreUnavailable.
        """
        if cost == 0:
            return self.read(tenant, limit, subject, cost)
        has_asked = False
        for _ in range(_TRIES):
            now_ms = self._clock()
            key = item_key(limit, tenant, subject, now_ms)
            step = plan(limit, cost, now_ms, self._guess(key))
            if isinstance(step, Decision):
                # A state that the store gave to this very take may refuse, however slow it was.
                if has_asked or not self._forgot_old(key):
                    return step
                continue
            try:
                item = self._db.update(
                    "take from the limit", ReturnValues="ALL_NEW", **update(self._table, key, step)
                )
            except ConditionFailed as refusal:
                self._remember(key, refusal.item, now_ms)
                has_asked = True
                continue
            return decide(limit, now_ms, self._remember(key, item, now_ms))
        raise StoreUnavailable("take from the limit", "conflicts with other writers in every try")

    def read(self, tenant: str, limit: Limit, subject: str, cost: int) -> Decision:
        """Returns the decision that a take would get now, by one read. Raises StoreUnavailable."""
        now_ms = self._clock()
        key = item_key(limit, tenant, subject, now_ms)
        item = self._db.get("read the limit", self._table, key)
        return look(limit, cost, now_ms, self._remember(key, item, now_ms))

    def reset(self, tenant: str, limit: Limit, subject: str) -> None:
        """Deletes the state of one subject. Raises StoreUnavailable."""
        key = item_key(limit, tenant, subject, self._clock())
        self._db.delete("reset the limit", TableName=self._table, Key=key)
        self._seen.pop(_name(key), None)

    def take_all(self, tenant: str, limits: Sequence[Limit], subject: str, cost: int) -> Decision:
        """Takes from all limits in one transaction, or from none.

        Returns the tightest admission, or a refusal. A cost of 0 is a read of each. Raises
        StoreUnavailable.
        """
        if cost == 0:
            return _tightest([self.read(tenant, limit, subject, 0) for limit in limits])
        has_asked = False
        for attempt in range(_TRIES):
            if attempt and not self._db.pause(min(attempt, 4)):
                break
            now_ms = self._clock()
            keys = [item_key(limit, tenant, subject, now_ms) for limit in limits]
            steps = [
                plan(limit, cost, now_ms, self._guess(key))
                for limit, key in zip(limits, keys, strict=True)
            ]
            refused = [step for step in steps if isinstance(step, Decision)]
            if refused:
                if has_asked or not self._forgot_old(*keys):
                    return _tightest(refused)
                continue
            writes = [
                update(self._table, key, step)
                for key, step in zip(keys, steps, strict=True)
                if isinstance(step, Write)
            ]
            try:
                self._db.transact("take from the limits", [{"Update": write} for write in writes])
            except TransactionCancelled as refusal:
                self._note(keys, refusal, now_ms)
                has_asked = True
                continue
            items = {
                (item["pk"]["S"], item["sk"]["S"]): item
                for item in self._db.get_many("read the limits", self._table, keys)
            }
            states = [
                self._remember(key, items.get((key["pk"]["S"], key["sk"]["S"])), now_ms)
                for key in keys
            ]
            decisions = [
                decide(limit, now_ms, state)
                for limit, state in zip(limits, states, strict=True)
                if state
            ]
            if not decisions:
                raise StoreUnavailable("read the limits", "the items just written do not exist")
            return _tightest(decisions)
        raise StoreUnavailable("take from the limits", "others came first in every try")

    def _note(self, keys: Sequence[Item], refusal: TransactionCancelled, now_ms: int) -> None:
        """Remembers the states of a refused transaction.

        Raises StoreUnavailable if a retry would not help.
        """
        codes = {reason.code for reason in refusal.reasons}
        if not codes & {*_PASSING, "ConditionalCheckFailed"}:
            raise StoreUnavailable("take from the limits", ", ".join(sorted(codes))) from refusal
        for key, reason in zip(keys, refusal.reasons, strict=True):
            if reason.code == "ConditionalCheckFailed":
                self._remember(key, reason.item, now_ms)

    def _guess(self, key: Item) -> Mapping[str, int]:
        state, _ = self._seen.get(_name(key), ({}, 0))
        return state

    def _forgot_old(self, *keys: Item) -> bool:
        """Forgets states that are too old to refuse by them; returns True if there were any."""
        now_ms = self._clock()
        old = [
            name
            for name in map(_name, keys)
            if not 0 <= now_ms - self._seen.get(name, ({}, now_ms))[1] < _REFUSES_MS
        ]
        for name in old:
            self._seen.pop(name, None)
        return bool(old)

    def _remember(self, key: Item, item: Item | None, now_ms: int) -> Mapping[str, int]:
        state = {name: int(value["N"]) for name, value in (item or {}).items() if "N" in value}
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[_name(key)] = (state, now_ms)
        return state


def _tightest(decisions: Sequence[Decision]) -> Decision:
    """Returns the refusal that lasts longest, or the admission that leaves least."""
    refusals = [decision for decision in decisions if not decision.is_allowed]
    if refusals:
        return max(refusals, key=lambda decision: decision.reset_ms)
    return min(decisions, key=lambda decision: decision.remaining)


def _name(key: Item) -> str:
    return f"{key['pk']['S']} {key['sk']['S']}"
