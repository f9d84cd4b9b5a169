"""The consequences of a failure: retry, continue, bury; and whether the message comes back.

::

    task raises                         job                             message
      any error, attempts left          RETRY after a backoff           comes back then
      any error, above 15 minutes       SCHEDULED                       deleted; a sweep sends one
      Continue, with progress           RETRY immediately, not counted  comes back immediately
      DeadlineReached, with progress    RETRY immediately, not counted  comes back immediately
      Permanent, or the last attempt    DEAD                            deleted
      the store refuses its record      DEAD                            deleted
    commit
      an effect is refused              DEAD, or as above               deleted, or as above
      every try met conflicts           unchanged, not counted          comes back after 1 to 2 s
      another worker has the job        is the other worker's           comes back after a lease
"""

from typing import Final, NoReturn

from mayfly.aws.dynamodb import RequestRefused
from mayfly.core.errors import MayflyError
from mayfly.core.observability import traceback_of
from mayfly.core.raised import attempt
from mayfly.jobs.authoring.outcomes import Continue, Retry
from mayfly.jobs.errors import (
    Contended,
    DeadlineReached,
    EffectRefused,
    LeaseHeld,
    StaleWrite,
    WriteRefused,
)
from mayfly.jobs.model import Job
from mayfly.jobs.rules import backoff_ms, check_pause, describe, waits_by_message
from mayfly.jobs.store import ClaimRefused
from mayfly.jobs.worker.deps import Deps
from mayfly.jobs.worker.ownership import Ownership
from mayfly.jobs.worker.request import Request

__all__ = [
    "JobFailed",
    "MessageDone",
    "bury_interrupted",
    "bury_refused",
    "fail",
    "release_contended",
    "settle",
]

#: Characters of each of two errors that are stored as one.
_HALF: Final = 230


class JobFailed(LeaseHeld):
    """An attempt failed and its job waits in RETRY; the message comes back after `seconds`."""

    code = "job-failed"


class MessageDone(MayflyError):
    """The job is dead, or waits in the table for its time; its message can be deleted."""


def fail(deps: Deps, ownership: Ownership, failure: BaseException, *, runs_first: bool) -> NoReturn:
    """Retries, continues or buries a job whose task or commit has failed.

    `runs_first` is True if the invocation has run no other job before, so that the job had all of
    its time. If the store refuses the job's record for its form or size, the job is buried with
    that reason. Raises JobFailed if the message must come back, MessageDone if it can be deleted,
    StaleWrite and StoreUnavailable.
    """
    if failure is ownership.lost:
        raise failure
    try:
        _settle_failure(deps, ownership, failure, runs_first=runs_first)
    except RequestRefused as refusal:
        if not refusal.is_malformed:
            raise
        _bury(deps, ownership, WriteRefused(ownership.job.id, refusal.message))


def _settle_failure(
    deps: Deps, ownership: Ownership, failure: BaseException, *, runs_first: bool
) -> NoReturn:
    # A job that had the whole invocation and made no progress would not make any in the next one.
    stops_in_time = isinstance(failure, Continue) and (ownership.has_progressed or not runs_first)
    was_stopped = isinstance(failure, DeadlineReached) and ownership.has_progressed
    if stops_in_time or was_stopped:
        _continue_later(deps, ownership)
    job = ownership.job
    if _is_permanent(deps, job, failure) or job.attempt >= job.max_attempts:
        _bury(deps, ownership, failure)
    _retry(deps, ownership, failure)


def bury_interrupted(deps: Deps, job: Job) -> NoReturn:
    """Ends as DEAD a job whose last attempt was interrupted.

    Raises MessageDone, or StaleWrite and StoreUnavailable.
    """
    deps.store.bury(job, now_ms=deps.clock())
    deps.observe.count("JobDead")
    deps.observe.log.error("the job is dead: its last attempt was interrupted", buried=job.id)
    raise MessageDone


def bury_refused(deps: Deps, job: Job, refusal: RequestRefused) -> NoReturn:
    """Ends as DEAD a job that cannot be claimed, since the store refuses its record.

    Raises MessageDone, or StaleWrite and StoreUnavailable.
    """
    error = describe(WriteRefused(job.id, refusal.message))
    deps.store.bury(job, error=error, now_ms=deps.clock())
    deps.observe.count("JobDead")
    deps.observe.log.error("the job is dead: it cannot be claimed", buried=job.id, error=error)
    raise MessageDone


def release_contended(deps: Deps, ownership: Ownership, conflict: Contended) -> NoReturn:
    """Releases a job whose commit met only conflicts.

    Nothing was written and the job is not at fault, so the attempt does not count. Raises
    LeaseHeld, or StaleWrite and StoreUnavailable.
    """
    deps.observe.count("JobContended")
    deps.observe.log.warning(
        "every try of a commit met conflicts; spread the increments of jobs over counters of "
        "several names (docs/counters-and-limits.md, hot counters)",
        error=describe(conflict),
    )
    ownership.release()
    raise LeaseHeld(ownership.job.id, 1 + deps.jitter())


def settle(deps: Deps, request: Request, cause: BaseException) -> None:
    """Returns if the message can be deleted after `cause`, an error of claim, commit or failure.

    Otherwise raises the error with which the message comes back; UnreadableMessage if its
    idempotency key was used with another body.
    """
    log = deps.observe.log
    match cause:
        case MessageDone():
            return
        case ClaimRefused(job=None):
            log.warning("a message names a job that does not exist; it is deleted")
        case ClaimRefused():
            log.info("the job has ended before; the message is deleted")
        case StaleWrite() if (
            request.new is not None
            and cause.fingerprints
            and cause.fingerprints.isdisjoint(request.new.fingerprints)
        ):
            raise request.key_reused() from cause
        case StaleWrite():
            log.warning(
                "another worker has the job, or it has ended; nothing was written",
                error=describe(cause),
            )
            if not cause.has_ended:  # the new owner may die, and this may be the only message
                raise LeaseHeld(request.job_id, deps.lease_ms / 1000) from cause
        case _:
            raise cause


def _retry(deps: Deps, ownership: Ownership, failure: BaseException) -> NoReturn:
    """Schedules the job's next attempt, after a backoff or the pause that the task requested."""
    job, now_ms = ownership.job, deps.clock()
    pause_ms, error = backoff_ms(job.attempt, deps.jitter()), describe(failure)
    if isinstance(failure, Retry):
        # A kind of Retry of the task's own may have an `after_seconds` that nothing has checked.
        requested_ms, problem = _requested(failure)
        pause_ms = pause_ms if requested_ms is None else requested_ms
        error = error if problem is None else f"{error[:_HALF]}; its pause is unusable: {problem}"
    # The write and the fate of the message depend on the same reading of the clock.
    ownership.fail(error, now_ms + pause_ms, now_ms)
    deps.observe.count("JobRetried")
    deps.observe.log.warning(
        "an attempt failed; the job runs again",
        error=error,
        attempt=job.attempt,
        in_ms=pause_ms,
        extra=None if isinstance(failure, MayflyError) else traceback_of(failure),
    )
    if not waits_by_message(now_ms + pause_ms, now_ms):  # a sweep sends another message
        raise MessageDone
    raise JobFailed(job.id, pause_ms / 1000)


def _continue_later(deps: Deps, ownership: Ownership) -> NoReturn:
    """Leaves the job to another invocation immediately.

    If other jobs have used up the invocation, this one has done nothing, and the attempt is not
    even recorded.
    """
    if ownership.has_progressed:
        ownership.continue_later()
    else:
        ownership.release()
    deps.observe.count("JobContinued")
    deps.observe.log.info("the invocation is nearly over; the job continues in another one")
    raise JobFailed(ownership.job.id, 0)


def _bury(deps: Deps, ownership: Ownership, failure: BaseException) -> NoReturn:
    """Ends the job as DEAD."""
    ownership.fail(describe(failure), None, deps.clock())
    deps.observe.count("JobDead")
    deps.observe.log.error(
        "the job is dead; see its record for the reason",
        error=describe(failure),
        attempt=ownership.job.attempt,
        extra=None if isinstance(failure, MayflyError) else traceback_of(failure),
    )
    raise MessageDone


def _is_permanent(deps: Deps, job: Job, failure: BaseException) -> bool:
    """Returns True if another attempt would fail in the same way."""
    if isinstance(failure, EffectRefused):
        retries_refused = deps.tasks[job.task].declaration.retry_refused
        return failure.is_malformed or (failure.is_by_condition and not retries_refused)
    # A class of the task's own may compute `retryable`.
    return isinstance(failure, MayflyError) and attempt(
        lambda: not failure.retryable, otherwise=False
    )


def _requested(failure: Retry) -> tuple[int | None, str | None]:
    """Returns the pause that a task requests, in milliseconds, and the reason if it is unusable."""
    try:
        seconds = failure.after_seconds
        return None if seconds is None else int(check_pause(seconds) * 1000), None
    except BaseException as problem:  # noqa: BLE001  # code of the task
        return None, describe(problem)[:_HALF]
