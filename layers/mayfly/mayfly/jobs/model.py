"""A job, its attempts, and a message that asks for a job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = [
    "TERMINAL", "Attempt", "Delay", "Job", "Outcome", "Status", "StreamGap", "Submission", "Tick",
    "Unreadable", "Wake", "Window",
]  # fmt: skip


class Status(StrEnum):
    """The status of a job as it is stored.

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
    """The end of an attempt, as users read it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    CONTINUED = "continued"
    RUNNING = "running"


@dataclass(frozen=True)
class Attempt:
    """One claim of a job. An attempt without an end is still running, or its process died."""

    started_at_ms: int
    ended_at_ms: int | None = None
    outcome: Outcome | None = None
    error: str | None = None


@dataclass(frozen=True)
class Delay:
    """The earliest start of a job: `seconds` after its submission, or `at_ms`.

    Exactly one is set.
    """

    seconds: float | None = None
    at_ms: int | None = None


@dataclass(frozen=True)
class Submission:
    """A request for a job: the name of its task, its payload and options.

    `max_attempts` is None if the declaration of the task decides.
    """

    task: str
    payload: Any
    max_attempts: int | None = None
    not_before: "Delay | None" = None
    idempotency_key: str | None = None


@dataclass(frozen=True)
class Wake:
    """A message that names an existing job."""

    tenant: str
    job_id: str


@dataclass(frozen=True)
class StreamGap:
    """Records of the jobs table's stream that Lambda stopped giving to the relay.

    Their sequence numbers are from `first` to `last`. They arrived between `from_ms` and `to_ms`:
    `from_ms` is 0 if the beginning is unknown, `to_ms` is None if the end is unknown.
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

        A report without records means that every record of its time may be lost.
        """
        return self.size > 0 and int(self.last) > 0


@dataclass(frozen=True)
class Window:
    """A time in which announcements may have been lost, both ends included."""

    from_ms: int
    to_ms: int


@dataclass(frozen=True)
class Unreadable:
    """A message that is not a valid job, as it was stored for the operator."""

    message_id: str
    body: str
    problem: str
    kept_at_ms: int


@dataclass(frozen=True)
class Tick:
    """The tick of a schedule that a job is for.

    `missed` is the number of earlier ticks that were missed, and for which this job makes up.
    """

    schedule: str
    at_ms: int
    missed: int = 0


@dataclass(frozen=True)
class Job:
    """One job, as read. Times are milliseconds since the epoch.

    `fence` grows by one with every claim, over all runs: another system can refuse calls with an
    older one. `history` has the first and the last attempts, and `omitted` counts those between
    them by their outcomes (`mayfly.jobs.history`). `progress` is what the job's task saved last
    (`effects.checkpoint`). `tick` is set if a schedule made the job.
    """

    id: str
    tenant: str
    task: str
    payload: Any
    status: Status
    max_attempts: int
    created_at_ms: int
    #: The hash of its request as it was sent.
    fingerprint: str
    run: int = 1
    attempt: int = 0
    fence: int = 0
    owner: str | None = None
    lease_until_ms: int | None = None
    not_before_ms: int | None = None
    resent_at_ms: int | None = None
    history: tuple[Attempt, ...] = ()
    omitted: Mapping[Outcome, int] = field(default_factory=dict)
    result: Any = None
    error: str | None = None
    expires_at_s: int | None = None
    progress: Any = None
    tick: Tick | None = None
    #: The hash of its request with one spelling for each number, None if `fingerprint` is that.
    canonical_fingerprint: str | None = None

    @property
    def fingerprints(self) -> frozenset[str]:
        """The hashes of its request; two requests are the same if they share one."""
        return frozenset({self.fingerprint, self.canonical_fingerprint or self.fingerprint})
