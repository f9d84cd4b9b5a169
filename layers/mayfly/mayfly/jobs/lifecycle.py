"""What a job becomes by its claim, by success and by failure. No I/O, no clock.

`mayfly.jobs.writes` draws all states, and has the writes.
"""

from dataclasses import replace

from mayfly.jobs.model import Attempt, Job, Outcome, Status
from mayfly.jobs.rules import RETENTION_SECONDS, waits_by_message

__all__ = ["claimed", "completed", "failed"]


def claimed(seen: Job, *, nonce: str, now_ms: int, lease_ms: int) -> Job:
    """What a job becomes by its claim."""
    return replace(
        seen,
        status=Status.INPROGRESS,
        owner=nonce,
        lease_until_ms=now_ms + lease_ms,
        attempt=seen.attempt + 1,
        fence=seen.fence + 1,
        history=(*seen.history, Attempt(started_at_ms=now_ms)),
    )


def completed(mine: Job, *, now_ms: int) -> Job:
    """What a claimed job becomes by success."""
    ended = replace(mine.history[-1], ended_at_ms=now_ms, outcome=Outcome.SUCCEEDED)
    return _ended(mine, Status.COMPLETED, ended, now_ms)


def failed(mine: Job, *, error: str, retry_at_ms: int | None, now_ms: int) -> Job:
    """What a claimed job becomes by a failure: to be tried again not before `retry_at_ms`, or dead
    where that is None.
    """
    ended = replace(mine.history[-1], ended_at_ms=now_ms, outcome=Outcome.FAILED, error=error)
    if retry_at_ms is None:
        return replace(_ended(mine, Status.DEAD, ended, now_ms), error=error)
    status = Status.RETRY if waits_by_message(retry_at_ms, now_ms) else Status.SCHEDULED
    return replace(
        mine,
        status=status,
        lease_until_ms=None,
        not_before_ms=retry_at_ms,
        history=(*mine.history[:-1], ended),
    )


def _ended(mine: Job, status: Status, attempt: Attempt, now_ms: int) -> Job:
    # Only a job that has ended may vanish: TTL counts from here.
    expires_at_s = now_ms // 1000 + RETENTION_SECONDS
    return replace(
        mine,
        status=status,
        lease_until_ms=None,
        history=(*mine.history[:-1], attempt),
        expires_at_s=expires_at_s,
    )
