"""Schedules on DynamoDB, in the jobs table: a tick's job and the schedule's next tick are one
transaction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mayfly.aws.dynamodb import ConditionFailed, DynamoDB, TransactionCancelled
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.model import Job
from mayfly.jobs.writes import create as create_job
from mayfly.schedules import writes
from mayfly.schedules.errors import ScheduleNotFound
from mayfly.schedules.model import Schedule

__all__ = ["ScheduleStore", "StaleWrite"]


class StaleWrite(Exception):
    """Somebody else has changed the schedule since it was read."""


class ScheduleStore:
    """Schedules of all tenants."""

    def __init__(self, db: DynamoDB, table: str) -> None:
        self._db = db
        self._table = table

    def read(self, tenant: str, name: str) -> Schedule:
        """The schedule, strongly consistent. Raises ScheduleNotFound, StoreUnavailable."""
        item = self._db.get("read schedule", self._table, writes.schedule_key(tenant, name))
        if item is None:
            raise ScheduleNotFound(name)
        return writes.read_item(item)

    def list(
        self, tenant: str, *, limit: int, after: str | None
    ) -> tuple[list[Schedule], str | None]:
        """Up to `limit` of a tenant's schedules by name, those behind `after`; and the name to go
        on behind, None at the end. Raises StoreUnavailable."""
        query: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "#pk = :pk",
            "ExpressionAttributeNames": {"#pk": "pk"},
            "ExpressionAttributeValues": {":pk": {"S": writes.partition(tenant)}},
            "ConsistentRead": True,
            "Limit": limit,
        }
        if after is not None:
            query["ExclusiveStartKey"] = writes.schedule_key(tenant, after)
        reply = self._db.query("list schedules", **query)
        found = [writes.read_item(item) for item in reply["Items"]]
        return found, found[-1].name if found and "LastEvaluatedKey" in reply else None

    def due(self, *, before_ms: int) -> Iterator[Schedule]:
        """Schedules whose next tick comes up to `before_ms`, of all tenants, the earliest first.
        Eventually consistent. Raises StoreUnavailable."""
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": "due",
            "KeyConditionExpression": "#due = :due AND #at <= :before",
            "ExpressionAttributeNames": {"#due": "due", "#at": "attention_at"},
            "ExpressionAttributeValues": {
                ":due": {"S": writes.DUE},
                ":before": {"N": str(before_ms)},
            },
        }
        while True:
            reply = self._db.query("sweep schedules", **query)
            yield from map(writes.read_item, reply["Items"])
            if "LastEvaluatedKey" not in reply:
                return
            query["ExclusiveStartKey"] = reply["LastEvaluatedKey"]

    def create(self, schedule: Schedule) -> None:
        """Stores a new schedule. Raises StaleWrite where there is one, StoreUnavailable."""
        self._send("create schedule", self._db.put, writes.create(self._table, schedule))

    def set(self, seen: Schedule, target: Schedule) -> Schedule:
        """Makes `target` of a schedule, and returns it as it is now.

        Raises StaleWrite, StoreUnavailable.
        """
        self._send("change schedule", self._db.put, writes.set_(self._table, seen, target))
        return replace(target, version=seen.version + 1)

    def delete(self, seen: Schedule) -> None:
        """Deletes a schedule. Raises StaleWrite, StoreUnavailable."""
        try:
            self._db.delete("delete schedule", **writes.delete(self._table, seen))
        except ConditionFailed as refusal:
            if not (
                refusal.was_repeated and self._is_gone(seen)
            ):  # the answer was lost, and this is the SDK's repeat
                raise StaleWrite from refusal

    def advance(
        self, seen: Schedule, jobs: Sequence[Job], *, made_ms: int, next_ms: int
    ) -> Schedule:
        """Makes the jobs of ticks and notes which tick comes next, all or nothing; returns the
        schedule as it is now.

        Raises StaleWrite where somebody else was quicker, StoreUnavailable.
        """
        puts = [put for job in jobs for put in create_job(self._table, job)]
        try:
            self._db.transact(
                "hand out",
                writes.advance(self._table, seen, made_ms=made_ms, next_ms=next_ms, puts=puts),
            )
        except TransactionCancelled as refusal:
            own, *_ = refusal.reasons
            if own.code in ("ConditionalCheckFailed", "TransactionConflict"):
                raise StaleWrite from refusal
            raise StoreUnavailable("hand out", str(refusal)) from refusal
        return replace(seen, made_ms=made_ms, next_ms=next_ms, version=seen.version + 1)

    @staticmethod
    def _send(operation: str, send: Any, request: dict[str, Any]) -> None:
        try:
            send(operation, **request)
        except ConditionFailed as refusal:
            raise StaleWrite from refusal

    def _is_gone(self, seen: Schedule) -> bool:
        return (
            self._db.get(
                "delete schedule", self._table, writes.schedule_key(seen.tenant, seen.name)
            )
            is None
        )
