"""Conflicts near a request's deadline: no pause outlasts it, and the caller gets the error."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from mayfly import counters, limits
from mayfly.aws.dynamodb import DynamoDB, TransactionCancelled, longest_pause
from mayfly.aws.errors import Refused
from mayfly.core.deadline import ANSWER_SECONDS, limited
from mayfly.core.errors import StoreUnavailable
from mayfly.counters import CounterStore
from mayfly.limits import Limit, LimitStore

from tests.support.fakes import FixedClock, Names

#: Seconds that the invocation has, and that one answer takes.
HAS, ANSWER = 4.0, 0.3
#: Seconds of all tries and pauses that eight conflicts cost without a deadline.
WHOLE = 8 * ANSWER + sum(longest_pause(attempt) for attempt in range(1, 8))


class Conflicting:
    """A client each of whose answers is late, and a conflict. It has virtual time, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls = 0

    def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answers with what DynamoDB says of a conflict."""
        self.now += ANSWER
        self.calls += 1
        if operation == "BatchGetItem":
            return {"UnprocessedKeys": request["RequestItems"]}
        if operation == "TransactWriteItems":
            reason = {"Code": "TransactionConflict"}
            reasons = [reason for _ in request["TransactItems"]]
            raise self._refused("TransactionCanceledException", {"CancellationReasons": reasons})
        raise self._refused("TransactionConflictException", {})

    def pause(self, attempt: int) -> None:
        """Waits for as long as production may."""
        self.now += longest_pause(attempt)

    @staticmethod
    def _refused(code: str, answer: Mapping[str, Any]) -> Refused:
        return Refused(code, "no", status=400, answer=answer, tries=1)


def store_of(db: DynamoDB) -> CounterStore:
    return CounterStore(
        db, lambda: db, "c", clock=FixedClock(), new_nonce=Names("n"), pick=lambda shards: 0
    )


def take_from_two(db: DynamoDB) -> Any:
    two = [Limit("a", 10, period_seconds=60), Limit("b", 10, period_seconds=3600)]
    return limits.take_all(LimitStore(db, "c", clock=FixedClock()), two, tenant="acme", key="k")


VERBS: dict[str, tuple[Callable[[DynamoDB], Any], type[Exception]]] = {
    "a plain write": (lambda db: db.put("put", TableName="c", Item={}), StoreUnavailable),
    "a transaction": (lambda db: db.transact("put", [{"Put": {}}], tries=8), TransactionCancelled),
    "a batch of reads": (
        lambda db: db.get_many("read", "c", [{"pk": {"S": "a"}}]),
        StoreUnavailable,
    ),
    "a plain increment": (
        lambda db: counters.increment(store_of(db), "n", tenant="acme"),
        StoreUnavailable,
    ),
    "an increment with a key": (
        lambda db: counters.increment(store_of(db), "n", tenant="acme", idempotency_key="k"),
        StoreUnavailable,
    ),
    "a new counter": (lambda db: store_of(db).create("acme", "n", 2), StoreUnavailable),
    "a deletion": (lambda db: store_of(db).delete("acme", "n"), StoreUnavailable),
    "several limits": (take_from_two, StoreUnavailable),
}


@pytest.mark.parametrize("verb", VERBS)
def test_conflicts_are_given_up_before_the_deadline_with_the_error_of_the_last_try(
    verb: str,
) -> None:
    act, error = VERBS[verb]
    client = Conflicting()
    with (
        limited(round(HAS * 1000), monotonic=lambda: client.now),
        pytest.raises(error),
    ):
        act(DynamoDB(client, client.pause))
    assert client.now <= HAS - ANSWER_SECONDS + ANSWER
    assert client.calls > 1


def test_conflicts_without_a_deadline_have_all_their_tries() -> None:
    client = Conflicting()
    with pytest.raises(StoreUnavailable):
        VERBS["a plain write"][0](DynamoDB(client, client.pause))
    assert client.calls == 8
    assert client.now == pytest.approx(WHOLE)
