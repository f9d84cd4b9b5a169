"""Every error that Mayfly raises on purpose, with the HTTP answer it becomes.

Errors take facts, not sentences: the class writes the message from them, so that the same mistake
always reads the same. `status` is used by `mayfly.web.http` alone; `retryable` says whether the
same work could succeed later. Every class has a row in docs/errors.md.
"""

from typing import ClassVar

__all__ = [
    "BadImport",
    "BadSecret",
    "BadTask",
    "ConfigError",
    "Contended",
    "CounterExists",
    "CounterIsSharded",
    "CounterLimit",
    "CounterOutOfRange",
    "EffectRefused",
    "Fenced",
    "Forbidden",
    "ForbiddenAddress",
    "IdempotencyKeyReused",
    "InvalidRequest",
    "JobEnded",
    "JobIsLive",
    "JobNotFound",
    "KeyNotFound",
    "LeaseHeld",
    "MayflyError",
    "MethodNotAllowed",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "QuotaExceeded",
    "ResultTooLarge",
    "RouteNotFound",
    "ScheduleBusy",
    "ScheduleNotFound",
    "SessionNotFound",
    "StoreUnavailable",
    "StreamTrimmed",
    "TooManyEffects",
    "Unauthenticated",
    "UnknownSecret",
    "UnknownTask",
    "Unreachable",
    "UnreadableMessage",
    "UnsupportedMediaType",
    "VersionConflict",
]


class MayflyError(Exception):
    """Base of the tree. `code` is the stable, machine-readable name of the problem."""

    code: ClassVar[str] = "internal-error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = True
    #: A registered URI for the kind of problem (RFC 9457, 3.1.1), where there is one.
    type_uri: ClassVar[str | None] = None


class ConfigError(MayflyError):
    """The environment of a function is incomplete or malformed; raised once, at start, with every
    problem in it.
    """

    code = "bad-configuration"
    title = "Bad configuration"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("the function's environment is not usable: " + "; ".join(problems))


class BadTask(MayflyError):
    """A file under functions/tasks/ declares no usable task; raised at start, with file and line
    where known.
    """

    code = "bad-task"
    title = "Bad task"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class InvalidRequest(MayflyError):
    """A request or message that breaks its documented shape; `field` says where."""

    code = "invalid-request"
    status = 400
    title = "Invalid request"
    retryable = False

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"{field}: {problem}")


class UnknownTask(MayflyError):
    """No file under functions/tasks declares a task of this name."""

    code = "unknown-task"
    status = 400
    title = "Unknown task"
    retryable = False

    def __init__(self, task: str, known: list[str]) -> None:
        self.task = task
        super().__init__(
            f"no task is called {task!r}; known tasks: {', '.join(sorted(known)) or 'none'}"
        )


class Unauthenticated(MayflyError):
    """The credential is missing, malformed, unknown or expired."""

    code = "unauthenticated"
    status = 401
    title = "Unauthenticated"
    retryable = False

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}; send 'Authorization: Bearer mf_...'")


class Forbidden(MayflyError):
    """The credential is good but lacks the scope of this route."""

    code = "forbidden"
    status = 403
    title = "Forbidden"
    retryable = False

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"the key lacks the scope {scope!r}; create one that has it with 'mayfly keys "
            f"create --scope {scope}'"
        )


class RouteNotFound(MayflyError):
    """No route has this path."""

    code = "not-found"
    status = 404
    title = "Not found"
    retryable = False

    def __init__(self, path: str) -> None:
        super().__init__(f"there is nothing at {path}")


class MethodNotAllowed(MayflyError):
    """The path exists, with other methods (RFC 9110, 15.5.6: the answer must name them in
    Allow).
    """

    code = "method-not-allowed"
    status = 405
    title = "Method not allowed"
    retryable = False

    def __init__(self, method: str, path: str, allowed: list[str]) -> None:
        self.allowed = allowed
        super().__init__(f"{path} does not take {method}; it takes {', '.join(allowed)}")


class JobNotFound(MayflyError):
    """The tenant has no such job: it never existed, belongs to another tenant, or its record has
    expired.
    """

    code = "job-not-found"
    status = 404
    title = "Job not found"
    retryable = False

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id!r}")


class KeyNotFound(MayflyError):
    """The tenant has no API key of this id: it never existed, belongs to another tenant, or was
    revoked.
    """

    code = "key-not-found"
    status = 404
    title = "Key not found"
    retryable = False

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no key {key_id!r}; 'mayfly keys list' shows a tenant's keys")


class SessionNotFound(MayflyError):
    """The token opens no session of this tenant: it is unknown, or its session has expired or
    ended. Nobody is told which.
    """

    code = "session-not-found"
    status = 404
    title = "Session not found"
    retryable = False

    def __init__(self) -> None:
        super().__init__(
            "no such session: it is unknown, or it has expired or ended; create another one"
        )


class VersionConflict(MayflyError):
    """The session is at another version than If-Match allows (RFC 9110, 13.1.1)."""

    code = "version-conflict"
    status = 412
    title = "Version conflict"
    retryable = False

    def __init__(self, version: int) -> None:
        super().__init__(f"the session is at version {version}; read it, and patch that version")


class UnsupportedMediaType(MayflyError):
    """The body is of a kind that this route does not take (RFC 9110, 15.5.16)."""

    code = "unsupported-media-type"
    status = 415
    title = "Unsupported media type"
    retryable = False

    def __init__(self, found: str, accepted: list[str]) -> None:
        super().__init__(
            f"a body of type {found[:80]!r} cannot be read here; send {' or '.join(accepted)}"
        )


class PayloadTooLarge(MayflyError):
    """A body, payload or result above its stated limit, in bytes of UTF-8 JSON."""

    code = "payload-too-large"
    status = 413
    title = "Payload too large"
    retryable = False

    def __init__(self, field: str, size: int, limit: int) -> None:
        super().__init__(
            f"{field} has {size} bytes, the limit is {limit}; put large data in S3 and pass its key"
        )


class ResultTooLarge(MayflyError):
    """A task returned more than a job record holds; the job ends dead, before any of its effects is
    written.
    """

    code = "result-too-large"
    retryable = False

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the result has {size} bytes of JSON, the limit is {limit}; put it in S3 and "
            "return its key"
        )


class IdempotencyKeyReused(MayflyError):
    """The key was used before with another body (Idempotency-Key draft-07, 2.7)."""

    code = "idempotency-key-reused"
    status = 422
    title = "Idempotency key reused"
    retryable = False

    def __init__(self, what: str) -> None:
        super().__init__(
            f"this Idempotency-Key belongs to {what}, which was asked for with another body"
        )


class JobEnded(MayflyError):
    """The job is in no state for this: only what has not ended can be cancelled, and only what is
    dead redriven.
    """

    code = "job-ended"
    status = 409
    title = "Job ended"
    retryable = False

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(
            f"job {job_id!r} is {state}; what has not ended can be cancelled, what is DEAD can "
            "be redriven"
        )


class JobIsLive(MayflyError):
    """The job needs no message: a worker holds it, or it waits for its next attempt."""

    code = "job-is-live"
    status = 409
    title = "Job is live"
    retryable = False

    def __init__(self, job_id: str, seconds: float) -> None:
        super().__init__(
            f"job {job_id!r} is held by a worker or waits for its next attempt; it can be "
            f"claimed in {seconds:.1f} s"
        )


class StoreUnavailable(MayflyError):
    """The store did not answer, or refused for load: nothing is known to have happened."""

    code = "store-unavailable"
    status = 503
    title = "Store unavailable"
    retry_after_seconds: ClassVar[int] = 1

    def __init__(self, operation: str, cause: str) -> None:
        super().__init__(f"the store did not complete {operation} ({cause}); try again")


class StreamTrimmed(MayflyError):
    """The table's stream no longer has these records (it keeps them for 24 hours)."""

    code = "stream-trimmed"
    retryable = False

    def __init__(self, stream_arn: str, first: str, last: str) -> None:
        super().__init__(f"the stream {stream_arn} no longer has its records {first} to {last}")


class OutcomeUnknown(MayflyError):
    """An increment was sent and its answer lost, and reading back did not settle whether it
    counted.

    Without Retry-After: whoever repeats it may count twice.
    """

    code = "outcome-unknown"
    status = 503
    title = "Outcome unknown"
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(
            f"the increment of {counter!r} may or may not have counted; read it, or use an "
            "Idempotency-Key to repeat safely"
        )


class CounterOutOfRange(MayflyError):
    """DynamoDB numbers hold 38 digits; an increment would leave that range."""

    code = "counter-out-of-range"
    status = 409
    title = "Counter out of range"
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(f"{counter!r} would leave the range of 38 digits")


class CounterLimit(MayflyError):
    """A floor or a ceiling refuses an increment; nothing was added."""

    code = "counter-limit"
    status = 409
    title = "Counter limit"
    retryable = False

    def __init__(self, counter: str, value: int, by: int) -> None:
        self.value = value
        super().__init__(
            f"{counter!r} stands at {value}; {by:+d} would leave the floor or ceiling of this "
            "increment"
        )


class CounterExists(MayflyError):
    """A counter of this name exists with another number of shards, or with none: shards are fixed
    when it is made.
    """

    code = "counter-exists"
    status = 409
    title = "Counter exists"
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(
            f"{counter!r} exists otherwise; the number of shards is fixed when a counter is "
            "made: delete it, or take another name"
        )


class CounterIsSharded(MayflyError):
    """No condition can see the sum of several items, so a sharded counter has neither floor,
    ceiling nor time to live.
    """

    code = "counter-sharded"
    status = 409
    title = "Counter is sharded"
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(f"{counter!r} has shards, and so neither floor, ceiling nor time to live")


class QuotaExceeded(MayflyError):
    """A limit refuses a request (RateLimit header fields draft, 4; RFC 6585, 4). Nothing was taken
    from it.

    Times in seconds, rounded up.
    """

    code = "quota-exceeded"
    status = 429
    title = "Quota exceeded"
    type_uri = "https://iana.org/assignments/http-problem-types#quota-exceeded"

    def __init__(
        self, policy: str, *, limit: int, period_seconds: int, remaining: int, reset_seconds: int
    ) -> None:
        self.policy = policy
        self.limit = limit
        self.period_seconds = period_seconds
        self.remaining = remaining
        self.reset_seconds = reset_seconds
        super().__init__(
            f"the limit {policy!r} ({limit} in {period_seconds} s) is used up; come back in "
            f"{reset_seconds} s"
        )


class LeaseHeld(MayflyError):
    """Another worker runs this job, or its backoff is not over; come back in `seconds`."""

    code = "lease-held"

    def __init__(self, job_id: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"job {job_id!r} can be claimed in {seconds:.1f} s")


class Fenced(MayflyError):
    """This attempt lost its job to a later owner, or the job has ended: its result is dropped,
    nothing was written.
    """

    code = "fenced"
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

    code = "contended"

    def __init__(self, job_id: str, tries: int) -> None:
        super().__init__(
            f"job {job_id!r} met conflicts on its items {tries} times in a row; it runs again"
        )


class EffectRefused(MayflyError):
    """One of the job's effects could not be applied, mostly because its condition did not hold, so
    none of them was.
    """

    code = "effect-refused"
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

    code = "too-many-effects"
    retryable = False

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(
            f"the task collected {count} effects, the limit is {limit}; split the work into "
            "follow-up jobs"
        )


class UnreadableMessage(MayflyError):
    """A queue body that is no job; it takes the dead-letter path with its body kept."""

    code = "unreadable-message"
    retryable = False

    def __init__(self, message_id: str, problem: str) -> None:
        self.problem = problem
        super().__init__(f"message {message_id}: {problem}")


class ForbiddenAddress(MayflyError):
    """The host of a webhook leads to an address that no webhook may go to, or to none."""

    code = "forbidden-address"
    title = "Forbidden address"
    retryable = False

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} does not lead to public addresses only; webhooks go nowhere else")


class Unreachable(MayflyError):
    """A webhook's endpoint gave no answer; `where` is its origin or its host."""

    code = "unreachable"
    title = "Unreachable"

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")


class UnknownSecret(MayflyError):
    """A webhook is to be signed with a secret that its tenant does not have."""

    code = "unknown-secret"
    title = "Unknown secret"
    retryable = False

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no webhook secret {name!r}; make one with 'mayfly webhooks secret "
            f"{name}', then redrive the job"
        )


class BadSecret(MayflyError):
    """A webhook secret is not one."""

    code = "bad-secret"
    title = "Bad secret"
    retryable = False

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the webhook secret {name!r} must be 'whsec_' and 24 to 64 bytes in base64, or "
            "several of these apart by spaces"
        )


class ScheduleNotFound(MayflyError):
    """The tenant has no schedule of this name."""

    code = "schedule-not-found"
    status = 404
    title = "Schedule not found"
    retryable = False

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no schedule {name!r}")


class ScheduleBusy(MayflyError):
    """A schedule was changed by somebody else at the same time, again and again."""

    code = "schedule-busy"
    status = 409
    title = "Schedule busy"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the schedule {name!r} is being changed by somebody else; look at it and try again"
        )


class BadImport(MayflyError):
    """A file that cannot be imported; `path` is its place in the imports bucket."""

    code = "bad-import"
    title = "Bad import"
    retryable = False

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
