"""Counters on DynamoDB: sends the requests of writes.py, and raises an error for each refusal."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn

from mayfly.aws.dynamodb import (
    AnswerLost,
    ConditionFailed,
    DynamoDB,
    Item,
    TransactionCancelled,
    Unwritten,
)
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
from mayfly.counters.rules import ADVISED_TRIES, LIMIT, SHARD, SHARDS, fingerprint, partition, room

__all__ = ["CounterStore"]

_LOG: Final = logging.getLogger(__name__)

#: The pause between two logs of advice in one process, in milliseconds.
_ADVICE_MS: Final = 60_000
#: Tries of a write. A try fails if the counter was not as this process expected.
_TRIES: Final = 8
#: Reasons of a cancelled transaction after which a retry may succeed.
_PASSING: Final = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}


class CounterStore:
    """Counters of all tenants.

    `adds` sends each request once: an SDK that retries a plain ADD after a lost response counts
    twice, in each of its retry modes. `repeats` returns a client whose SDK retries, for requests
    that are safe to retry. `pick(n)` draws a shard from 0 to n - 1.
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
        #: Numbers of shards that this process has read, by partition. Every write checks them.
        self._shards: dict[str, int] = {}
        #: Time of this process's last advice to shard a counter.
        self._advised_ms = -_ADVICE_MS

    def increment(self, tenant: str, name: str, step: Step) -> int:
        """Adds exactly once and returns the value: one write, and with shards one more read.

        ::

            this call   ADD value, SET last = nonce -?- answer lost - read: last = nonce?
                                                                      yes: it counted
            other call          ADD value, SET last = other           no: cannot be known

        Raises OutcomeUnknown if the response was lost and a read does not find the nonce: another
        writer may have replaced it, or the write may arrive later. Raises StoreUnavailable if
        nothing was written, and CounterLimit, CounterIsSharded, CounterOutOfRange.
        """
        return self._add(tenant, name, step, self._adds, exact=True)

    def increment_approximately(self, tenant: str, name: str, step: Step) -> int:
        """Adds, with retries after a lost response, so that the increment may count twice.

        Raises StoreUnavailable, CounterIsSharded, CounterOutOfRange.
        """
        return self._add(tenant, name, step, self._repeats(), exact=False)

    def increment_once(self, tenant: str, name: str, step: Step, idempotency_key: str) -> int:
        """Adds once for this key, in a transaction, and returns the value, which it reads after it.

        A repeat adds nothing. Raises IdempotencyKeyReused if the key came before with another step,
        and CounterLimit, CounterIsSharded, CounterOutOfRange. After StoreUnavailable, retry with
        the same key.
        """
        for attempt in range(_TRIES):
            if attempt and not self._repeats().pause(attempt):
                self._give_up(tenant, name)
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
                self._repeats().transact(
                    "increment the counter", [{"Put": record}, {"Update": add}]
                )
            except TransactionCancelled as refusal:
                kept, added = refusal.reasons
                if kept.code == "ConditionalCheckFailed":
                    if (kept.item or {}).get("fingerprint") != {"S": fingerprint(step)}:
                        raise IdempotencyKeyReused(f"an increment of {name!r}") from refusal
                    break  # It has counted before, or in this call, if a response was lost.
                if added.code == "ConditionalCheckFailed":
                    self._prepare(
                        tenant, name, step, sent_to=number, item=added.item, now_ms=now_ms
                    )
                elif not {kept.code, added.code} & _PASSING:
                    raise StoreUnavailable(
                        "increment the counter", f"{kept.code}, {added.code}"
                    ) from refusal
                continue
            except Unwritten:
                self._advise(tenant, name)
                raise
            break
        else:
            self._give_up(tenant, name)
        self._advise(tenant, name, attempt + 1)
        return self.read(tenant, name)

    def read(self, tenant: str, name: str) -> int:
        """Returns a counter's value, or the sum of its shards; 0 if there is no counter.

        Makes one call, strongly consistent. Shards are read one after another. The sum has every
        increment from before the call; it may have increments made during it. Raises
        StoreUnavailable.
        """
        reply = self._repeats().query(
            "read the counter",
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
        """Returns the values of counters by name.

        Makes one call for each hundred counters, and one more for each counter with shards.
        """
        keys = [_key(tenant, name) for name in dict.fromkeys(names)]
        items = {
            item["pk"]["S"]: item
            for item in self._repeats().get_many("read counters", self._table, keys)
        }
        values = {}
        for name in names:
            item = items.get(partition(tenant, name), {})
            values[name] = self.read(tenant, name) if "shards" in item else self._value(item)
        return values

    def create(self, tenant: str, name: str, shards: int) -> None:
        """Creates a counter with shards. Does nothing if it exists with this number of shards.

        Raises CounterExists, StoreUnavailable.
        """
        puts = writes.create_shards(self._table, tenant, name, shards, now_ms=self._clock())
        for attempt in range(_TRIES):
            if attempt and not self._repeats().pause(attempt):
                break
            try:
                self._repeats().transact("create the counter", [{"Put": put} for put in puts])
                return
            except TransactionCancelled as refusal:
                if (refusal.reasons[0].item or {}).get("shards") == {"N": str(shards)}:
                    return
                if any(reason.code == "ConditionalCheckFailed" for reason in refusal.reasons):
                    raise CounterExists(name) from refusal
        raise StoreUnavailable("create the counter", _conflicts())

    def delete(self, tenant: str, name: str) -> None:
        """Deletes a counter with all its shards, in one write or transaction.

        The records of idempotency keys stay. Raises StoreUnavailable.
        """
        for attempt in range(_TRIES):
            if attempt and not self._repeats().pause(attempt):
                break
            try:
                self._repeats().delete(
                    "delete the counter", **writes.delete_single(self._table, tenant, name)
                )
                return
            except ConditionFailed as refusal:
                if refusal.item is None:
                    return
                shards = int(refusal.item["shards"]["N"])
            self._shards.pop(partition(tenant, name), None)
            try:
                deletes = writes.delete_shards(self._table, tenant, name, shards)
                self._repeats().transact(
                    "delete the counter", [{"Delete": delete} for delete in deletes]
                )
                return
            except TransactionCancelled:
                continue  # The counter was deleted or created again, or another call writes to it.
        raise StoreUnavailable("delete the counter", _conflicts())

    def ping(self) -> None:
        """Raises StoreUnavailable unless the table answers."""
        self._repeats().get("check the table", self._table, _key("", ""))

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
                item = db.update(
                    "increment the counter",
                    tried=lambda tries: self._advise(tenant, name, tries),
                    ReturnValues="ALL_NEW",
                    **request,
                )
            except ConditionFailed as refusal:
                value = self._prepare(
                    tenant,
                    name,
                    step,
                    sent_to=number,
                    item=refusal.item,
                    now_ms=now_ms,
                    restarts=True,
                )
                if value is not None:
                    return value
                continue
            except Unwritten:
                self._advise(tenant, name)
                raise
            except AnswerLost as problem:
                if nonce is None:
                    raise
                item = self._settle(name, request["Key"], nonce, problem)
            return int(item["value"]["N"]) if number is None else self._sum_after(tenant, name)
        raise StoreUnavailable("increment the counter", _conflicts())

    def _give_up(self, tenant: str, name: str) -> NoReturn:
        self._advise(tenant, name)
        raise StoreUnavailable("increment the counter", _conflicts())

    def _advise(self, tenant: str, name: str, tries: int | None = None) -> None:
        """Logs that a counter should have shards, if an increment needed many tries.

        `tries` is None if the increment was given up, after however many tries.
        A process logs this at most once a minute, so a hot counter cannot flood the log.
        """
        now_ms = self._clock()
        if (tries or ADVISED_TRIES) < ADVISED_TRIES:
            return
        if 0 <= now_ms - self._advised_ms < _ADVICE_MS:
            return
        self._advised_ms = now_ms
        _LOG.warning(
            "counter %r of tenant %r should be sharded: an increment met other writers or "
            "throttling, and %s (docs/counters-and-limits.md, hot counters)",
            name,
            tenant,
            f"needed {tries} tries" if tries else "was given up",
        )

    def _prepare(
        self,
        tenant: str,
        name: str,
        step: Step,
        *,
        sent_to: int | None,
        item: Item | None,
        now_ms: int,
        restarts: bool = False,
    ) -> int | None:
        """Prepares the next try of an increment that was refused, or raises the reason.

        `sent_to` is the shard to which the increment was sent, None for a counter without shards.
        `item` is the item as it was. An expired counter is deleted, or with `restarts` replaced by
        a new one that has this increment; then its value is returned. Otherwise returns None.
        """
        place = partition(tenant, name)
        is_sharded = item is not None and "shards" in item
        if sent_to is not None:
            if is_sharded:
                raise CounterOutOfRange(name)
            self._shards.pop(place, None)  # It was deleted, or created again without shards.
            return None
        if item is not None and is_sharded:
            self._shards[place] = int(item["shards"]["N"])
            if step != Step(step.by):
                raise CounterIsSharded(name)
            return None
        if item is not None and self._has_expired(item):
            if restarts:
                return self._restart(tenant, name, step, item, now_ms)
            self._clear(tenant, name, item)
            return None
        value = int(item["value"]["N"]) if item else 0
        if not -LIMIT <= value + step.by <= LIMIT:
            raise CounterOutOfRange(name)
        raise CounterLimit(name, value, step.by)

    def _restart(
        self, tenant: str, name: str, step: Step, expired: Item, now_ms: int
    ) -> int | None:
        least, most = room(step)
        if not least <= 0 <= most:
            raise CounterLimit(name, 0, step.by)
        nonce = self._new_nonce()
        put = writes.restart(
            self._table, tenant, name, step, nonce=nonce, now_ms=now_ms, expired=expired
        )
        try:
            self._adds.put("increment the counter", **put)
        except ConditionFailed:
            return None
        except AnswerLost as problem:
            return int(self._settle(name, _key(tenant, name), nonce, problem)["value"]["N"])
        return step.by

    def _clear(self, tenant: str, name: str, expired: Item) -> None:
        with suppress(ConditionFailed):
            self._repeats().delete(
                "delete the expired counter",
                **writes.delete_expired(self._table, tenant, name, expired=expired),
            )

    def _settle(self, name: str, key: Item, nonce: str, problem: StoreUnavailable) -> Item:
        """Returns the item if its last increment is the one whose response was lost.

        Raises OutcomeUnknown.
        """
        try:
            item = self._repeats().get("increment the counter", self._table, key)
        except StoreUnavailable as second:
            raise OutcomeUnknown(name) from second
        if item is None or item.get("last") != {"S": nonce}:
            raise OutcomeUnknown(name) from problem
        return item

    def _shard_for(self, tenant: str, name: str, step: Step) -> int | None:
        """Returns the shard to which a step is sent, None for the only item of a counter.

        A shard is drawn if this process has read that the counter has some. A step with a bound or
        a time to live, which shards refuse, goes to the item too: its refusal tells whether there
        are shards now.
        """
        shards = self._shards.get(partition(tenant, name))
        return None if shards is None or step != Step(step.by) else self._pick(shards)

    def _sum_after(self, tenant: str, name: str) -> int:
        """Returns the sum of the shards, after an increment that counted.

        Raises OutcomeUnknown, since the increment must not be retried.
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


def _conflicts() -> str:
    return "conflicts with other writers in every try"
