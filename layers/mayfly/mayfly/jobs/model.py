"""A job, its attempts, and a message that asks for one."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "TERMINAL", "Attempt", "Delay", "Job", "Outcome", "Status", "StreamGap", "Submission", "Tick",
    "Unreadable", "Wake", "Window",
]  # fmt: skip


class Status(StrEnum):
    """What is stored.

    INPROGRESS and COMPLETED are Powertools' words, since the job is its idempotency record.
    """

    SCHEDULED = "SCHEDULED"
    QUEUED = "QUEUED"
    INPROGRESS = "INPROGRESS"
    RETRY = "RETRY"
    COMPLETED = "COMPLETED"
    DEAD = "DEAD"
    CANCELLED = "CANCELLED"


TERMINAL = frozenset({Status.COMPLETED, Status.DEAD, Status.CANCELLED})


class Outcome(StrEnum):
    """How an attempt ended, as users read it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    CONTINUED = "continued"
    RUNNING = "running"


@dataclass(frozen=True)
class Attempt:
    """One claim of a job. An attempt without an end still runs, or its process died."""

    started_at_ms: int
    ended_at_ms: int | None = None
    outcome: Outcome | None = None
    error: str | None = None


@dataclass(frozen=True)
class Delay:
    """When a job may start at the earliest: `seconds` after its submission, or `at_ms`.

    Exactly one is set.
    """

    seconds: float | None = None
    at_ms: int | None = None


@dataclass(frozen=True)
class Submission:
    """What somebody asks for: a task by name, its payload, and how often to try (as the task says
    where that is None).
    """

    task: str
    payload: Any
    max_attempts: int | None = None
    not_before: "Delay | None" = None
    idempotency_key: str | None = None


@dataclass(frozen=True)
class Wake:
    """A message that names a job which exists."""

    tenant: str
    job_id: str


@dataclass(frozen=True)
class StreamGap:
    """Records of the jobs table's stream that the relay was not given in the end: sequence numbers
    from `first` to `last`.

    `from_ms` and `to_ms` say when they arrived: 0 if the beginning is unknown, None if the end is.
    """

    stream_arn: str
    shard_id: str
    first: str
    last: str
    size: int
    from_ms: int = 0
    to_ms: int | None = None

    @property
    def names_records(self) -> bool:
        """True if there are records to read again.

        A report without any says: all that was there may be lost.
        """
        return self.size > 0 and int(self.last) > 0


@dataclass(frozen=True)
class Window:
    """A time in which announcements may have been lost, both ends included."""

    from_ms: int
    to_ms: int


@dataclass(frozen=True)
class Unreadable:
    """A message that is no job, as it was kept for the operator."""

    message_id: str
    body: str
    problem: str
    kept_at_ms: int


@dataclass(frozen=True)
class Tick:
    """What a job of a schedule is for: one time of it, and how many times before it were missed and
    are made up for by this job.
    """

    schedule: str
    at_ms: int
    missed: int = 0


@dataclass(frozen=True)
class Job:
    """One job, as read. Times are milliseconds since the epoch.

    `fence` grows by one with every claim, over all runs: outside systems can refuse what comes with
    an older one. `progress` is what the job's task saved last (`effects.checkpoint`), `tick` says
    which time of a schedule it is for.
    """

    id: str
    tenant: str
    task: str
    payload: Any
    status: Status
    max_attempts: int
    created_at_ms: int
    fingerprint: str
    run: int = 1
    attempt: int = 0
    fence: int = 0
    owner: str | None = None
    lease_until_ms: int | None = None
    not_before_ms: int | None = None
    resent_at_ms: int | None = None
    history: tuple[Attempt, ...] = ()
    result: Any = None
    error: str | None = None
    expires_at_s: int | None = None
    progress: Any = None
    tick: Tick | None = None
