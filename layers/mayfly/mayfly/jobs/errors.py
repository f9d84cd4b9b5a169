"""Errors of jobs and tasks."""

from mayfly.core.errors import MayflyError, StoreUnavailable

__all__ = [
    "BadRecord",
    "BadTask",
    "Contended",
    "EffectRefused",
    "JobEnded",
    "JobIsLive",
    "JobNotFound",
    "LeaseHeld",
    "NotForwarded",
    "ResultTooLarge",
    "StaleWrite",
    "TooManyEffects",
    "UnknownTask",
    "UnreadableMessage",
    "WriteRefused",
]


class BadTask(MayflyError):
    """A file of a package of tasks does not declare a valid task.

    Raised at start, with file and line if they are known.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class UnknownTask(MayflyError):
    """No package of tasks declares a task of this name."""

    status = 400
    retryable = False

    def __init__(self, task: str, known: list[str]) -> None:
        self.task = task
        super().__init__(
            f"no task is called {task!r}; known tasks: {', '.join(sorted(known)) or 'none'}"
        )


class BadRecord(MayflyError):
    """The record of a job does not have the form of a job, or that of a later release."""

    retryable = False

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"the record of job {job_id!r} cannot be read: {reason}")


class JobNotFound(MayflyError):
    """The tenant has no such job: it is unknown, another tenant's, or expired."""

    status = 404
    retryable = False

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id!r}")


class ResultTooLarge(MayflyError):
    """A task returned more than a job record can hold.

    The job ends as dead, and none of its effects is written.
    """

    retryable = False

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the result has {size} bytes of JSON, the limit is {limit}; put it in S3 and "
            "return its key"
        )


class JobEnded(MayflyError):
    """The job has ended and cannot be cancelled, or is not dead and cannot be redriven."""

    status = 409
    retryable = False

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(
            f"job {job_id!r} is {state}; only a job that has not ended can be cancelled, and "
            "only a DEAD job can be redriven"
        )


class JobIsLive(MayflyError):
    """The job needs no message: a worker holds it, or it waits for its next attempt."""

    status = 409
    retryable = False

    def __init__(self, job_id: str, seconds: float) -> None:
        super().__init__(
            f"job {job_id!r} is held by a worker or waits for its next attempt; it can be "
            f"claimed in {seconds:.1f} s"
        )


class LeaseHeld(MayflyError):
    """Another worker runs this job, or its backoff is not over; retry in `seconds`."""

    def __init__(self, job_id: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"job {job_id!r} can be claimed in {seconds:.1f} s")


class StaleWrite(MayflyError):
    """A worker has lost its job to a later owner, or the job has ended; nothing was written."""

    code = "fenced"  # the name when the code became public
    retryable = False

    def __init__(
        self,
        job_id: str,
        nonce: str,
        holder: str,
        *,
        has_ended: bool,
        fingerprints: frozenset[str] = frozenset(),
    ) -> None:
        self.has_ended = has_ended
        #: The fingerprints of the stored job's request, none if the job is gone. The request may
        #: be another one with the same idempotency key.
        self.fingerprints = fingerprints
        super().__init__(
            f"worker {nonce} no longer owns job {job_id!r} ({holder}); its effects were not applied"
        )


class Contended(MayflyError):
    """Every try of the job's transaction met conflicts; nothing was written."""

    def __init__(self, job_id: str, tries: int) -> None:
        super().__init__(
            f"the commit of job {job_id!r} met conflicts {tries} times in a row; the job runs again"
        )


class NotForwarded(StoreUnavailable):
    """Some reports could not be forwarded, and stay in the bucket. `forwarded` others were."""

    def __init__(self, cause: StoreUnavailable, *, left: int, forwarded: int) -> None:
        self.forwarded = forwarded
        super().__init__("forward reports", f"{left} errors, the first one: {cause}")


class EffectRefused(MayflyError):
    """One of the job's effects could not be applied, so none of them was.

    Mostly its condition did not hold.
    """

    retryable = False

    def __init__(self, job_id: str, effect: str, reason: str, *, is_malformed: bool = True) -> None:
        self.is_by_condition = reason == "ConditionalCheckFailed"
        #: True if every retry would be refused, too. A missing table or permission may exist at the
        #: next try.
        self.is_malformed = is_malformed and not self.is_by_condition
        super().__init__(
            f"job {job_id!r}: the effect {effect} was refused ({reason}); no effect of the job "
            "was applied"
        )


class TooManyEffects(MayflyError):
    """A task collected more effects than one transaction can hold.

    DynamoDB takes 100 items in a transaction, one of which is the job itself.
    """

    retryable = False

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(
            f"the task collected {count} effects, the limit is {limit}; split the work into "
            "follow-up jobs"
        )


class WriteRefused(MayflyError):
    """The store refuses the job's own record for its form or size.

    Every retry would be refused, too, so the job ends as dead.
    """

    retryable = False

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"the store does not take the record of job {job_id!r}: {reason}")


class UnreadableMessage(MayflyError):
    """A queue message is not a valid job; its body is stored for the operator."""

    retryable = False

    def __init__(self, message_id: str, problem: str) -> None:
        self.problem = problem
        super().__init__(f"message {message_id}: {problem}")
