"""Increments of one counter next to other writers' transactions on its items, in virtual time.

The model: a transaction holds its item for `h` seconds, and is refused if another one holds it.
With `r` transactions a second, a try meets a conflict with the probability `r * h`. So an increment
needs `1 / (1 - r * h)` tries, and eight of them fail with `(r * h) ** 8`. Shards divide `r`.

The increments are those of the real store with its own pauses. The store below it is a model, so
the figures do not depend on the load of the machine.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from mayfly import counters
from mayfly.aws.dynamodb import DynamoDB
from mayfly.aws.errors import Refused
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import new_nonce
from mayfly.counters import CounterStore

QUESTION: Final = (
    "how often does an increment of a hot item meet a conflict, and how often is it refused, plain "
    "and keyed, with and without shards, and does the model say so?"
)
#: Milliseconds for which a transaction holds its items, and in which a plain write is answered.
HELD_MS, PLAIN_MS = 20.0, 5.0
TRIES: Final = 8
INCREMENTS: Final = 20_000
#: Keyed or not, transactions a second on all shards, shards.
CASES: Final = (
    (True, 5, 1), (True, 10, 1), (True, 20, 1), (True, 30, 1), (True, 40, 1), (True, 40, 4),
    (False, 10, 1), (False, 30, 1),
)  # fmt: skip


def share_in_conflict(rate: float, shards: int) -> float:
    """Returns the share of tries that meet a conflict, by the model."""
    return rate / shards * HELD_MS / 1000


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns tries that met a conflict, and increments that were refused, next to the model."""
    figures: dict[str, Any] = {}
    say(f"transactions hold an item for {HELD_MS:.0f} ms; {INCREMENTS} increments each")
    for is_keyed, rate, shards in CASES:
        mode = "keyed" if is_keyed else "plain"
        label = f"{mode}, {rate} transactions/s, {shards} shard{'s' if shards > 1 else ''}"
        figures |= {
            f"{label}: {name}": value for name, value in run(is_keyed, rate, shards).items()
        }
    return figures


def run(
    is_keyed: bool, rate: int, shards: int, *, increments: int = INCREMENTS
) -> dict[str, float]:
    """Returns the figures of increments next to `rate` transactions a second on all shards."""
    source = random.Random(rate)
    item = _Item(source, rate / shards)
    db = DynamoDB(item, item.pause)
    store = CounterStore(
        db, lambda: db, "counters", clock=lambda: int(item.now), new_nonce=new_nonce,
        pick=source.randrange,
    )  # fmt: skip
    refused = 0
    times: list[float] = []
    for _ in range(increments):
        began = item.now = item.now + source.expovariate(1 / 1000)
        try:
            key = new_nonce() if is_keyed else None
            counters.increment(store, "hot", tenant="t", idempotency_key=key)
        except StoreUnavailable:
            refused += 1
        times.append(item.now - began)
    times.sort()
    expected = share_in_conflict(rate, shards)
    return {
        "tries in conflict": round(item.conflicts / item.tries, 3),
        "tries in conflict, by the model": round(expected, 3),
        "refused": refused,
        "refused, by the model": round(increments * expected**TRIES, 4),
        "median, ms": round(times[len(times) // 2]),
        "p99, ms": round(times[len(times) * 99 // 100]),
    }


class _Item:
    """A client of a store with one item, which other writers' transactions hold at times."""

    def __init__(self, source: random.Random, rate: float) -> None:
        self.now = 0.0
        self.tries = self.conflicts = 0
        self._source = source
        self._idle_ms = 1000 / rate - HELD_MS
        self._begins = 0.0

    def pause(self, attempt: int) -> None:
        """Waits before a try, as production does (`mayfly.resources.dynamodb`)."""
        self.now += self._source.uniform(0, 20 * 2**attempt)

    def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answers a request."""
        if operation == "Query":
            return {"Items": []}
        self.tries += 1
        is_transaction = operation == "TransactWriteItems"
        if self._is_held():
            self.conflicts += 1
            self.now += PLAIN_MS
            raise _refusal(is_transaction)
        self.now += HELD_MS if is_transaction else PLAIN_MS
        return {"Attributes": {"value": {"N": "1"}}}

    def _is_held(self) -> bool:
        while self._begins + HELD_MS <= self.now:
            self._begins += HELD_MS + self._source.expovariate(1 / self._idle_ms)
        return self._begins <= self.now


def _refusal(is_transaction: bool) -> Refused:
    code = "TransactionCanceledException" if is_transaction else "TransactionConflictException"
    reasons = [{"Code": "None"}, {"Code": "TransactionConflict"}] if is_transaction else []
    return Refused(code, "", status=400, answer={"CancellationReasons": reasons}, tries=1)
