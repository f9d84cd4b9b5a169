"""Jobs on DynamoDB: sends the writes of `mayfly.jobs.writes`, and returns their results."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from mayfly.aws.dynamodb import ConditionFailed, DynamoDB, Item, Reason, TransactionCancelled
from mayfly.core.clock import Clock, system_clock
from mayfly.core.errors import MayflyError, StoreUnavailable
from mayfly.core.ids import new_id as random_id
from mayfly.jobs import lifecycle, writes
from mayfly.jobs.errors import BadRecord, JobNotFound, StaleWrite
from mayfly.jobs.group_commit import CommitOutcome, GroupCommit, Member, stale_write
from mayfly.jobs.items import UNREADABLE, job_key, new_items, payload_key, read_job
from mayfly.jobs.model import Job, Status
from mayfly.jobs.rules import describe, interruption, is_expired

__all__ = ["Claim", "ClaimRefused", "JobExists", "JobStore"]

#: Tries of a new job's transaction that meets another one, such as that of the same request.
_CREATE_TRIES: Final = 6
#: Calls for one renewal of several claims; each repeats those that the call before did not renew.
_RENEWAL_TRIES: Final = 4


class JobExists(MayflyError):
    """A job with this id exists already: `job`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"job {job.id!r} exists")


class ClaimRefused(MayflyError):
    """The job cannot be claimed now.

    `job` is its state at that moment, None if it does not exist.
    """

    def __init__(self, job_id: str, job: Job | None) -> None:
        self.job = job
        super().__init__(f"job {job_id!r} cannot be claimed ({job.status if job else 'absent'})")


@dataclass(frozen=True)
class Claim:
    """A claim to make together with others, of a QUEUED job as it was read.

    `is_new` is True if the job does not exist yet.
    """

    seen: Job
    nonce: str
    is_new: bool = False


class JobStore:
    """Jobs of all tenants, for the callers that submit, read and run them.

    `clock` and `new_id` are for the verbs of `mayfly.jobs.service`. The methods take the time as an
    argument, since a worker compares its lease with the same time that it writes. `due_shards` is
    the number of shards of the `due` index over which jobs are spread, from 1 to 8.
    """

    def __init__(
        self,
        db: DynamoDB,
        table: str,
        *,
        clock: Clock = system_clock,
        new_id: Callable[[], str] = random_id,
        due_shards: int = 1,
    ) -> None:
        self.db = db
        self.table = table
        self.clock = clock
        self.new_id = new_id
        self.due_shards = due_shards
        self._groups = GroupCommit(db)

    def create(self, job: Job) -> None:
        """Stores a new job.

        If the SDK retries after a lost response, it meets this very job; that counts as success.
        Raises JobExists with the job that has this id, StoreUnavailable.
        """
        puts = self.puts(job)
        try:
            if len(puts) == 1:
                self.db.put("submit", **puts[0])
            else:
                self.db.transact("submit", [{"Put": put} for put in puts], tries=_CREATE_TRIES)
        except (ConditionFailed, TransactionCancelled) as refusal:
            existing = (
                refusal.item if isinstance(refusal, ConditionFailed) else refusal.reasons[0].item
            )
            if existing is None:
                raise StoreUnavailable("submit", str(refusal)) from refusal
            other = self._with_payload(existing)
            if (other.created_at_ms, other.fingerprint) != (job.created_at_ms, job.fingerprint):
                raise JobExists(other) from refusal

    def puts(self, job: Job) -> list[dict[str, Any]]:
        """Returns the puts that make a new job, for a transaction of the caller.

        The conditional one comes first.
        """
        return writes.create(self.table, job, due_shards=self.due_shards)

    def read(self, tenant: str, job_id: str, *, now_ms: int) -> Job:
        """Returns the job, by a consistent read.

        Raises JobNotFound (also if the job has expired), BadRecord, StoreUnavailable.
        """
        item = self.db.get("read", self.table, job_key(tenant, job_id))
        try:
            if item is None or is_expired(read_job(item), now_ms):
                raise JobNotFound(job_id)
            return self._with_payload(item)
        except UNREADABLE as problem:
            raise BadRecord(job_id, describe(problem)) from problem

    def read_many(self, ids: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Job]:
        """Returns the jobs that exist, expired ones included, by pairs of tenant and id.

        Reads consistently, with one call for a hundred jobs, and one more if payloads have items of
        their own. Leaves out jobs whose records cannot be read. Raises StoreUnavailable.
        """
        items = self.db.get_many("read", self.table, [job_key(*pair) for pair in ids])
        jobs: list[tuple[Job, Item]] = []
        for item in items:
            with suppress(*UNREADABLE):
                jobs.append((read_job(item), item))
        payload_keys = [
            payload_key(job.tenant, job.id, job.fingerprint)
            for job, item in jobs
            if "payload" not in item
        ]
        payloads = {
            item["pk"]["S"]: item
            for item in self.db.get_many("read payload", self.table, payload_keys)
        }
        return {
            (job.tenant, job.id): read_job(item, payloads.get(item["pk"]["S"]))
            for job, item in jobs
        }

    def claim(
        self,
        tenant: str,
        job_id: str,
        *,
        nonce: str,
        now_ms: int,
        lease_ms: int,
        new: Job | None = None,
        seen: Job | None = None,
    ) -> Job:
        """Makes the caller the owner of the job for `lease_ms`, and returns the job.

        `seen` is the job as it was read before; it saves another read of its payload. `new` is the
        job to create if a queue message asks for a job that does not exist yet: the first claim
        writes its item.

        Raises ClaimRefused with the job's state, and StoreUnavailable if the outcome is unknown.
        The lease of a claim that did succeed then expires by itself.
        """
        if new:
            # Before the job's own item, so that every reader of the job finds its payload.
            for payload_item in new_items(new)[1:]:
                self._put_payload(payload_item)
        write = writes.claim(
            self.table, tenant, job_id, nonce=nonce, now_ms=now_ms, lease_ms=lease_ms, new=new
        )
        try:
            item = self.db.update("claim", **write)
        except ConditionFailed as refusal:
            current = refusal.item
            if current is None or not _is_claimed_by(current, nonce):
                raise ClaimRefused(job_id, read_job(current) if current else None) from refusal
            item = current  # the response to this claim was lost, and the SDK has retried it
        mine = read_job(item)
        if "payload" not in item and seen is not None and seen.fingerprint == mine.fingerprint:
            return replace(mine, payload=seen.payload)
        try:
            return self._with_payload(item)
        except StoreUnavailable:
            # Nothing was started, so the claim must not cost an attempt.
            with suppress(StaleWrite, StoreUnavailable):
                self.release(mine, now_ms=now_ms)
            raise

    def claim_many(
        self, claims: Sequence[Claim], *, now_ms: int, lease_ms: int
    ) -> list[Job | None]:
        """Claims up to 25 jobs in one call, independently of each other.

        Returns None for each job that was not claimed; it may be claimed alone. Raises
        StoreUnavailable if the outcome is unknown. The caller then claims each job alone, with the
        same nonce, which recognises a claim that did succeed.
        """
        mine = [
            lifecycle.claimed(claim.seen, nonce=claim.nonce, now_ms=now_ms, lease_ms=lease_ms)
            for claim in claims
        ]
        statements = [
            writes.insert_claimed(self.table, job)
            if claim.is_new
            else writes.claim_seen(self.table, claim.seen, job)
            for claim, job in zip(claims, mine, strict=True)
        ]
        replies = self.db.execute_many("claim", statements)
        return [
            job if _holds(reply, claim.nonce) else None
            for claim, job, reply in zip(claims, mine, replies, strict=True)
        ]

    def renew(
        self, jobs: Sequence[Job], *, now_ms: int, lease_ms: int
    ) -> list[StaleWrite | StoreUnavailable | None]:
        """Extends up to 25 claims by another `lease_ms`, in one call.

        Returns None for each claim that is renewed, a StaleWrite for each job that has another
        owner or has ended, and a StoreUnavailable for each claim that was refused for any other
        reason, such as throttling: it has its old lease. Such claims are tried again three times.
        Raises StoreUnavailable if there is no answer at all.
        """
        if len(jobs) == 1:
            try:
                self.db.update(
                    "renew", **writes.renew(self.table, jobs[0], now_ms=now_ms, lease_ms=lease_ms)
                )
            except ConditionFailed as refusal:
                return [stale_write(jobs[0].id, jobs[0].owner or "", refusal.item)]
            return [None]
        outcomes: dict[int, StaleWrite | StoreUnavailable | None] = {}
        left = list(range(len(jobs)))
        for attempt in range(_RENEWAL_TRIES):
            if attempt and not self.db.pause(attempt):
                break
            statements = [
                writes.renew_seen(self.table, jobs[index], now_ms=now_ms, lease_ms=lease_ms)
                for index in left
            ]
            try:
                replies = self.db.execute_many("renew", statements)
            except StoreUnavailable:
                if not attempt:
                    raise
                break  # the outcomes of the calls before are known
            outcomes |= {
                index: _renewal(jobs[index], reply)
                for index, reply in zip(left, replies, strict=True)
            }
            left = [index for index in left if isinstance(outcomes[index], StoreUnavailable)]
            if not left:
                break
        return [outcomes[index] for index in range(len(jobs))]

    def commit_many(self, members: Sequence[Member]) -> list[CommitOutcome]:
        """Commits several deliveries in as few calls as they need; see `GroupCommit.commit`."""
        return self._groups.commit(members)

    def completion(self, job: Job, *, result: str, now_ms: int) -> dict[str, Any]:
        """Returns the write that ends a job which the caller owns, for a Member."""
        return {"Update": writes.complete(self.table, job, result=result, now_ms=now_ms)}

    def completion_unclaimed(
        self, seen: Job, mine: Job, *, is_new: bool, result: str, now_ms: int
    ) -> dict[str, Any]:
        """Returns the write that ends a job which was not claimed, in the version that was `seen`.

        `mine` is the job as a claim by the caller would have changed it.
        """
        return writes.advance(
            self.table,
            seen,
            lifecycle.completed(mine, now_ms=now_ms),
            is_new=is_new,
            result=result,
        )

    def claim_late(self, seen: Job, mine: Job, *, is_new: bool) -> StaleWrite | None:
        """Writes the claim of a job that is running without one.

        Returns a StaleWrite if another worker has changed the job, None if the claim succeeded.
        Raises StoreUnavailable.
        """
        return self._advance("claim", seen, mine, is_new=is_new)

    def fail_unclaimed(
        self,
        seen: Job,
        mine: Job,
        *,
        is_new: bool,
        error: str,
        retry_at_ms: int | None,
        now_ms: int,
    ) -> None:
        """Does `fail` for a job that was not claimed, in the version that was `seen`.

        Raises StaleWrite, StoreUnavailable.
        """
        target = lifecycle.failed(mine, error=error, retry_at_ms=retry_at_ms, now_ms=now_ms)
        if lost := self._advance("fail", seen, target, is_new=is_new):
            raise lost

    def fail(self, job: Job, *, error: str, retry_at_ms: int | None, now_ms: int) -> None:
        """Ends the caller's claim after a failure.

        The job can be claimed again from `retry_at_ms` on, and is DEAD if that is None. Raises
        StaleWrite, StoreUnavailable.
        """
        write = writes.fail(
            self.table,
            job,
            error=error,
            retry_at_ms=retry_at_ms,
            now_ms=now_ms,
            due_shards=self.due_shards,
        )
        self._leave(job, write, "fail", Status(write["ExpressionAttributeValues"][":status"]["S"]))

    def bury(self, job: Job, *, now_ms: int, error: str | None = None) -> None:
        """Ends as DEAD a job that no worker runs. `job` is its state as it was read.

        Without an `error`, its last attempt was interrupted. Raises StaleWrite if it has changed
        since, StoreUnavailable.
        """
        write = writes.bury(self.table, job, error=error or interruption(job), now_ms=now_ms)
        self._leave(job, write, "bury", Status.DEAD)

    def shorten(self, job: Job) -> None:
        """Shortens the history of a job that no worker runs, so that it can be changed again.

        Does nothing if the job is changed at the same time. Raises StoreUnavailable.
        """
        item = self.db.get("shorten", self.table, job_key(job.tenant, job.id))
        if item is not None:
            with suppress(ConditionFailed):
                self.db.put("shorten", **writes.shorten(self.table, item))

    def release(self, job: Job, *, now_ms: int) -> None:
        """Undoes the caller's claim of a job that was not started; the attempt does not count.

        Raises StaleWrite, StoreUnavailable.
        """
        self._leave(job, writes.release(self.table, job, now_ms=now_ms), "release", Status.RETRY)

    def continue_later(self, job: Job, *, now_ms: int) -> None:
        """Leaves the caller's job to another invocation, immediately; the attempt does not count.

        Raises StaleWrite, StoreUnavailable.
        """
        self._leave(
            job, writes.continue_later(self.table, job, now_ms=now_ms), "continue", Status.RETRY
        )

    def save(self, job: Job, *, progress: str) -> None:
        """Stores the progress (JSON) of a job that the caller owns.

        Raises StaleWrite, StoreUnavailable.
        """
        try:
            self.db.update("save", **writes.save(self.table, job, progress=progress))
        except ConditionFailed as refusal:
            raise stale_write(job.id, job.owner or "", refusal.item) from refusal

    def _advance(
        self, operation: str, seen: Job, target: Job, *, is_new: bool
    ) -> StaleWrite | None:
        write = writes.advance(self.table, seen, target, is_new=is_new, due_shards=self.due_shards)
        ((verb, request),) = write.items()
        try:
            (self.db.put if verb == "Put" else self.db.update)(operation, **request)
        except ConditionFailed as refusal:
            if not _is_own_retry(target, refusal.item, target.status):
                return stale_write(target.id, target.owner or "", refusal.item)
        return None

    def _leave(self, job: Job, write: dict[str, Any], operation: str, wanted: Status) -> None:
        try:
            self.db.update(operation, **write)
        except ConditionFailed as refusal:
            if not _is_own_retry(job, refusal.item, wanted):
                raise stale_write(job.id, job.owner or "", refusal.item) from refusal

    def _put_payload(self, item: Item) -> None:
        try:
            self.db.put("claim", **writes.put_payload(self.table, item))
        except ConditionFailed:
            return  # the same payload is stored already

    def _with_payload(self, item: Item) -> Job:
        job = read_job(item)
        if "payload" in item:
            return job
        return read_job(
            item,
            self.db.get(
                "read payload", self.table, payload_key(job.tenant, job.id, job.fingerprint)
            )
            or {},
        )


def _renewal(job: Job, reply: Reason) -> StaleWrite | StoreUnavailable | None:
    if reply.code == "None":
        return None
    if reply.code == "ConditionalCheckFailed":
        return stale_write(job.id, job.owner or "", reply.item)
    return StoreUnavailable("renew", reply.code)


def _is_claimed_by(item: Item, nonce: str) -> bool:
    return item.get("owner") == {"S": nonce} and item["status"] == {"S": Status.INPROGRESS}


def _holds(reply: Reason, nonce: str) -> bool:
    return reply.code == "None" or (reply.item is not None and _is_claimed_by(reply.item, nonce))


def _is_own_retry(job: Job, item: Item | None, wanted: Status) -> bool:
    owner = None if job.owner is None else {"S": job.owner}
    return item is not None and item.get("owner") == owner and item["status"] == {"S": wanted}
