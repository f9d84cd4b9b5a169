"""Operations on jobs that the caller does not run, for operators and sweeps.

They list, cancel, redrive and resend jobs, and store unreadable messages.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from mayfly.aws.dynamodb import ConditionFailed, Item, RequestRefused, Unwritten
from mayfly.aws.items import binary
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import key
from mayfly.core.turns import in_turns, work_off
from mayfly.jobs import writes
from mayfly.jobs.due import earliest
from mayfly.jobs.errors import JobEnded, JobIsLive, JobNotFound, StaleWrite
from mayfly.jobs.history import shortened
from mayfly.jobs.items import (
    DUE,
    UNREADABLE,
    attention,
    attention_partition,
    job_key,
    read_job,
    read_listed,
    tenant_of,
)
from mayfly.jobs.model import TERMINAL, Job, Status, Unreadable
from mayfly.jobs.rules import (
    RETENTION_SECONDS,
    idle_since_ms,
    is_expired,
    wait_before_claim_ms,
)
from mayfly.jobs.shards import Due
from mayfly.jobs.store import JobStore

__all__ = ["JobOperations", "Page", "Unfinished"]

_CANCEL_TRIES: Final = 5
#: The one partition of unreadable messages.
_UNREADABLE: Final = "unreadable"
#: A DynamoDB item holds 400 KB and a message 1 MiB: a body is stored in pieces of this many bytes.
_PIECE: Final = 300_000
#: Jobs that a sweep takes out of the `due` index in one call: the most that one call may have.
_TOGETHER: Final = 25


@dataclass(frozen=True)
class Page:
    """Some jobs, and the place where the next page begins.

    `next` is the last job's id and time, None after the last page.
    """

    jobs: list[Job]
    next: tuple[str, int] | None


@dataclass(frozen=True)
class Unfinished:
    """A page of unfinished jobs, as items.

    `read` is the number of items that were read. `next` is the place where the next page begins.
    """

    items: list[Item]
    read: int
    next: Item | None


class JobOperations:
    """Jobs of all tenants, for operators and sweeps.

    A sweep sends calls in several `threads`.
    """

    def __init__(self, store: JobStore, *, threads: int = 4) -> None:
        self.store = store
        self._threads = threads
        self._db = store.db
        self._table = store.table

    def cancel(self, tenant: str, job_id: str, *, now_ms: int) -> Job:
        """Ends a job that has not ended, and returns it. Its worker can no longer commit.

        Raises JobNotFound, JobEnded if it has ended in another way, StoreUnavailable.
        """
        for _ in range(_CANCEL_TRIES):
            job = self.store.read(tenant, job_id, now_ms=now_ms)
            if job.status is Status.CANCELLED:
                return job
            if job.status in TERMINAL:
                raise JobEnded(job_id, job.status)
            if self._change("cancel", writes.cancel(self._table, job, now_ms=now_ms), job):
                return self.store.read(tenant, job_id, now_ms=now_ms)
        raise StoreUnavailable("cancel", "the job was changed at the same time; try again")

    def cancel_scheduled(self, tenant: str, job_id: str, *, now_ms: int) -> None:
        """Ends a job whose time has not come; leaves it unchanged if it has begun or ended.

        Raises JobNotFound, StoreUnavailable.
        """
        job = self.store.read(tenant, job_id, now_ms=now_ms)
        if job.status is Status.SCHEDULED:
            # False means that the job has begun.
            self._change("cancel", writes.cancel(self._table, job, now_ms=now_ms))

    def redrive(self, tenant: str, job_id: str, *, now_ms: int) -> Job:
        """Opens a new run of a dead job, with all its attempts, and returns it.

        The stream announces it. Raises JobNotFound, JobEnded if it is not dead, StoreUnavailable.
        """
        job = self.store.read(tenant, job_id, now_ms=now_ms)
        if job.status is not Status.DEAD:
            raise JobEnded(job_id, job.status)
        # False means that another caller has just done it.
        self._change("redrive", writes.redrive(self._table, job), job)
        return self.store.read(tenant, job_id, now_ms=now_ms)

    def resend(self, tenant: str, job_id: str, *, now_ms: int) -> Job:
        """Makes the stream announce a job again whose message is lost, and returns the job.

        This does no harm if the message is not lost. A job whose last attempt was interrupted ends
        as dead. Raises JobNotFound, JobEnded, StoreUnavailable; JobIsLive if a worker holds the
        job, or if it waits for its next attempt.
        """
        job = self.store.read(tenant, job_id, now_ms=now_ms)
        if job.status in TERMINAL:
            raise JobEnded(job_id, job.status)
        if (
            job.status is not Status.SCHEDULED
            and (wait_ms := wait_before_claim_ms(job, now_ms)) > 0
        ):
            raise JobIsLive(job_id, wait_ms / 1000)
        self.resend_seen(job, now_ms=now_ms)  # None: the job has changed, and needs no message
        return self.store.read(tenant, job_id, now_ms=now_ms)

    def resend_seen(self, job: Job, *, now_ms: int) -> Status | None:
        """Makes the stream announce a claimable job again, in the version that was read.

        Returns the status that was written: DEAD if the job's last attempt was interrupted. Returns
        None if the job has changed since it was read. Raises StoreUnavailable.
        """
        if job.status is Status.INPROGRESS and job.attempt >= job.max_attempts:
            try:
                self.store.bury(job, now_ms=now_ms)
            except StaleWrite:
                return None
            return Status.DEAD
        if not self._change("resend", writes.resend(self._table, job, now_ms=now_ms), job):
            return None
        return Status.SCHEDULED if job.status is Status.SCHEDULED else Status.QUEUED

    def list(
        self, tenant: str, status: Status, *, limit: int, after: tuple[str, int] | None, now_ms: int
    ) -> Page:
        """Returns a page of a tenant's scheduled or dead jobs, by their time.

        `after` is the end of the previous page. The read is eventually consistent: a job may appear
        a moment late. A job whose record cannot be read is listed with that as its error. Raises
        StoreUnavailable.
        """
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": "attention",
            "KeyConditionExpression": "#attention = :partition",
            "ExpressionAttributeNames": {"#attention": "attention"},
            "ExpressionAttributeValues": {":partition": {"S": attention_partition(tenant, status)}},
            "Limit": limit,
        }
        if after is not None:
            job_id, at_ms = after
            query["ExclusiveStartKey"] = {
                **job_key(tenant, job_id),
                **attention(tenant, status, at_ms),
            }
        reply = self._db.query("list", **query)
        # Without payloads that have items of their own: a page of them could be larger than any
        # response.
        listed = (read_listed(item, tenant, status) for item in reply["Items"])
        jobs = [job for job in listed if not is_expired(job, now_ms)]
        last = reply.get("LastEvaluatedKey")
        return Page(
            jobs,
            (last["pk"]["S"].rsplit("/", 1)[1], int(last["attention_at"]["N"])) if last else None,
        )

    def stranded(self, *, before_ms: int) -> Iterator[Job | None]:
        """Yields jobs that may have no message: queued, due, abandoned or late since `before_ms`.

        Reads the whole table, since an ordinary job is in no index. Yields None after each page,
        for progress. Leaves out jobs whose records cannot be read. Raises StoreUnavailable.
        """
        after: Item | None = None
        while True:
            page = self.unfinished(after=after)
            for item in page.items:
                with suppress(*UNREADABLE):
                    job = read_job(item)
                    if idle_since_ms(job) < before_ms:
                        yield job
            yield None
            if page.next is None:
                return
            after = page.next

    def unfinished(
        self, *, after: Item | None, limit: int | None = None, is_consistent: bool = False
    ) -> Unfinished:
        """Reads a page of the table, and returns the jobs on it that have not ended.

        `after` is the end of the previous page. `limit` is the number of items to read, of any
        kind. A page ends after 1 MB at the latest: 128 read units, 256 if it `is_consistent`.
        Raises StoreUnavailable.
        """
        scan: dict[str, Any] = {
            "TableName": self._table,
            "FilterExpression": "#sk = :job AND #status IN (:queued, :scheduled, :retry, "
            ":inprogress)",
            "ExpressionAttributeNames": {"#sk": "sk", "#status": "status"},
            "ExpressionAttributeValues": {
                ":job": {"S": "job"},
                ":queued": {"S": Status.QUEUED},
                ":scheduled": {"S": Status.SCHEDULED},
                ":retry": {"S": Status.RETRY},
                ":inprogress": {"S": Status.INPROGRESS},
            },
        }
        if after is not None:
            scan["ExclusiveStartKey"] = after
        if limit is not None:
            scan["Limit"] = limit
        if is_consistent:
            scan["ConsistentRead"] = True
        reply = self._db.scan("resend", **scan)
        return Unfinished(reply["Items"], reply["ScannedCount"], reply.get("LastEvaluatedKey"))

    def release_due(
        self, *, before_ms: int, limit: int, is_over: Callable[[], bool] = lambda: False
    ) -> int:
        """Takes up to `limit` jobs whose time is before `before_ms` out of the `due` index.

        The stream then announces each to the queue, with the delay that is left. Tenants take
        turns, so no job waits for more jobs of another tenant than it has before it of its own. A
        second removal is refused, so several sweeps at once do no harm. If a sweep crashes, or ends
        because `is_over()`, the next one finds the jobs that are left.

        Returns the number of jobs that were worked on. Raises StoreUnavailable; at the end, if the
        store has refused jobs for load. These are left to the next sweep, and hold up no others.
        """
        due = earliest(
            self._db,
            self._table,
            DUE,
            before_ms=before_ms,
            limit=limit,
            operation="sweep",
            threads=self._threads,
        )
        in_order = in_turns(due, lambda job: tenant_of(job.key))
        groups = [in_order[start : start + _TOGETHER] for start in range(0, len(due), _TOGETHER)]
        refused: dict[str, Unwritten] = {}
        taken = work_off(
            lambda group: self._take_due(group, refused),
            groups,
            threads=self._threads,
            is_over=is_over,
        )
        for refusal in refused.values():
            raise refusal
        return taken

    def _take_due(self, due: Sequence[Due], refused: dict[str, Unwritten]) -> int:
        """Takes up to 25 jobs out of the `due` index, in one call; returns their number.

        `refused` has the tenants of which jobs were refused for load, in any thread.
        """
        left = list(due)
        if len(due) > 1:
            statements = [writes.take_due_together(self._table, seen) for seen in due]
            replies = self._db.execute_many("sweep", statements)
            left = [
                seen
                for seen, reply in zip(due, replies, strict=True)
                if reply.code not in ("None", "ConditionalCheckFailed")
            ]
        # The store refused these for load or for a conflict. The client repeats a single write. If
        # that does not help, a partition of the tenant is overloaded: the tenant's other jobs are
        # not repeated, since each would wait in turn, and jobs of other tenants behind it.
        for seen in left:
            if (tenant := tenant_of(seen.key)) not in refused:
                try:
                    self._change("sweep", writes.take_due(self._table, seen))
                except Unwritten as refusal:
                    refused[tenant] = refusal
        return len(due)

    def keep_unreadable(self, message: Unreadable) -> None:
        """Stores the whole of a message that is not a valid job, for the operator.

        Storing the same message again changes nothing. Raises StoreUnavailable.
        """
        body = message.body.encode("utf-8", "surrogatepass")
        pieces = [body[start : start + _PIECE] for start in range(0, len(body), _PIECE)] or [b""]
        # The first piece is written last: a reader that finds it finds the others, too.
        for index in reversed(range(len(pieces))):
            item: Item = {
                **_unreadable_key(message.message_id, index),
                "body": {"B": pieces[index]},
                "expires_at": {"N": str(message.kept_at_ms // 1000 + RETENTION_SECONDS)},
            }
            if index == 0:
                item |= {
                    "problem": {"S": message.problem},
                    "kept_at": {"N": str(message.kept_at_ms)},
                    "pieces": {"N": str(len(pieces))},
                    "message_id": {"S": message.message_id},
                }
            self._db.put("keep unreadable", TableName=self._table, Item=item)

    def unreadable(self, *, now_ms: int) -> Iterator[Unreadable]:
        """Yields every stored message as a whole, by message id. Raises StoreUnavailable."""
        query: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "#pk = :pk",
            "ExpressionAttributeNames": {"#pk": "pk"},
            "ExpressionAttributeValues": {":pk": {"S": _UNREADABLE}},
            "ConsistentRead": True,
        }
        items: list[Item] = []
        while True:
            reply = self._db.query("list", **query)
            items += reply["Items"]
            if "LastEvaluatedKey" not in reply:
                break
            query["ExclusiveStartKey"] = reply["LastEvaluatedKey"]
        bodies = {item["sk"]["S"]: binary(item, "body") for item in items}
        for item in items:
            if "problem" in item and int(item["expires_at"]["N"]) * 1000 >= now_ms:
                message_id = item["message_id"]["S"]
                keys = [
                    _unreadable_key(message_id, index)["sk"]["S"]
                    for index in range(int(item["pieces"]["N"]))
                ]
                body = b"".join(bodies[sk] for sk in keys).decode("utf-8", "surrogatepass")
                yield Unreadable(message_id, body, item["problem"]["S"], int(item["kept_at"]["N"]))

    def forget_unreadable(self, message_id: str) -> None:
        """Deletes a stored message, after an operator has dealt with it.

        Raises JobNotFound, StoreUnavailable.
        """
        first = self._db.get("forget", self._table, _unreadable_key(message_id, 0))
        if first is None:
            raise JobNotFound(message_id)
        for index in range(int(first["pieces"]["N"])):
            self._db.delete("forget", TableName=self._table, Key=_unreadable_key(message_id, index))

    def _change(self, operation: str, write: dict[str, Any], seen: Job | None = None) -> bool:
        """Sends an update. Returns False if its condition was false.

        The job has changed since it was read. If the item of the job that was `seen` is too large
        for the update, its history is shortened first.
        """
        try:
            try:
                self._db.update(operation, **write)
            except RequestRefused as refusal:
                if seen is None or not refusal.is_malformed or shortened(seen) == seen:
                    raise
                self.store.shorten(seen)
                self._db.update(operation, **write)
        except ConditionFailed:
            return False
        return True


def _unreadable_key(message_id: str, piece: int) -> Item:
    return {"pk": {"S": _UNREADABLE}, "sk": {"S": key(message_id, str(piece))}}
