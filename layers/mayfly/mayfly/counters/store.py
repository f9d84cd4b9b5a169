"""Counters on DynamoDB: sends the requests of writes.py, and says what their refusals mean."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from mayfly.aws.dynamodb import AnswerLost, ConditionFailed, DynamoDB, Item, TransactionCancelled
from mayfly.core.clock import Clock
from mayfly.core.errors import IdempotencyKeyReused, StoreUnavailable
from mayfly.counters import writes
from mayfly.counters.errors import (
    CounterExists,
    CounterIsSharded,
    CounterLimit,
    CounterOutOfRange,
    OutcomeUnknown,
)
from mayfly.counters.model import Step
from mayfly.counters.rules import LIMIT, SHARD, SHARDS, fingerprint, partition, room

__all__ = ["CounterStore"]

#: How often a write is prepared anew because the counter was not as it was thought to be.
_TRIES: Final = 8
#: Refusals of a transaction that may be gone at the next try.
_PASSING: Final = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}


class CounterStore:
    """Counters of all tenants.

    `adds` sends each request once: an SDK that repeats a plain ADD after a lost answer counts
    twice, in each of its retry modes. `repeats` makes a client whose SDK does repeat, for all that
    is safe to repeat. `pick(n)` draws a shard from 0 to n - 1.
    """

    def __init__(
        self,
        adds: DynamoDB,
        repeats: Callable[[], DynamoDB],
        table: str,
        *,
        clock: Clock,
        new_nonce: Callable[[], str],
        pick: Callable[[int], int],
    ) -> None:
        self._adds = adds
        self._repeats = repeats
        self._table = table
        self._clock = clock
        self._new_nonce = new_nonce
        self._pick = pick
        #: How many shards counters have, as far as this process has met them. A hint: every write
        #: checks it.
        self._shards: dict[str, int] = {}

    def increment(self, tenant: str, name: str, step: Step) -> int:
        """Adds once and returns the value, in one write; for a counter with shards, in a write and
        a read.

        ::

            this call     ADD value, SET last = nonce --?-- answer lost -- read: last = nonce?  yes: it counted
            another call                          ADD value, SET last = other                   no: cannot be known

        Raises OutcomeUnknown where the answer was lost and another writer has since replaced the
        nonce, or the write may still be on its way; StoreUnavailable where it is certain that
        nothing was written; CounterLimit, CounterOutOfRange.
        """
        return self._add(tenant, name, step, self._adds, exact=True)

    def increment_approximately(self, tenant: str, name: str, step: Step) -> int:
        """Adds, and again where an answer is lost, so that it may count twice.

        Raises StoreUnavailable, CounterOutOfRange.
        """
        return self._add(tenant, name, step, self._repeats(), exact=False)

    def increment_once(self, tenant: str, name: str, step: Step, idempotency_key: str) -> int:
        """Adds once for this key, however often it is asked, and returns the value then or later: a
        transaction and a read.

        Raises IdempotencyKeyReused where the key came with another step, CounterLimit,
        CounterOutOfRange, StoreUnavailable: repeat it.
        """
        for attempt in range(_TRIES):
            if attempt:
                self._repeats().pause(attempt)
            now_ms = self._clock()
            number = self._shard_for(tenant, name, step)
            record = writes.remember(
                self._table, tenant, name, idempotency_key, step, now_ms=now_ms
            )
            add = (
                writes.add(self._table, tenant, name, step, nonce=None, now_ms=now_ms)
                if number is None
                else writes.add_to_shard(self._table, tenant, name, number, step.by, nonce=None)
            )
            try:
                self._repeats().transact("increment", [{"Put": record}, {"Update": add}])
            except TransactionCancelled as refusal:
                kept, added = refusal.reasons
                if kept.code == "ConditionalCheckFailed":
                    if (kept.item or {}).get("fingerprint") != {"S": fingerprint(step)}:
                        raise IdempotencyKeyReused(f"an increment of {name!r}") from refusal
                    break  # made before; maybe by this very call, whose answer was lost
                if added.code == "ConditionalCheckFailed":
                    self._prepare(
                        tenant, name, step, sent_to=number, found=added.item, now_ms=now_ms
                    )
                elif not {kept.code, added.code} & _PASSING:
                    raise StoreUnavailable("increment", f"{kept.code}, {added.code}") from refusal
                continue
            break
        else:
            raise StoreUnavailable("increment", f"others came first {_TRIES} times in a row")
        return self.read(tenant, name)

    def read(self, tenant: str, name: str) -> int:
        """The value, 0 where there is no counter; shards summed. One call, strongly consistent.
        Raises StoreUnavailable.

        Shards are read one after another: what is added meanwhile may be in the sum or not, what
        was added before is.
        """
        reply = self._repeats().query(
            "read",
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :shards)",
            ExpressionAttributeValues={
                ":pk": {"S": partition(tenant, name)},
                ":shards": {"S": SHARDS},
            },
            ConsistentRead=True,
        )
        return sum(self._value(item) for item in reply["Items"])

    def read_many(self, tenant: str, names: Sequence[str]) -> dict[str, int]:
        """The values of counters by their names: one call for each hundred, and one for each that
        has shards.
        """
        keys = [_key(tenant, name) for name in dict.fromkeys(names)]
        found = {
            item["pk"]["S"]: item
            for item in self._repeats().get_many("read counters", self._table, keys)
        }
        values = {}
        for name in names:
            item = found.get(partition(tenant, name), {})
            values[name] = self.read(tenant, name) if "shards" in item else self._value(item)
        return values

    def create(self, tenant: str, name: str, shards: int) -> None:
        """Makes a counter with shards; done where it has been made with as many.

        Raises CounterExists, StoreUnavailable.
        """
        puts = writes.create_shards(self._table, tenant, name, shards, now_ms=self._clock())
        for attempt in range(_TRIES):
            if attempt:
                self._repeats().pause(attempt)
            try:
                self._repeats().transact("create", [{"Put": put} for put in puts])
                return
            except TransactionCancelled as refusal:
                if (refusal.reasons[0].item or {}).get("shards") == {"N": str(shards)}:
                    return
                if any(reason.code == "ConditionalCheckFailed" for reason in refusal.reasons):
                    raise CounterExists(name) from refusal
        raise StoreUnavailable("create", f"others were at it {_TRIES} times in a row")

    def delete(self, tenant: str, name: str) -> None:
        """Deletes a counter with all its shards, at once.

        Idempotency keys stay remembered. Raises StoreUnavailable.
        """
        for attempt in range(_TRIES):
            if attempt:
                self._repeats().pause(attempt)
            try:
                self._repeats().delete("delete", **writes.delete_single(self._table, tenant, name))
                return
            except ConditionFailed as refusal:
                if refusal.item is None:
                    return
                shards = int(refusal.item["shards"]["N"])
            self._shards.pop(partition(tenant, name), None)
            try:
                deletes = writes.delete_shards(self._table, tenant, name, shards)
                self._repeats().transact("delete", [{"Delete": each} for each in deletes])
                return
            except TransactionCancelled:
                continue  # deleted, or made anew, or written to at this moment
        raise StoreUnavailable("delete", f"others came first {_TRIES} times in a row")

    def ping(self) -> None:
        """Raises StoreUnavailable unless the table answers."""
        self._repeats().get("ping", self._table, _key("", ""))

    def _add(self, tenant: str, name: str, step: Step, db: DynamoDB, *, exact: bool) -> int:
        for _ in range(_TRIES):
            now_ms, nonce = self._clock(), self._new_nonce() if exact else None
            number = self._shard_for(tenant, name, step)
            request = (
                writes.add(self._table, tenant, name, step, nonce=nonce, now_ms=now_ms)
                if number is None
                else writes.add_to_shard(self._table, tenant, name, number, step.by, nonce=nonce)
            )
            try:
                item = db.update("increment", ReturnValues="ALL_NEW", **request)
            except ConditionFailed as refusal:
                made = self._prepare(
                    tenant,
                    name,
                    step,
                    sent_to=number,
                    found=refusal.item,
                    now_ms=now_ms,
                    restarts=True,
                )
                if made is not None:
                    return made
                continue
            except AnswerLost as problem:
                if nonce is None:
                    raise
                item = self._settle(name, request["Key"], nonce, problem)
            return int(item["value"]["N"]) if number is None else self._sum_after(tenant, name)
        raise StoreUnavailable("increment", f"others came first {_TRIES} times in a row")

    def _prepare(
        self,
        tenant: str,
        name: str,
        step: Step,
        *,
        sent_to: int | None,
        found: Item | None,
        now_ms: int,
        restarts: bool = False,
    ) -> int | None:
        """After a refusal of what was sent to a shard, or to the one item of a counter without:
        learns what the counter is, so that the next try fits, or raises where none will.

        An expired counter is put anew; the value then, where that has made the increment already.
        """
        place = partition(tenant, name)
        is_sharded = found is not None and "shards" in found
        if sent_to is not None:
            if is_sharded:
                raise CounterOutOfRange(name)
            self._shards.pop(place, None)  # it was deleted, or made anew without shards
            return None
        if found is not None and is_sharded:
            self._shards[place] = int(found["shards"]["N"])
            if step != Step(step.by):
                raise CounterIsSharded(name)
            return None
        if found is not None and self._has_expired(found):
            if restarts:
                return self._restart(tenant, name, step, found, now_ms)
            self._clear(tenant, name, found)
            return None
        value = int(found["value"]["N"]) if found else 0
        if not -LIMIT <= value + step.by <= LIMIT:
            raise CounterOutOfRange(name)
        raise CounterLimit(name, value, step.by)

    def _restart(self, tenant: str, name: str, step: Step, found: Item, now_ms: int) -> int | None:
        least, most = room(step)
        if not least <= 0 <= most:
            raise CounterLimit(name, 0, step.by)
        nonce = self._new_nonce()
        put = writes.restart(
            self._table, tenant, name, step, nonce=nonce, now_ms=now_ms, seen=found
        )
        try:
            self._adds.put("increment", **put)
        except ConditionFailed:
            return None
        except AnswerLost as problem:
            return int(self._settle(name, _key(tenant, name), nonce, problem)["value"]["N"])
        return step.by

    def _clear(self, tenant: str, name: str, found: Item) -> None:
        with suppress(ConditionFailed):
            self._repeats().delete(
                "clear", **writes.delete_expired(self._table, tenant, name, seen=found)
            )

    def _settle(self, name: str, key: Item, nonce: str, problem: StoreUnavailable) -> Item:
        """The item, if the last increment that was written there is the one whose answer was
        lost.
        """
        try:
            item = self._repeats().get("increment", self._table, key)
        except StoreUnavailable as second:
            raise OutcomeUnknown(name) from second
        if item is None or item.get("last") != {"S": nonce}:
            raise OutcomeUnknown(name) from problem
        return item

    def _shard_for(self, tenant: str, name: str, step: Step) -> int | None:
        """Where to send a step: to a shard, where this process has met some, or to the one item of
        a counter without.

        What shards do not take goes to the item, too, which says whether there are shards now.
        """
        shards = self._shards.get(partition(tenant, name))
        return None if shards is None or step != Step(step.by) else self._pick(shards)

    def _sum_after(self, tenant: str, name: str) -> int:
        """The sum of the shards, after an increment that counted.

        Raises OutcomeUnknown: it must not be repeated.
        """
        try:
            return self.read(tenant, name)
        except StoreUnavailable as problem:
            raise OutcomeUnknown(name) from problem

    def _value(self, item: Item) -> int:
        return 0 if "value" not in item or self._has_expired(item) else int(item["value"]["N"])

    def _has_expired(self, item: Item) -> bool:
        return "expires_at" in item and int(item["expires_at"]["N"]) * 1000 <= self._clock()


def _key(tenant: str, name: str) -> Item:
    return {"pk": {"S": partition(tenant, name)}, "sk": {"S": SHARD}}
