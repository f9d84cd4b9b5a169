"""The job that results from a claim, from success and from failure. No I/O, no clock.

`mayfly.jobs.writes` draws all states, and makes the conditional writes.
"""

from dataclasses import replace

from mayfly.jobs.history import begin_attempt, end_attempt
from mayfly.jobs.model import Attempt, Job, Outcome, Status
from mayfly.jobs.rules import RETENTION_SECONDS, waits_by_message

__all__ = ["claimed", "completed", "failed"]


def claimed(seen: Job, *, nonce: str, now_ms: int, lease_ms: int) -> Job:
    """Returns the job after a claim by the owner `nonce`."""
    return begin_attempt(
        seen,
        Attempt(started_at_ms=now_ms),
        status=Status.INPROGRESS,
        owner=nonce,
        lease_until_ms=now_ms + lease_ms,
        attempt=seen.attempt + 1,
        fence=seen.fence + 1,
    )


def completed(mine: Job, *, now_ms: int) -> Job:
    """Returns a claimed job after success."""
    ended = replace(mine.history[-1], ended_at_ms=now_ms, outcome=Outcome.SUCCEEDED)
    return _ended(mine, Status.COMPLETED, ended, now_ms)


def failed(mine: Job, *, error: str, retry_at_ms: int | None, now_ms: int) -> Job:
    """Returns a claimed job after a failure.

    It can be claimed again from `retry_at_ms` on, and is dead if that is None.
    """
    ended = replace(mine.history[-1], ended_at_ms=now_ms, outcome=Outcome.FAILED, error=error)
    if retry_at_ms is None:
        return replace(_ended(mine, Status.DEAD, ended, now_ms), error=error)
    status = Status.RETRY if waits_by_message(retry_at_ms, now_ms) else Status.SCHEDULED
    return end_attempt(
        mine,
        ended,
        status=status,
        lease_until_ms=None,
        not_before_ms=retry_at_ms,
    )


def _ended(mine: Job, status: Status, attempt: Attempt, now_ms: int) -> Job:
    # Only a job that has ended may be deleted: its TTL counts from its end.
    expires_at_s = now_ms // 1000 + RETENTION_SECONDS
    return end_attempt(
        mine,
        attempt,
        status=status,
        lease_until_ms=None,
        expires_at_s=expires_at_s,
    )
