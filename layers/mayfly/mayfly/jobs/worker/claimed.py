"""Ownership by a claim that is written before the task runs.

It is used for exclusive tasks, and for every message that was received before, since its job may
have killed the process. Claims of exclusive tasks are made early, together, on first receives;
later ones are made when the job starts, in its thread.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from mayfly.aws.dynamodb import RequestRefused
from mayfly.core.errors import StoreUnavailable
from mayfly.core.json_input import canonical_json
from mayfly.jobs.errors import JobNotFound, LeaseHeld
from mayfly.jobs.history import shortened
from mayfly.jobs.model import Job, Outcome, Status
from mayfly.jobs.rules import describe, is_expired, is_terminal, wait_before_claim_ms
from mayfly.jobs.store import Claim, ClaimRefused, JobExists
from mayfly.jobs.worker.deps import Deps
from mayfly.jobs.worker.failures import bury_interrupted, bury_refused
from mayfly.jobs.worker.ownership import Ownership
from mayfly.jobs.worker.powertools import AlreadyCompleted

__all__ = ["STATEMENTS", "Claimed", "batched", "claim_together"]

T = TypeVar("T")

#: Statements of one BatchExecuteStatement.
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html
STATEMENTS: Final = 25


class Claimed(Ownership):
    """Ownership of a job whose item names the owner and the end of its lease."""

    def acquire(self) -> None:
        """Claims the job.

        Raises LeaseHeld if it cannot be claimed yet, ClaimRefused if it has ended or does not
        exist, and AlreadyCompleted with its result. Raises UnreadableMessage if the idempotency key
        was used with another body, MessageDone if the last attempt was interrupted or the store
        refuses the job's record, StoreUnavailable.
        """
        if self.is_taken:  # claimed early, and perhaps lost while it waited for its turn
            self.check()
            return
        seen = self._seen
        if seen is not None and not is_terminal(seen):
            self._wait_for_turn(seen)
        try:
            self._job = self._claim()
        except ClaimRefused as refusal:
            self._claim_after(refusal)
        self.is_written = True

    def ensure_written(self) -> None:
        """Does nothing: the claim was written before the task began."""

    def completion(self, result: str) -> dict[str, Any]:
        """Returns the write that ends the job; refused if it has another owner or has ended."""
        return self._deps.store.completion(self.job, result=result, now_ms=self._deps.clock())

    def fail(self, error: str, retry_at_ms: int | None, now_ms: int) -> None:
        """Records a failure. See Ownership."""
        self._deps.store.fail(self.job, error=error, retry_at_ms=retry_at_ms, now_ms=now_ms)

    def early_claim(self) -> Claim | None:
        """Returns the claim to make together with others; None if it is made at the job's turn.

        Early claims are made only on a message's first receive. A redelivered job may have killed
        its process, and could end its neighbours' claims in the same way. No early claim is made
        for a last attempt, since the crash of a neighbour would spend it.
        """
        origin = self._seen or self._request.new
        if origin is None or not self._request.is_fresh(self._seen):
            return None
        is_last = origin.attempt + 1 >= origin.max_attempts
        return None if is_last else Claim(origin, self._nonce, is_new=self._seen is None)

    def may_run_beside(self) -> bool:
        """Returns True if the job may run in a thread of its own, next to others.

        A job of which an attempt has no end may have killed its process, so it runs alone. A last
        attempt runs alone, too: the crash of a neighbour would spend it. The count of receives does
        not matter here, since a job that is claimed first never runs without a trace.
        """
        origin = self._seen or self._request.new
        if origin is None:
            return False
        is_last = origin.attempt + 1 >= origin.max_attempts
        if is_last and not self._deps.trusts_last_attempts:
            return False
        has_lost_one = bool(origin.omitted.get(Outcome.INTERRUPTED))
        return not has_lost_one and all(
            attempt.ended_at_ms is not None and attempt.outcome is not Outcome.INTERRUPTED
            for attempt in origin.history
        )

    def accept(self, job: Job | None) -> None:
        """Notes the result of an early claim; None if the job is claimed at its turn instead."""
        self._job = job
        self.is_written = job is not None

    def _claim(self) -> Job:
        """Claims the job as it is. Raises ClaimRefused, StoreUnavailable."""
        try:
            return self._write_claim()
        except RequestRefused as refusal:
            if not refusal.is_malformed:
                raise
            return self._claim_shortened(refusal)

    def _claim_shortened(self, refusal: RequestRefused) -> Job:
        """Claims a job whose record is too large for a claim, as earlier releases left some.

        If that does not help, the job is buried: every later claim would be refused, too.
        """
        deps, request = self._deps, self._request
        try:
            job = deps.store.read(request.tenant, request.job_id, now_ms=deps.clock())
        except JobNotFound:
            raise refusal from None
        if is_terminal(job):
            raise ClaimRefused(job.id, job)
        self._wait_for_turn(job)
        if shortened(job) == job:
            bury_refused(deps, job, refusal)
        deps.store.shorten(job)
        try:
            return self._write_claim()
        except RequestRefused as again:
            if again.is_malformed:
                bury_refused(deps, job, again)
            raise

    def _write_claim(self) -> Job:
        return self._deps.store.claim(
            self._request.tenant,
            self._request.job_id,
            nonce=self._nonce,
            now_ms=self._deps.clock(),
            lease_ms=self._deps.lease_ms,
            new=self._request.new,
            seen=self._seen,
        )

    def _claim_after(self, refusal: ClaimRefused) -> None:
        """Claims in place of an expired record; raises the error of any other refusal."""
        job, deps, request = refusal.job, self._deps, self._request
        if job is None:
            raise refusal
        if request.new is not None and is_expired(job, deps.clock()):
            try:
                deps.store.create(request.new)
                self._job = self._claim()
            except (ClaimRefused, JobExists):  # another worker was quicker
                raise LeaseHeld(job.id, deps.jitter()) from None
            return
        if not request.is_for(job):
            raise request.key_reused() from None
        if job.status is Status.COMPLETED:
            raise AlreadyCompleted(canonical_json(job.result)) from None
        if is_terminal(job):
            raise refusal
        self._wait_for_turn(job)
        if job.attempt >= job.max_attempts:
            bury_interrupted(deps, job)
        raise LeaseHeld(job.id, deps.jitter()) from None

    def _wait_for_turn(self, job: Job) -> None:
        """Raises LeaseHeld if a live owner or a backoff prevents a claim."""
        if (wait_ms := wait_before_claim_ms(job, self._deps.clock())) > 0:
            raise LeaseHeld(job.id, wait_ms / 1000 + self._deps.jitter()) from None


def claim_together(deps: Deps, ownerships: Iterable[Claimed]) -> list[Claimed]:
    """Claims jobs in as few calls as possible.

    Returns the ownerships whose claims were tried, including those that failed. Makes no claim and
    returns none if fewer than two jobs can be claimed early.
    """
    claims: dict[tuple[str, str], tuple[Claimed, Claim]] = {}
    for ownership in ownerships:
        if (claim := ownership.early_claim()) is not None:
            claims.setdefault((claim.seen.tenant, claim.seen.id), (ownership, claim))
    if len(claims) < 2:
        return []
    for portion in batched(list(claims.values()), STATEMENTS):
        try:
            jobs = deps.store.claim_many(
                [claim for _, claim in portion], now_ms=deps.clock(), lease_ms=deps.lease_ms
            )
        except StoreUnavailable as problem:
            deps.observe.log.warning(
                "a batch could not be claimed; its jobs are claimed one by one",
                error=describe(problem),
            )
            continue
        for (ownership, _), job in zip(portion, jobs, strict=True):
            ownership.accept(job)
    return [ownership for ownership, _ in claims.values()]


def batched(things: Sequence[T], size: int) -> list[Sequence[T]]:
    """Returns `things` in portions of at most `size` (itertools.batched needs Python 3.12)."""
    return [things[start : start + size] for start in range(0, len(things), size)]
