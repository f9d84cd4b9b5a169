"""The unit of work of one job: the writes to make if it succeeds.

A task describes its effects and writes nothing itself. The worker writes them with the job's
completion in one transaction, which only the job's current owner can make (`JobStore.commit_many`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mayfly.core.clock import Clock
from mayfly.core.errors import InvalidRequest
from mayfly.core.json_input import NAME, NAME_PROBLEM
from mayfly.counters.rules import MAX_STEP, SHARD, partition
from mayfly.jobs.errors import TooManyEffects
from mayfly.limits.model import Algorithm, Limit
from mayfly.limits.rules import Write, check, item_key, plan, update

__all__ = ["EFFECT_LIMIT", "Effect", "Effects", "Item", "merged"]

#: Items of one transaction, without the job's own.
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
EFFECT_LIMIT: Final = 99

#: Makes the items of a follow-up job: `follow_up(task, payload, max_attempts, delay_seconds,
#: ordinal)`.
FollowUp = Callable[[str, Any, int | None, float, int], list[dict[str, Any]]]


@dataclass(frozen=True)
class Effect:
    """One write of a transaction, with the name that an error gives it.

    `adds` is the step of an unconditional increment: two of one item may become one write.
    """

    name: str
    write: dict[str, Any]
    adds: int | None = None

    @property
    def item(self) -> "Item":
        """The item that it writes to."""
        (body,) = self.write.values()
        return Item(body["TableName"], body.get("Key"), body.get("Item"))


@dataclass(frozen=True)
class Item:
    """An item as a write names it: by its key, or (in a put) by all its attributes.

    The attributes of a put contain the key.
    """

    table: str
    key: dict[str, Any] | None
    whole: dict[str, Any] | None

    def may_be(self, other: "Item") -> bool:
        """Returns True if two writes may name the same item.

        Two puts can be compared only in tables with the keys `pk` and `sk`. For others this returns
        False, and DynamoDB decides.
        """
        if self.table != other.table:
            return False
        if self.key is not None and other.key is not None:
            return self.key == other.key
        if self.whole is not None and other.whole is not None:
            return {"pk", "sk"} <= self.whole.keys() and all(
                self.whole[name] == other.whole.get(name) for name in ("pk", "sk")
            )
        key, whole = (self.key, other.whole) if self.key is not None else (other.key, self.whole)
        return whole is not None and key is not None and key.items() <= whole.items()


class Effects:
    """Collects the effects of one attempt. Increments of one counter become one write.

    Items, keys and values are plain Python: texts, integers, Decimal, bytes, lists, dictionaries,
    None, booleans. Conditions and update expressions are DynamoDB's, with `#name` and `:value`
    placeholders given in `names` and `values`. DynamoDB refuses two effects on one item, except
    increments: the job then ends as dead, with this error.
    """

    def __init__(
        self,
        tenant: str,
        *,
        counters_table: str,
        serialize: Callable[[Any], Mapping[str, Any]],
        follow_up: FollowUp,
        checkpoint: Callable[..., None],
        seconds_left: Callable[[], float],
        clock: Clock,
    ) -> None:
        self._tenant = tenant
        self._counters_table = counters_table
        self._serialize = serialize
        self._follow_up = follow_up
        self._checkpoint = checkpoint
        self._seconds_left = seconds_left
        self._clock = clock
        self._increments: dict[str, int] = {}
        self._takes: dict[tuple[Limit, str], int] = {}
        self._others: list[Effect] = []
        self._follow_ups = 0

    def checkpoint(self, *progress: Any) -> None:
        """Stops a long task here if its job was cancelled or has another owner.

        Nothing of such a job can be committed, so more work on it would be wasted. Raises
        StaleWrite; do not catch it.

        With an argument, any JSON of up to 64 KB, the progress is stored on the job immediately.
        The next attempt finds it as `job.progress`, and every reader of the job sees it. Only the
        owner of a claim can write it: a job that ran without a claim is claimed first. Raises
        InvalidRequest if it is too large, StoreUnavailable.
        """
        self._checkpoint(*progress)

    def seconds_left(self) -> float:
        """Returns the time until the invocation's deadline, in seconds.

        Long tasks save a checkpoint and raise `Continue` before it.
        """
        return self._seconds_left()

    def increment(self, counter: str, by: int = 1) -> None:
        """Adds `by` to a counter of the job's tenant; not for counters that expire.

        A sharded counter is incremented in its first shard. Raises InvalidRequest for an invalid
        name or step.
        """
        if not isinstance(counter, str) or not NAME.fullmatch(counter):
            raise InvalidRequest("counter", NAME_PROBLEM)
        if isinstance(by, bool) or not isinstance(by, int):
            raise InvalidRequest("by", f"must be a whole number, not {by!r}")
        if not -MAX_STEP <= by <= MAX_STEP:
            raise InvalidRequest("by", f"must be from -{MAX_STEP} to {MAX_STEP}")
        self._increments[counter] = self._increments.get(counter, 0) + by

    def take(self, limit: Limit, key: str, cost: int = 1) -> None:
        """Takes from a limit of the tenant; the job succeeds only if the limit admits it.

        The take is part of the job's transaction. Takes of one limit and key add up. They count in
        the window in which the task has returned. The limit must be a fixed window: the conditions
        of the other algorithms depend on earlier takes.

        If the limit refuses, the job ends like one with any refused effect: as dead, or with
        `@task(..., retry_refused=True)` it is retried. Raises InvalidRequest.
        """
        total = self._takes.get((limit, key), 0) + cost
        check(limit, key, cost, least=1)
        check(limit, key, total)
        if limit.algorithm is not Algorithm.FIXED:
            raise InvalidRequest("limit", "must be a fixed window, to be an effect")
        self._takes[limit, key] = total

    def put(
        self, table: str, item: Mapping[str, Any], *, condition: str | None = None,
        names: Mapping[str, str] | None = None, values: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Writes a whole item to a table of the application; the worker's role must allow it."""
        self._add(
            "put", table, {"Item": self._serialized(item)}, condition, names=names, values=values
        )

    def update(
        self, table: str, key: Mapping[str, Any], expression: str, *, condition: str | None = None,
        names: Mapping[str, str] | None = None, values: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Updates an item by a DynamoDB update expression."""
        self._add(
            "update",
            table,
            {"Key": self._serialized(key), "UpdateExpression": expression},
            condition,
            names=names,
            values=values,
        )

    def delete(
        self, table: str, key: Mapping[str, Any], *, condition: str | None = None,
        names: Mapping[str, str] | None = None, values: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Deletes an item."""
        self._add(
            "delete", table, {"Key": self._serialized(key)}, condition, names=names, values=values
        )

    def check(
        self, table: str, key: Mapping[str, Any], condition: str, *,
        names: Mapping[str, str] | None = None, values: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Changes nothing; the job succeeds only if the condition holds at its commit."""
        self._add(
            "check", table, {"Key": self._serialized(key)}, condition, names=names, values=values
        )

    def submit(
        self,
        task: str,
        payload: Any = None,
        *,
        max_attempts: int | None = None,
        delay_seconds: float = 0,
    ) -> None:
        """Makes a follow-up job, which exists if and only if this job succeeds.

        `delay_seconds` counts from now, up to a year. A payload above 1 KB needs an item, and so an
        effect, of its own. Raises InvalidRequest, PayloadTooLarge.
        """
        self._follow_ups += 1
        for put in self._follow_up(task, payload, max_attempts, delay_seconds, self._follow_ups):
            self._others.append(Effect(f"submit {task!r}", {"Put": put}))

    def collected(self) -> list[Effect]:
        """Returns the writes to make.

        Raises TooManyEffects if they do not fit into one transaction.
        """
        count = len(self._increments) + len(self._takes) + len(self._others)
        if count > EFFECT_LIMIT:
            raise TooManyEffects(count, EFFECT_LIMIT)
        increments = [
            Effect(
                f"increment {name!r}",
                _increment_write(self._counters_table, self._tenant, name, by),
                by,
            )
            for name, by in self._increments.items()
        ]
        return [
            *increments,
            *(self._take(limit, key, cost) for (limit, key), cost in self._takes.items()),
            *self._others,
        ]

    def _take(self, limit: Limit, key: str, cost: int) -> Effect:
        now_ms = self._clock()
        write = plan(limit, cost, now_ms, {})
        assert isinstance(write, Write)  # `check` made sure that an empty window admits it
        return Effect(
            f"take from {limit.name!r}",
            {
                "Update": update(
                    self._counters_table, item_key(limit, self._tenant, key, now_ms), write
                )
            },
        )

    def _add(
        self, verb: str, table: str, write: dict[str, Any], condition: str | None, *,
        names: Mapping[str, str] | None, values: Mapping[str, Any] | None,
    ) -> None:  # fmt: skip
        for what, text in (
            ("table", table),
            ("condition", condition or ""),
            ("expression", write.get("UpdateExpression", "")),
        ):
            if not isinstance(text, str):
                raise InvalidRequest(
                    what, f"must be a text, not {type(text).__name__}; put values into `values`"
                )
        if any(not isinstance(text, str) for pair in (names or {}).items() for text in pair):
            raise InvalidRequest("names", "must map texts to texts")
        request = {"TableName": table, **write}
        if condition is not None:
            request["ConditionExpression"] = condition
        if names:
            request["ExpressionAttributeNames"] = dict(names)
        if values:
            request["ExpressionAttributeValues"] = self._serialized(values)
        operation = {
            "put": "Put",
            "update": "Update",
            "delete": "Delete",
            "check": "ConditionCheck",
        }[verb]
        self._others.append(Effect(f"{verb} in {table!r}", {operation: request}))

    def _serialized(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: dict(self._serialize(value)) for name, value in values.items()}


def _increment_write(table: str, tenant: str, name: str, by: int) -> dict[str, Any]:
    """Returns the write of an unconditional increment."""
    return {
        "Update": {
            "TableName": table,
            "Key": {"pk": {"S": partition(tenant, name)}, "sk": {"S": SHARD}},
            "UpdateExpression": "ADD #value :by",
            "ExpressionAttributeNames": {"#value": "value"},
            "ExpressionAttributeValues": {":by": {"N": str(by)}},
        }
    }


def merged(first: Effect, second: Effect) -> Effect:
    """Returns two increments of one item as one."""
    adds = (first.adds or 0) + (second.adds or 0)
    update = first.write["Update"]
    return Effect(
        first.name,
        {"Update": {**update, "ExpressionAttributeValues": {":by": {"N": str(adds)}}}},
        adds,
    )
