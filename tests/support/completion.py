"""Completes a job as a worker does that has claimed it, without a worker."""

from collections.abc import Sequence

from mayfly.jobs.authoring.effects import Effect
from mayfly.jobs.group_commit import Member
from mayfly.jobs.model import Job
from mayfly.jobs.store import JobStore


def complete(
    store: JobStore, job: Job, *, result: str, effects: Sequence[Effect], now_ms: int
) -> None:
    """Commits the completion of a claimed job; raises what came of it otherwise."""
    completion = store.completion(job, result=result, now_ms=now_ms)
    member = Member(job.tenant, job.id, job.owner or "", completion, effects)
    (outcome,) = store.commit_many([member])
    if outcome is not None:
        raise outcome
