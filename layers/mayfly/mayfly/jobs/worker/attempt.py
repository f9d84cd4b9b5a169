"""One delivery of one message: claim its job, run the task, commit; or leave the job as it should
be found.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mayfly.core.clock import Clock
from mayfly.core.errors import (
    Contended,
    EffectRefused,
    Fenced,
    LeaseHeld,
    MayflyError,
    StoreUnavailable,
    UnknownTask,
    UnreadableMessage,
)
from mayfly.core.ids import derived_id
from mayfly.core.json_input import canonical_json
from mayfly.core.observability import Observer
from mayfly.jobs.authoring.effects import Effects
from mayfly.jobs.authoring.task import Continue, Declaration, Retry, Task
from mayfly.jobs.model import Job, Status, Submission, Unreadable, Wake
from mayfly.jobs.rules import (
    DEFAULT_MAX_ATTEMPTS,
    backoff_ms,
    check_progress,
    check_result,
    describe,
    is_expired,
    is_inline,
    is_terminal,
    job_id_for,
    new_job,
    read_submission,
    wait_before_claim_ms,
    waits_by_message,
)
from mayfly.jobs.store import Claim, ClaimRefused, JobExists, JobStore
from mayfly.jobs.worker.group_commit import Member, Outcome
from mayfly.jobs.worker.powertools import AlreadyCompleted
from mayfly.jobs.writes import claimed

__all__ = ["Attempt", "JobFailed", "Worker"]


class JobFailed(LeaseHeld):
    """An attempt failed and the job waits in RETRY; its message is wanted again in `seconds`."""

    code = "job-failed"


class _MessageDone(MayflyError):
    """The job has just ended as DEAD, or waits for its time in the table; its message is done."""


@dataclass(frozen=True)
class Worker:
    """What it takes to run jobs.

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
    #: Tasks that other functions run: jobs of theirs may be asked for here, too.
    known: Mapping[str, Declaration] = field(default_factory=dict)
    #: How long what has finished may wait to be committed with others, in milliseconds.
    stage_ms: int = 50

    def new_job(self, tenant: str, job_id: str, submission: Submission) -> Job:
        """A job as it is before its first claim."""
        task = self.tasks.get(submission.task)
        declaration = task.declaration if task else self.known.get(submission.task)
        return new_job(tenant, job_id, submission, declaration, now_ms=self.clock())


class Attempt:
    """One delivery of one message, until its job is claimed, and then that claim.

    Optimistic attempts make no claim: the job is run in the version that was read, and its commit
    fails where anybody has changed it since. `stage` takes what a finished attempt wants to commit.
    """

    def __init__(
        self, worker: Worker, message: Wake | Submission, message_id: str, *,
        is_first_receive: bool,
        stage: Callable[["Attempt", Member], None], seconds_left: Callable[[], float],
    ) -> None:  # fmt: skip
        self._worker = worker
        self._message_id = message_id
        self._nonce = worker.new_nonce()
        self._is_first_receive = is_first_receive
        self._stage = stage
        self._seen: Job | None = None
        self._is_fresh = False
        self._job: Job | None = None
        self._is_claim_written = False
        self._has_progressed = False
        self._result = "null"
        self._lost: Fenced | None = None
        self.is_optimistic = False
        self._claiming = threading.Lock()
        self.has_started = False
        #: Whether its invocation had run no other job before, so that its time was all there was.
        self.runs_first = True
        self.has_ended = False
        if isinstance(message, Wake):
            self.tenant, self.job_id, self._new = message.tenant, message.job_id, None
        else:
            self.tenant = worker.producer_tenant
            self.job_id = job_id_for(
                self.tenant, message.idempotency_key, otherwise=f"message {message_id}"
            )
            self._new = worker.new_job(self.tenant, self.job_id, message)
        self._effects = Effects(
            self.tenant,
            counters_table=worker.counters_table,
            serialize=worker.serialize,
            follow_up=self._follow_up,
            checkpoint=self._checkpoint,
            seconds_left=seconds_left,
            clock=worker.clock,
        )

    # ------------------------------------------------------------ before the run

    @property
    def request(self) -> str | None:
        """What the message asks for beside the job's id: equal for copies of one message, None
        where it only wakes a job.
        """
        return self._new.fingerprint if self._new else None

    @property
    def new(self) -> Job | None:
        """The job that the message asks for, as it would be made; None where it only wakes one."""
        return self._new

    @property
    def job(self) -> Job:
        """The job as this attempt has it: claimed, or as it would be if it were."""
        assert self._job is not None
        return self._job

    @property
    def attempts_seen(self) -> int:
        """How many attempts the job had had when the batch was read."""
        return self._seen.attempt if self._seen else 0

    @property
    def is_exclusive(self) -> bool:
        """Whether the job's task wants a claim before it runs."""
        task = self._task
        return task is not None and task.declaration.exclusive

    def see(self, found: Job | None) -> None:
        """The job as the batch was read, None where there was none. Decides how it is run."""
        self._seen = found
        self._is_fresh = self._looks_fresh()
        self.is_optimistic = self._is_fresh and self._task is not None and not self.is_exclusive

    def is_for_others(self) -> bool:
        """Whether a message wakes a job here that another function runs; that one has a message of
        its own.
        """
        return self._seen is not None and self._seen.task in self._worker.known

    def ended_before(self) -> bool:
        """Whether the job had ended when the batch was read, so that nothing is left to do for this
        message.
        """
        seen = self._seen
        return (
            seen is not None
            and is_terminal(seen)
            and not is_expired(seen, self._worker.clock())
            and self._is_same_request(seen)
        )

    def early_claim(self) -> Claim | None:
        """The claim to make together with others of the batch, None where there is none or it is to
        be made at the job's own turn.

        Only on a message's first receive: a redelivered job may be what killed its process, and
        then takes the claims of its neighbours with it. For the same reason never on the last
        attempt, which a neighbour's crash would spend.
        """
        if not self._is_fresh or not self.is_exclusive:
            return None
        is_last = self._origin.attempt + 1 >= self._origin.max_attempts
        return None if is_last else Claim(self._origin, self._nonce, is_new=self._seen is None)

    def accept_claim(self, job: Job | None) -> None:
        """What came of the early claim; None where the claim is to be made at the job's own turn
        after all.
        """
        self._job = job
        self._is_claim_written = job is not None

    # ------------------------------------------------------------ claims beside the run

    @property
    def holds_claim(self) -> bool:
        """Whether there is a claim to renew."""
        return self._is_claim_written and self._lost is None and not self.has_ended

    @property
    def runs_unclaimed(self) -> bool:
        """Whether it runs, and nobody else can see it."""
        is_running = self._job is not None and self.has_started and not self.has_ended
        return (
            self.is_optimistic and is_running and not self._is_claim_written and self._lost is None
        )

    def claim_late(self) -> None:
        """Claims a job that has been running without, because it takes long: from here on others
        see who runs it.
        """
        with self._claiming:  # the heartbeat and the task's own thread may both want to
            if not self._is_claim_written:
                self._claim_late()

    def _claim_late(self) -> None:
        worker = self._worker
        mine = replace(self.job, lease_until_ms=worker.clock() + worker.lease_ms)
        try:
            self._lost = self._worker.store.claim_late(
                self._origin, mine, is_new=self._seen is None
            )
        except StoreUnavailable as problem:
            worker.observe.log.warning(
                "a long job could not be claimed; the next beat tries again",
                error=describe(problem),
            )
            return
        self._is_claim_written = self._lost is None

    def hand_back(self) -> None:
        """Undoes a claim that was made early, for a job that was not started: it costs no
        attempt.
        """
        try:
            self._worker.store.hand_back(self.job, now_ms=self._worker.clock())
        except (Fenced, StoreUnavailable) as problem:
            self._worker.observe.log.warning(
                "a claim could not be handed back; its lease runs out by itself",
                error=describe(problem),
            )
        self.has_ended = True

    def learn(self, lost: Fenced | None) -> None:
        """What the heartbeat found, from its own thread: the task hears of a lost claim at its next
        checkpoint.
        """
        self._lost = self._lost or lost

    # ------------------------------------------------------------ the run, as Powertools drives it

    def claim(self) -> None:
        """See Claimant. Ends as DEAD a job whose last attempt was interrupted."""
        if (
            self._job is not None
        ):  # claimed with others, and perhaps lost while it waited for its turn
            self._checkpoint()
            return
        seen, now_ms = self._seen, self._worker.clock()
        if self.is_optimistic:
            self._job = claimed(
                self._origin, nonce=self._nonce, now_ms=now_ms, lease_ms=self._worker.lease_ms
            )
            return
        if (
            seen is not None
            and not is_terminal(seen)
            and (wait := wait_before_claim_ms(seen, now_ms)) > 0
        ):
            raise LeaseHeld(seen.id, wait / 1000 + self._worker.jitter())
        try:
            self._job = self._claim()
        except ClaimRefused as refused:
            self._refused(refused)
        self._is_claim_written = True

    def run_task(self) -> Any:
        """Runs the task and checks what it gave before anything is written."""
        task = self._worker.tasks.get(self.job.task)
        if task is None:
            raise UnknownTask(self.job.task, list(self._worker.tasks))
        result = task.run(self.job, self._effects)
        self._result = check_result(result)
        self._effects.collected()
        return result

    def commit(self) -> None:
        """See Claimant. What came of it is told to `conclude`."""
        result = self._result
        worker, job, now_ms = self._worker, self.job, self._worker.clock()
        if self.is_optimistic:
            completion = worker.store.completion_unclaimed(
                self._origin, job, is_new=self._seen is None, result=result, now_ms=now_ms
            )
        else:
            completion = worker.store.completion(job, result=result, now_ms=now_ms)
        self._stage(
            self,
            Member(self.tenant, self.job_id, self._nonce, completion, self._effects.collected()),
        )

    def conclude(self, outcome: Outcome) -> MayflyError | None:
        """Deals with what came of the commit; returns the error with which the message comes back,
        None where it is done.

        A refused effect ends the job as DEAD, unless its task wants such a job to be tried again.
        """
        if outcome is None:
            self._worker.observe.count("JobSucceeded")
            return None
        cause: MayflyError = outcome
        try:
            if isinstance(outcome, EffectRefused):
                self.release(outcome)
            if isinstance(outcome, Contended):
                self._step_back(outcome)
        except MayflyError as ended:
            cause = ended
        try:
            self.settle(cause)
        except MayflyError as failure:
            return failure
        return None

    def release(self, failure: Exception) -> None:
        """See Claimant.

        Always raises: JobFailed where the job is to be tried again, _MessageDone where not.
        """
        worker, job, now_ms = self._worker, self.job, self._worker.clock()
        if failure is self._lost:
            raise failure
        if isinstance(failure, Continue) and (self._has_progressed or not self.runs_first):
            self._continue_later()
        is_final = self._is_hopeless(failure) or job.attempt >= job.max_attempts
        pause_ms = backoff_ms(job.attempt, worker.jitter())
        if isinstance(failure, Retry) and failure.after_seconds is not None:
            pause_ms = int(failure.after_seconds * 1000)
        self._give_up(
            error=describe(failure),
            retry_at_ms=None if is_final else now_ms + pause_ms,
            now_ms=now_ms,
        )
        if is_final:
            worker.observe.count("JobDead")
            worker.observe.log.error(
                "the job is dead; see its record for the reason",
                error=describe(failure),
                attempt=job.attempt,
                exc_info=None if isinstance(failure, MayflyError) else failure,
            )
            raise _MessageDone
        worker.observe.count("JobRetried")
        worker.observe.log.warning(
            "an attempt failed; the job runs again",
            error=describe(failure),
            attempt=job.attempt,
            in_ms=pause_ms,
            exc_info=None if isinstance(failure, MayflyError) else failure,
        )
        if not waits_by_message(now_ms + pause_ms, now_ms):  # in the table: a sweep hands it on
            raise _MessageDone
        raise JobFailed(job.id, pause_ms / 1000)

    def _continue_later(self) -> None:
        """Leaves the job to another invocation, at once. Always raises. Of a job that came to
        nothing because others had used the invocation up, the attempt is not even on record."""
        worker = self._worker
        if self._has_progressed:
            worker.store.put_off(self.job, now_ms=worker.clock())
        elif self._is_claim_written:
            worker.store.hand_back(self.job, now_ms=worker.clock())
        worker.observe.count("JobContinued")
        worker.observe.log.info("the invocation is nearly over; the job goes on in another one")
        raise JobFailed(self.job_id, 0)

    def _step_back(self, contended: Contended) -> None:
        """The job runs again soon, and this attempt counts for nothing: nothing of it was written,
        and it is not its fault.
        """
        worker = self._worker
        worker.observe.count("JobContended")
        worker.observe.log.warning(
            "a commit met nothing but conflicts; a counter this hot wants shards",
            error=describe(contended),
        )
        if self._is_claim_written:
            worker.store.hand_back(self.job, now_ms=worker.clock())
        raise LeaseHeld(self.job_id, 1 + worker.jitter())

    def key_taken(self) -> UnreadableMessage:
        """What a message is whose idempotency key came with another body before: no job."""
        return UnreadableMessage(
            self._message_id,
            f"its idempotency key belongs to job {self.job_id!r}, with another body",
        )

    def settle(self, cause: BaseException) -> None:
        """Decides what an error of claim, commit or release means for the message: gone (returns)
        or wanted again (raises).
        """
        match cause:
            case ClaimRefused(job=None):
                self._worker.observe.log.warning(
                    "a message names a job that does not exist; it is dropped"
                )
            case ClaimRefused():
                self._worker.observe.log.info("the job has ended before; the message is dropped")
            case _MessageDone():
                pass
            case Fenced() if self._new is not None and cause.fingerprint not in (
                None,
                self._new.fingerprint,
            ):
                raise self.key_taken() from cause
            case Fenced():
                self._worker.observe.log.warning(
                    "this attempt came too late; nothing of it was applied", error=describe(cause)
                )
                if (
                    not cause.has_ended
                ):  # the new owner may die, too, and its message is another one or this one
                    raise LeaseHeld(self.job_id, self._worker.lease_ms / 1000) from cause
            case _:
                raise cause

    @property
    def _origin(self) -> Job:
        """The job that an early claim or an optimistic run starts from: as it was read, or as the
        message makes it.
        """
        origin = self._seen or self._new
        assert origin is not None
        return origin

    @property
    def _task(self) -> Task | None:
        wanted = self._seen or self._new
        return self._worker.tasks.get(wanted.task) if wanted else None

    def _looks_fresh(self) -> bool:
        """Whether nobody has had the job yet, as far as can be seen, and its one write could make
        or change it.
        """
        if not self._is_first_receive:
            return False
        if self._seen is None:
            return (
                self._new is not None
                and self._new.status is Status.QUEUED
                and is_inline(self._new.payload)
            )
        return self._seen.status is Status.QUEUED and self._is_same_request(self._seen)

    def _give_up(self, *, error: str, retry_at_ms: int | None, now_ms: int) -> None:
        store, job = self._worker.store, self.job
        if self.is_optimistic and not self._is_claim_written:
            store.release_unclaimed(
                self._origin,
                job,
                is_new=self._seen is None,
                error=error,
                retry_at_ms=retry_at_ms,
                now_ms=now_ms,
            )
        else:
            store.release(job, error=error, retry_at_ms=retry_at_ms, now_ms=now_ms)

    def _claim(self) -> Job:
        worker = self._worker
        return worker.store.claim(
            self.tenant,
            self.job_id,
            nonce=self._nonce,
            now_ms=worker.clock(),
            lease_ms=worker.lease_ms,
            new=self._new,
            seen=self._seen,
        )

    def _refused(self, refused: ClaimRefused) -> None:
        """What follows from a claim that was refused: claims after all where the record has
        expired, raises otherwise.
        """
        found, worker = refused.job, self._worker
        if found is None:
            raise refused
        if self._new is not None and is_expired(found, worker.clock()):
            try:
                worker.store.create(self._new)
                self._job = self._claim()
            except (ClaimRefused, JobExists):  # somebody was quicker
                raise LeaseHeld(found.id, worker.jitter()) from None
            return
        if not self._is_same_request(found):
            raise self.key_taken() from None
        if found.status is Status.COMPLETED:
            raise AlreadyCompleted(canonical_json(found.result)) from None
        if is_terminal(found):
            raise refused
        if (wait := wait_before_claim_ms(found, worker.clock())) > 0:
            raise LeaseHeld(found.id, wait / 1000 + worker.jitter()) from None
        self._bury_if_exhausted(found)
        raise LeaseHeld(found.id, worker.jitter()) from None

    def _is_same_request(self, found: Job) -> bool:
        """Whether a job is the one that the message asks for, where it asks for one; another body
        under its key makes another.
        """
        return self._new is None or found.fingerprint == self._new.fingerprint

    def _is_hopeless(self, failure: Exception) -> bool:
        if isinstance(failure, EffectRefused):
            return failure.is_malformed or (
                failure.is_by_condition
                and not self._worker.tasks[self.job.task].declaration.retry_refused
            )
        return isinstance(failure, MayflyError) and not failure.retryable

    def _checkpoint(self, *progress: Any) -> None:
        if self._lost is not None:
            raise self._lost
        for found in progress:
            self._save(found)

    def _save(self, progress: Any) -> None:
        text = check_progress(progress)
        if not self._is_claim_written:
            self.claim_late()
        if not self._is_claim_written:
            raise self._lost or StoreUnavailable("save", "the job could not be claimed")
        try:
            self._worker.store.save(self.job, progress=text)
        except Fenced as lost:
            self._lost = lost
            raise
        # The same again is none, or a task that only ever continues would go on for ever.
        self._has_progressed = self._has_progressed or progress != self.job.progress
        self._job = replace(self.job, progress=progress)

    def _bury_if_exhausted(self, found: Job) -> None:
        if found.attempt < found.max_attempts:
            return
        worker = self._worker
        worker.store.bury(found, now_ms=worker.clock())
        worker.observe.count("JobDead")
        worker.observe.log.error(
            "the job is dead; its last attempt was interrupted", buried=found.id
        )
        raise _MessageDone

    def _follow_up(
        self, task: str, payload: Any, max_attempts: int | None, delay_seconds: float, ordinal: int
    ) -> list[dict[str, Any]]:
        """The puts of a follow-up job.

        Its id follows from this one's, so that no attempt makes another.
        """
        if task not in self._worker.tasks and task not in self._worker.known:
            raise UnknownTask(task, [*self._worker.tasks, *self._worker.known])
        submission = read_submission(
            {
                "task": task,
                "payload": payload,
                "max_attempts": max_attempts or DEFAULT_MAX_ATTEMPTS,
                "delay_seconds": delay_seconds,
            },
            idempotency_key=None,
        )
        submission = replace(submission, max_attempts=max_attempts)
        job_id = derived_id(
            "follow-up", self.tenant, self.job_id, str(self.job.created_at_ms), str(ordinal)
        )
        return self._worker.store.puts(self._worker.new_job(self.tenant, job_id, submission))
