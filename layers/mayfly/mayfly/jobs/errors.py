"""Errors of jobs and tasks."""

from mayfly.core.errors import MayflyError

__all__ = [
    "BadTask",
    "Contended",
    "EffectRefused",
    "JobEnded",
    "JobIsLive",
    "JobNotFound",
    "LeaseHeld",
    "ResultTooLarge",
    "StaleWrite",
    "TooManyEffects",
    "UnknownTask",
    "UnreadableMessage",
]


class BadTask(MayflyError):
    """A file under functions/tasks/ declares no usable task; raised at start, with file and line
    where known.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class UnknownTask(MayflyError):
    """No file under functions/tasks declares a task of this name."""

    status = 400
    retryable = False

    def __init__(self, task: str, known: list[str]) -> None:
        self.task = task
        super().__init__(
            f"no task is called {task!r}; known tasks: {', '.join(sorted(known)) or 'none'}"
        )


class JobNotFound(MayflyError):
    """The tenant has no such job: it never existed, belongs to another tenant, or its record has
    expired.
    """

    status = 404
    retryable = False

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id!r}")


class ResultTooLarge(MayflyError):
    """A task returned more than a job record holds; the job ends dead, before any of its effects is
    written.
    """

    retryable = False

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the result has {size} bytes of JSON, the limit is {limit}; put it in S3 and "
            "return its key"
        )


class JobEnded(MayflyError):
    """The job is in no state for this: only what has not ended can be cancelled, and only what is
    dead redriven.
    """

    status = 409
    retryable = False

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(
            f"job {job_id!r} is {state}; what has not ended can be cancelled, what is DEAD can "
            "be redriven"
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
    """Another worker runs this job, or its backoff is not over; come back in `seconds`."""

    def __init__(self, job_id: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"job {job_id!r} can be claimed in {seconds:.1f} s")


class StaleWrite(MayflyError):
    """A worker lost its job to a later owner, or the job has ended; nothing was written."""

    code = "fenced"  # as it was named when the code became public
    retryable = False

    def __init__(
        self,
        job_id: str,
        nonce: str,
        holder: str,
        *,
        has_ended: bool,
        fingerprint: str | None = None,
    ) -> None:
        self.has_ended = has_ended
        #: Of the request that the job in the store is for, where there is one: it may be another
        #: one under the same key.
        self.fingerprint = fingerprint
        super().__init__(
            f"attempt {nonce} of job {job_id!r} no longer owns it ({holder}); its effects were "
            "not applied"
        )


class Contended(MayflyError):
    """The job's transaction met other transactions on the same items, again and again; nothing of
    it was written.
    """

    def __init__(self, job_id: str, tries: int) -> None:
        super().__init__(
            f"job {job_id!r} met conflicts on its items {tries} times in a row; it runs again"
        )


class EffectRefused(MayflyError):
    """One of the job's effects could not be applied, mostly because its condition did not hold, so
    none of them was.
    """

    retryable = False

    def __init__(self, job_id: str, effect: str, reason: str, *, is_malformed: bool = True) -> None:
        self.is_by_condition = reason == "ConditionalCheckFailed"
        #: Whether every repeat would be refused, too; a table or a permission that is missing may
        #: be there next time.
        self.is_malformed = is_malformed and not self.is_by_condition
        super().__init__(
            f"job {job_id!r}: the effect {effect} was refused ({reason}); no effect of the job "
            "was applied"
        )


class TooManyEffects(MayflyError):
    """DynamoDB takes 100 items in a transaction, one of which is the job itself."""

    retryable = False

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(
            f"the task collected {count} effects, the limit is {limit}; split the work into "
            "follow-up jobs"
        )


class UnreadableMessage(MayflyError):
    """A queue body that is no job; it takes the dead-letter path with its body kept."""

    retryable = False

    def __init__(self, message_id: str, problem: str) -> None:
        self.problem = problem
        super().__init__(f"message {message_id}: {problem}")
