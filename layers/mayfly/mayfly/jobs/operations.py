"""What people and sweeps do to jobs that they do not run: list, cancel, redrive, announce again,
keep what cannot be read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from mayfly.aws.dynamodb import ConditionFailed, DynamoDB, Item
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import key
from mayfly.jobs import writes
from mayfly.jobs.errors import JobEnded, JobIsLive, JobNotFound, StaleWrite
from mayfly.jobs.items import DUE, attention, attention_partition, job_key, read_job
from mayfly.jobs.model import TERMINAL, Job, Status, Unreadable
from mayfly.jobs.rules import RETENTION_SECONDS, idle_since_ms, is_expired, wait_before_claim_ms
from mayfly.jobs.store import JobStore

__all__ = ["JobOperations", "Page", "Unfinished"]

_CANCEL_TRIES: Final = 5
#: The one partition of what could not be read.
_UNREADABLE: Final = "unreadable"
#: DynamoDB's items hold 400 KB and a message 1 MiB: a body is kept in pieces of this many bytes.
_PIECE: Final = 300_000


@dataclass(frozen=True)
class Page:
    """Some jobs, and where the next page begins: the last job's id and time, None after the last
    page.
    """

    jobs: list[Job]
    next: tuple[str, int] | None


@dataclass(frozen=True)
class Unfinished:
    """Items of jobs that have not ended, the number of items read, and where the next page
    begins.
    """

    items: list[Item]
    read: int
    next: Item | None


class JobOperations:
    """Jobs of all tenants, as their keepers need them."""

    def __init__(self, db: DynamoDB, table: str) -> None:
        self._db = db
        self._table = table
        self._store = JobStore(db, table)

    def cancel(self, tenant: str, job_id: str, *, now_ms: int) -> Job:
        """Ends a job that has not ended, and returns it. Nothing of it can be committed after this.

        Raises JobNotFound, JobEnded when it has ended in another way, StoreUnavailable.
        """
        for _ in range(_CANCEL_TRIES):
            job = self._store.read(tenant, job_id, now_ms=now_ms)
            if job.status is Status.CANCELLED:
                return job
            if job.status in TERMINAL:
                raise JobEnded(job_id, job.status)
            if self._change("cancel", writes.cancel(self._table, job, now_ms=now_ms)):
                return self._store.read(tenant, job_id, now_ms=now_ms)
        raise StoreUnavailable("cancel", "the job changed hands again and again")

    def cancel_scheduled(self, tenant: str, job_id: str, *, now_ms: int) -> None:
        """Ends a job whose time has not come; one that has begun, or ended, is left as it is.

        Raises JobNotFound, StoreUnavailable.
        """
        job = self._store.read(tenant, job_id, now_ms=now_ms)
        if job.status is Status.SCHEDULED:
            self._change(
                "cancel", writes.cancel(self._table, job, now_ms=now_ms)
            )  # refused: it has begun

    def redrive(self, tenant: str, job_id: str, *, now_ms: int) -> Job:
        """Opens a new run of a dead job, with all its attempts, and returns it; the stream
        announces it.

        Raises JobNotFound, JobEnded when it is not dead, StoreUnavailable.
        """
        job = self._store.read(tenant, job_id, now_ms=now_ms)
        if job.status is not Status.DEAD:
            raise JobEnded(job_id, job.status)
        self._change(
            "redrive", writes.redrive(self._table, job)
        )  # refused: somebody else has just done it
        return self._store.read(tenant, job_id, now_ms=now_ms)

    def resend(self, tenant: str, job_id: str, *, now_ms: int) -> Job:
        """Has the stream announce a job again whose message is lost, and returns it. Harmless where
        the message is not lost.

        A job whose last attempt was interrupted is dead, and is ended so. Raises JobNotFound,
        JobEnded, StoreUnavailable; JobIsLive where a worker holds it, or its time has not come.
        """
        job = self._store.read(tenant, job_id, now_ms=now_ms)
        if job.status in TERMINAL:
            raise JobEnded(job_id, job.status)
        if (
            job.status is not Status.SCHEDULED
            and (wait_ms := wait_before_claim_ms(job, now_ms)) > 0
        ):
            raise JobIsLive(job_id, wait_ms / 1000)
        self.resend_seen(job, now_ms=now_ms)  # a conflict: it has moved on by itself
        return self._store.read(tenant, job_id, now_ms=now_ms)

    def resend_seen(self, job: Job, *, now_ms: int) -> Status | None:
        """Has the stream announce a job again that may be claimed now, in the version that was
        seen.

        Returns the status that was written: DEAD if the job's last attempt was interrupted. None if
        the job has changed since it was seen. Raises StoreUnavailable.
        """
        if job.status is Status.INPROGRESS and job.attempt >= job.max_attempts:
            try:
                self._store.bury(job, now_ms=now_ms)
            except StaleWrite:
                return None
            return Status.DEAD
        if not self._change("resend", writes.resend(self._table, job, now_ms=now_ms)):
            return None
        return Status.SCHEDULED if job.status is Status.SCHEDULED else Status.QUEUED

    def list(
        self, tenant: str, status: Status, *, limit: int, after: tuple[str, int] | None, now_ms: int
    ) -> Page:
        """A page of a tenant's scheduled or dead jobs, by their time. Raises StoreUnavailable.

        `after` is where the page before ended. Eventually consistent: a job may show a moment late.
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
        # Without payloads that stand beside their job: a page of them could be larger than any
        # answer.
        jobs = [job for job in map(read_job, reply["Items"]) if not is_expired(job, now_ms)]
        last = reply.get("LastEvaluatedKey")
        return Page(
            jobs,
            (last["pk"]["S"].rsplit("/", 1)[1], int(last["attention_at"]["N"])) if last else None,
        )

    def stranded(self, *, before_ms: int) -> Iterator[Job | None]:
        """Jobs that nothing may be announcing any more: queued, due, abandoned or past their time
        since before `before_ms`.

        Reads the whole table, since an ordinary job is in no index; gives None after each page, for
        progress. Raises StoreUnavailable.
        """
        after: Item | None = None
        while True:
            page = self.unfinished(after=after)
            yield from (job for job in map(read_job, page.items) if idle_since_ms(job) < before_ms)
            yield None
            if page.next is None:
                return
            after = page.next

    def unfinished(
        self, *, after: Item | None, limit: int | None = None, is_consistent: bool = False
    ) -> Unfinished:
        """Reads a page of the table, and returns the jobs on it that have not ended. Raises
        StoreUnavailable.

        `after` is where the page before ended, `limit` the number of items that are read, whatever
        they are. A page ends after 1 MB at the latest: 128 read units, 256 if it `is_consistent`.
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

    def release_due(self, *, before_ms: int, limit: int) -> int:
        """Takes up to `limit` jobs whose time comes before `before_ms` out of the `due` index;
        returns how many it found.

        The stream then announces each to the queue, with the delay that is left. Taking one out
        twice is refused, so that several sweeps at once do no harm; what a sweep that dies has not
        taken out stays for the next. Raises StoreUnavailable.
        """
        found = self._db.query(
            "sweep",
            TableName=self._table,
            IndexName="due",
            KeyConditionExpression="#due = :due AND #at < :before",
            ExpressionAttributeNames={"#due": "due", "#at": "attention_at"},
            ExpressionAttributeValues={":due": {"S": DUE}, ":before": {"N": str(before_ms)}},
            Limit=limit,
        )["Items"]
        for item in found:
            self._change("sweep", writes.take_due(self._table, read_job(item)))
        return len(found)

    def keep_unreadable(self, found: Unreadable) -> None:
        """Keeps a message that is no job, whole, for the operator; the same message again changes
        nothing. Raises StoreUnavailable.
        """
        body = found.body.encode("utf-8", "surrogatepass")
        pieces = [body[start : start + _PIECE] for start in range(0, len(body), _PIECE)] or [b""]
        # The first piece last: who sees it finds the others.
        for index in reversed(range(len(pieces))):
            item: Item = {
                **_unreadable_key(found.message_id, index),
                "body": {"B": pieces[index]},
                "expires_at": {"N": str(found.kept_at_ms // 1000 + RETENTION_SECONDS)},
            }
            if index == 0:
                item |= {
                    "problem": {"S": found.problem},
                    "kept_at": {"N": str(found.kept_at_ms)},
                    "pieces": {"N": str(len(pieces))},
                    "message_id": {"S": found.message_id},
                }
            self._db.put("keep unreadable", TableName=self._table, Item=item)

    def unreadable(self, *, now_ms: int) -> Iterator[Unreadable]:
        """Every message that was kept, whole, oldest key first. Raises StoreUnavailable."""
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
        bodies = {item["sk"]["S"]: item["body"]["B"] for item in items}
        for item in items:
            if "problem" in item and int(item["expires_at"]["N"]) * 1000 >= now_ms:
                message_id = item["message_id"]["S"]
                keys = [
                    _unreadable_key(message_id, index)["sk"]["S"]
                    for index in range(int(item["pieces"]["N"]))
                ]
                body = b"".join(bodies[each] for each in keys).decode("utf-8", "surrogatepass")
                yield Unreadable(message_id, body, item["problem"]["S"], int(item["kept_at"]["N"]))

    def forget_unreadable(self, message_id: str) -> None:
        """Deletes a kept message, once somebody has dealt with it.

        Raises JobNotFound, StoreUnavailable.
        """
        first = self._db.get("forget", self._table, _unreadable_key(message_id, 0))
        if first is None:
            raise JobNotFound(message_id)
        for index in range(int(first["pieces"]["N"])):
            self._db.delete("forget", TableName=self._table, Key=_unreadable_key(message_id, index))

    def _change(self, operation: str, write: dict[str, Any]) -> bool:
        """Sends an update; False where its condition did not hold: the job is no longer as it was
        seen.
        """
        try:
            self._db.update(operation, **write)
        except ConditionFailed:
            return False
        return True


def _unreadable_key(message_id: str, piece: int) -> Item:
    return {"pk": {"S": _UNREADABLE}, "sk": {"S": key(message_id, str(piece))}}
