"""Dependencies of the worker."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mayfly.core.clock import Clock
from mayfly.core.observability import Observer
from mayfly.jobs.authoring.task import Declaration, Task
from mayfly.jobs.model import Job, Submission, Unreadable
from mayfly.jobs.rules import new_job
from mayfly.jobs.store import JobStore

__all__ = ["Deps"]


@dataclass(frozen=True)
class Deps:
    """Dependencies of a worker that runs `tasks`.

    `jitter()` draws from 0 to 1. `producer_tenant` owns the jobs that messages ask for.
    """

    store: JobStore
    tasks: Mapping[str, Task]
    counters_table: str
    producer_tenant: str
    observe: Observer
    clock: Clock
    new_nonce: Callable[[], str]
    jitter: Callable[[], float]
    serialize: Callable[[Any], Mapping[str, Any]]
    keep_unreadable: Callable[[Unreadable], None]
    lease_ms: int
    #: Tasks that other functions run. Messages and follow-ups may ask for their jobs, too.
    known: Mapping[str, Declaration] = field(default_factory=dict)
    #: The longest wait of a completion for others to be committed with it, in milliseconds.
    stage_ms: int = 50
    #: Returns the seconds for which a job must wait although it may run, 0 to run it now. Its
    #: message comes back then, and no attempt counts. It is called with the job and the number of
    #: receives of the message so far.
    rest_seconds: Callable[[Job, int], float] = lambda job, receives: 0.0
    #: True if no task here kills its process. Then exclusive jobs run next to others on their last
    #: attempts, too.
    trusts_last_attempts: bool = False

    def new_job(self, tenant: str, job_id: str, submission: Submission) -> Job:
        """Returns a job as it is before its first claim. Raises InvalidRequest."""
        task = self.tasks.get(submission.task)
        declaration = task.declaration if task else self.known.get(submission.task)
        return new_job(tenant, job_id, submission, declaration, now_ms=self.clock())
