"""Schedules on DynamoDB, in the jobs table.

A tick's job and the schedule's next tick are written in one transaction.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mayfly.aws.dynamodb import ConditionFailed, DynamoDB, TransactionCancelled
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.due import earliest
from mayfly.jobs.model import Job
from mayfly.jobs.writes import create as create_job
from mayfly.schedules import items, writes
from mayfly.schedules.errors import ScheduleNotFound
from mayfly.schedules.model import Schedule

__all__ = ["ScheduleStore", "StaleWrite"]


class StaleWrite(Exception):
    """The schedule has changed since it was read; nothing was written."""


class ScheduleStore:
    """Schedules of all tenants.

    They are spread over `due_shards` shards of the `due` index, from 1 to 8. A sweep reads them in
    several `threads`.
    """

    def __init__(self, db: DynamoDB, table: str, *, due_shards: int = 1, threads: int = 4) -> None:
        self._db = db
        self._table = table
        self._due_shards = due_shards
        self._threads = threads

    def read(self, tenant: str, name: str) -> Schedule:
        """Returns the schedule, by a consistent read. It has an `error` if it cannot be read.

        Raises ScheduleNotFound, StoreUnavailable, or NewerFormat.
        """
        item = self._db.get("read schedule", self._table, items.schedule_key(tenant, name))
        if item is None:
            raise ScheduleNotFound(name)
        return items.read_any(item)

    def list(
        self, tenant: str, *, limit: int, after: str | None
    ) -> tuple[list[Schedule], str | None]:
        """Returns up to `limit` of a tenant's schedules after the name `after`, by name.

        Also returns the name after which the next page begins, None at the end. A schedule that
        cannot be read has an `error`. Raises StoreUnavailable.
        """
        query: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "#pk = :pk",
            "ExpressionAttributeNames": {"#pk": "pk"},
            "ExpressionAttributeValues": {":pk": {"S": items.partition(tenant)}},
            "ConsistentRead": True,
            "Limit": limit,
        }
        if after is not None:
            query["ExclusiveStartKey"] = items.schedule_key(tenant, after)
        reply = self._db.query("list schedules", **query)
        page = [items.read_listed(item) for item in reply["Items"]]
        return page, page[-1].name if page and "LastEvaluatedKey" in reply else None

    def due(
        self,
        *,
        before_ms: int,
        limit: int,
        failed: Callable[[StoreUnavailable], None] | None = None,
    ) -> Sequence[tuple[str, str]]:
        """Returns tenant and name of up to `limit` schedules whose next tick is up to `before_ms`.

        They are of all tenants, the earliest first. The read is eventually consistent. If a
        partition of the index cannot be read, `failed` is called with the first failure, and the
        schedules of the others are returned. Raises StoreUnavailable if `failed` is None.
        """
        due, unread = earliest(
            self._db,
            self._table,
            items.DUE,
            before_ms=before_ms + 1,
            limit=limit,
            operation="sweep schedules",
            threads=self._threads,
        )
        if unread is not None:
            if failed is None:
                raise unread
            failed(unread)
        return [items.tenant_and_name(schedule.key) for schedule in due]

    def create(self, schedule: Schedule) -> None:
        """Stores a new schedule. Raises StaleWrite if it exists, StoreUnavailable."""
        write = writes.create(self._table, schedule, due_shards=self._due_shards)
        self._send("create schedule", self._db.put, write)

    def set(self, seen: Schedule, target: Schedule) -> Schedule:
        """Replaces a schedule by `target`, and returns it with its new version.

        Raises StaleWrite, StoreUnavailable.
        """
        write = writes.set_(self._table, seen, target, due_shards=self._due_shards)
        self._send("change schedule", self._db.put, write)
        return replace(target, version=seen.version + 1)

    def delete(self, seen: Schedule) -> None:
        """Deletes a schedule. Raises StaleWrite, StoreUnavailable."""
        try:
            self._db.delete("delete schedule", **writes.delete(self._table, seen))
        except ConditionFailed as refusal:
            # If the response was lost, this is the SDK's retry of a write that succeeded.
            if not (refusal.was_repeated and self._is_gone(seen)):
                raise StaleWrite from refusal

    def advance(
        self, seen: Schedule, jobs: Sequence[Job], *, made_ms: int, next_ms: int
    ) -> Schedule:
        """Makes the jobs of ticks and stores the next tick, all or nothing; returns the schedule.

        Raises StaleWrite if another sweep was quicker, StoreUnavailable.
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
            self._db.get("delete schedule", self._table, items.schedule_key(seen.tenant, seen.name))
            is None
        )
