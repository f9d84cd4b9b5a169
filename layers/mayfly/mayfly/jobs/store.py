"""Jobs on DynamoDB: sends the writes of `mayfly.jobs.writes` and says what came of them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from mayfly.aws.dynamodb import ConditionFailed, DynamoDB, Item, Reason, TransactionCancelled
from mayfly.core.errors import MayflyError, StoreUnavailable
from mayfly.jobs import lifecycle, writes
from mayfly.jobs.errors import JobNotFound, StaleWrite
from mayfly.jobs.items import job_key, new_items, payload_key, read_job
from mayfly.jobs.model import Job, Status
from mayfly.jobs.rules import is_expired
from mayfly.jobs.worker.group_commit import GroupCommit, Member, Outcome, stale_write

__all__ = ["Claim", "ClaimRefused", "JobExists", "JobStore"]


class JobExists(MayflyError):
    """The id is taken; `job` is what stands there."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"job {job.id!r} exists")


class ClaimRefused(MayflyError):
    """The job is not to be claimed now; `job` is its state at that moment, None where there is no
    such job.
    """

    def __init__(self, job_id: str, job: Job | None) -> None:
        self.job = job
        super().__init__(f"job {job_id!r} cannot be claimed ({job.status if job else 'absent'})")


@dataclass(frozen=True)
class Claim:
    """A claim to make together with others: of a QUEUED job as it was read, or of one that does not
    exist yet (`is_new`).
    """

    seen: Job
    nonce: str
    is_new: bool = False


class JobStore:
    """Jobs of all tenants, as those who submit, read and run them need them."""

    def __init__(self, db: DynamoDB, table: str) -> None:
        self._db = db
        self._table = table
        self._groups = GroupCommit(db)

    def create(self, job: Job) -> None:
        """Stores a new job. Raises JobExists with the one that has this id, or StoreUnavailable.

        A repeat by the SDK after a lost answer meets this very job, and counts as success.
        """
        puts = self.puts(job)
        try:
            if len(puts) == 1:
                self._db.put("submit", **puts[0])
            else:
                self._db.transact("submit", [{"Put": put} for put in puts])
        except (ConditionFailed, TransactionCancelled) as refusal:
            existing = (
                refusal.item if isinstance(refusal, ConditionFailed) else refusal.reasons[0].item
            )
            if existing is None:
                raise StoreUnavailable("submit", str(refusal)) from refusal
            found = self._with_payload(existing)
            if (found.created_at_ms, found.fingerprint) != (job.created_at_ms, job.fingerprint):
                raise JobExists(found) from refusal

    def puts(self, job: Job) -> list[dict[str, Any]]:
        """The puts that make a new job, the conditional one first, for a transaction of the
        caller's.
        """
        return writes.create(self._table, job)

    def read(self, tenant: str, job_id: str, *, now_ms: int) -> Job:
        """The job.

        Strongly consistent. Raises JobNotFound (also once it has expired), StoreUnavailable.
        """
        item = self._db.get("read", self._table, job_key(tenant, job_id))
        if item is None or is_expired(read_job(item), now_ms):
            raise JobNotFound(job_id)
        return self._with_payload(item)

    def read_many(self, ids: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Job]:
        """The jobs that exist (expired ones included) of pairs of tenant and id, by pair. Strongly
        consistent.

        One call for a hundred, and one more where a payload stands beside its job. Raises
        StoreUnavailable.
        """
        items = self._db.get_many("read", self._table, [job_key(*pair) for pair in ids])
        jobs = [read_job(item) for item in items]
        beside = [
            payload_key(job.tenant, job.id, job.fingerprint)
            for job, item in zip(jobs, items, strict=True)
            if "payload" not in item
        ]
        payloads = {
            found["pk"]["S"]: found
            for found in self._db.get_many("read payload", self._table, beside)
        }
        return {
            (job.tenant, job.id): read_job(item, payloads.get(item["pk"]["S"]))
            for job, item in zip(jobs, items, strict=True)
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
        """Makes the caller the owner of the job for `lease_ms`, and returns it; `seen` spares the
        read of a payload that was read before.

        `new` is the job to create where a message on the queue asks for one that does not exist
        yet; its item is written by its first claim. Raises ClaimRefused with the job's state;
        StoreUnavailable when the outcome is unknown (the lease of a claim that did count runs out
        by itself).
        """
        if new:
            for payload_item in new_items(new)[
                1:
            ]:  # before the job's own item, so that whoever sees the job finds its payload
                self._put_payload(payload_item)
        write = writes.claim(
            self._table, tenant, job_id, nonce=nonce, now_ms=now_ms, lease_ms=lease_ms, new=new
        )
        try:
            item = self._db.update("claim", **write)
        except ConditionFailed as refusal:
            found = refusal.item
            if found is None or not _is_claimed_by(found, nonce):
                raise ClaimRefused(job_id, read_job(found) if found else None) from refusal
            item = found  # the answer to my own claim was lost, and this is the SDK's repeat
        mine = read_job(item)
        if "payload" not in item and seen is not None and seen.fingerprint == mine.fingerprint:
            return replace(mine, payload=seen.payload)
        try:
            return self._with_payload(item)
        except StoreUnavailable:
            with suppress(
                StaleWrite, StoreUnavailable
            ):  # nothing was started: the claim is not to cost an attempt
                self.release(mine, now_ms=now_ms)
            raise

    def claim_many(
        self, claims: Sequence[Claim], *, now_ms: int, lease_ms: int
    ) -> list[Job | None]:
        """Claims up to 25 jobs in one call, each on its own; None for those that did not come
        about, which may be claimed alone.

        Raises StoreUnavailable when the outcome is unknown: then each is to be claimed alone, under
        the same nonce, which recognises a claim that did count.
        """
        mine = [
            lifecycle.claimed(each.seen, nonce=each.nonce, now_ms=now_ms, lease_ms=lease_ms)
            for each in claims
        ]
        statements = [
            writes.insert_claimed(self._table, job)
            if each.is_new
            else writes.claim_seen(self._table, each.seen, job)
            for each, job in zip(claims, mine, strict=True)
        ]
        answers = self._db.execute_many("claim", statements)
        return [
            job if _holds(answer, each.nonce) else None
            for each, job, answer in zip(claims, mine, answers, strict=True)
        ]

    def renew(self, jobs: Sequence[Job], *, now_ms: int, lease_ms: int) -> list[StaleWrite | None]:
        """Holds up to 25 claims for another `lease_ms`, in one call; a StaleWrite for each that has
        another owner or an end.

        Raises StoreUnavailable.
        """
        if len(jobs) == 1:
            try:
                self._db.update(
                    "renew", **writes.renew(self._table, jobs[0], now_ms=now_ms, lease_ms=lease_ms)
                )
            except ConditionFailed as refusal:
                return [stale_write(jobs[0].id, jobs[0].owner or "", refusal.item)]
            return [None]
        statements = [
            writes.renew_seen(self._table, job, now_ms=now_ms, lease_ms=lease_ms) for job in jobs
        ]
        answers = self._db.execute_many("renew", statements)
        return [
            stale_write(job.id, job.owner or "",
            answer.item) if answer.code == "ConditionalCheckFailed" else None
            for job, answer in zip(jobs, answers, strict=True)
        ]  # fmt: skip

    def commit_many(self, members: Sequence[Member]) -> list[Outcome]:
        """Commits several attempts in as few calls as they need; see `GroupCommit.commit`."""
        return self._groups.commit(members)

    def completion(self, job: Job, *, result: str, now_ms: int) -> dict[str, Any]:
        """The write that ends a job which the caller owns, for a Member."""
        return {"Update": writes.complete(self._table, job, result=result, now_ms=now_ms)}

    def completion_unclaimed(
        self, seen: Job, mine: Job, *, is_new: bool, result: str, now_ms: int
    ) -> dict[str, Any]:
        """The write that ends a job which was not claimed, in the version that was seen; `mine` is
        what its claim would have made of it.
        """
        return writes.advance(
            self._table,
            seen,
            lifecycle.completed(mine, now_ms=now_ms),
            is_new=is_new,
            result=result,
        )

    def claim_late(self, seen: Job, mine: Job, *, is_new: bool) -> StaleWrite | None:
        """Writes the claim of a job that is being run without one; a StaleWrite where somebody else has
        changed it. Raises StoreUnavailable.
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
        """`fail` for a job that was not claimed, in the version that was seen.

        Raises StaleWrite, StoreUnavailable.
        """
        target = lifecycle.failed(mine, error=error, retry_at_ms=retry_at_ms, now_ms=now_ms)
        if lost := self._advance("fail", seen, target, is_new=is_new):
            raise lost

    def fail(self, job: Job, *, error: str, retry_at_ms: int | None, now_ms: int) -> None:
        """Gives up the caller's claim after a failure: not to be claimed again before
        `retry_at_ms`, or DEAD where that is None.

        Raises StaleWrite, StoreUnavailable.
        """
        write = writes.fail(self._table, job, error=error, retry_at_ms=retry_at_ms, now_ms=now_ms)
        self._leave(job, write, "fail", Status(write["ExpressionAttributeValues"][":status"]["S"]))

    def bury(self, job: Job, *, now_ms: int) -> None:
        """Ends as DEAD a job whose last attempt was interrupted. `job` is its state as it was seen.

        Raises StaleWrite when it has moved on since, StoreUnavailable.
        """
        self._leave(job, writes.bury(self._table, job, now_ms=now_ms), "bury", Status.DEAD)

    def release(self, job: Job, *, now_ms: int) -> None:
        """Undoes the caller's claim of a job of which nothing was done; the attempt counts for
        nothing. Raises StaleWrite, StoreUnavailable.
        """
        self._leave(job, writes.release(self._table, job, now_ms=now_ms), "release", Status.RETRY)

    def continue_later(self, job: Job, *, now_ms: int) -> None:
        """Leaves the caller's job to another invocation, at once; no attempt is spent.

        Raises StaleWrite, StoreUnavailable.
        """
        self._leave(
            job, writes.continue_later(self._table, job, now_ms=now_ms), "continue", Status.RETRY
        )

    def save(self, job: Job, *, progress: str) -> None:
        """Keeps the progress (JSON) of a job that the caller owns.

        Raises StaleWrite, StoreUnavailable.
        """
        try:
            self._db.update("save", **writes.save(self._table, job, progress=progress))
        except ConditionFailed as refusal:
            raise stale_write(job.id, job.owner or "", refusal.item) from refusal

    def _advance(
        self, operation: str, seen: Job, target: Job, *, is_new: bool
    ) -> StaleWrite | None:
        ((verb, request),) = writes.advance(self._table, seen, target, is_new=is_new).items()
        try:
            (self._db.put if verb == "Put" else self._db.update)(operation, **request)
        except ConditionFailed as refusal:
            if not _is_own_repeat(target, refusal.item, target.status):
                return stale_write(target.id, target.owner or "", refusal.item)
        return None

    def _leave(self, job: Job, write: dict[str, Any], operation: str, wanted: Status) -> None:
        try:
            self._db.update(operation, **write)
        except ConditionFailed as refusal:
            if not _is_own_repeat(job, refusal.item, wanted):
                raise stale_write(job.id, job.owner or "", refusal.item) from refusal

    def _put_payload(self, item: Item) -> None:
        try:
            self._db.put("claim", **writes.put_payload(self._table, item))
        except ConditionFailed:
            return  # it stands there already

    def _with_payload(self, item: Item) -> Job:
        job = read_job(item)
        if "payload" in item:
            return job
        return read_job(
            item,
            self._db.get(
                "read payload", self._table, payload_key(job.tenant, job.id, job.fingerprint)
            )
            or {},
        )


def _is_claimed_by(found: Item, nonce: str) -> bool:
    return found.get("owner") == {"S": nonce} and found["status"] == {"S": Status.INPROGRESS}


def _holds(answer: Reason, nonce: str) -> bool:
    return answer.code == "None" or (answer.item is not None and _is_claimed_by(answer.item, nonce))


def _is_own_repeat(job: Job, found: Item | None, wanted: Status) -> bool:
    return (
        found is not None
        and found.get("owner") == {"S": job.owner}
        and found["status"] == {"S": wanted}
    )
