"""Runs one message of the jobs queue: claim, run, commit; or leave the job as it should be found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyPersistenceLayerError
from aws_lambda_powertools.utilities.typing import LambdaContext

from mayfly.clock import Clock
from mayfly.errors import EffectRefused, Fenced, LeaseHeld, MayflyError, StoreUnavailable, UnknownTask, UnreadableMessage
from mayfly.fields import canonical_json
from mayfly.ids import derived_id
from mayfly.jobs.effects import Effects
from mayfly.jobs.model import Job, Status, Submission, Wake
from mayfly.jobs.persistence import AlreadyCompleted, TransactionalLayer, attempting
from mayfly.jobs.rules import (
    DEFAULT_MAX_ATTEMPTS,
    LEASE_MS,
    RETENTION_SECONDS,
    backoff_ms,
    check_result,
    describe,
    fingerprint,
    is_expired,
    is_terminal,
    job_id_for,
    read_submission,
    wait_before_claim_ms,
)
from mayfly.jobs.store import ClaimRefused, JobStore
from mayfly.jobs.tasks import Retry, Task
from mayfly.observe import Observer

__all__ = ["JobFailed", "Runner", "Worker"]


class JobFailed(LeaseHeld):
    """An attempt failed and the job waits in RETRY; its message is wanted again in `seconds`."""

    code = "job-failed"


class _JobDead(MayflyError):
    """The job has just ended as DEAD; its message is done."""


@dataclass(frozen=True)
class Worker:
    """What it takes to run jobs. `jitter()` draws from 0 to 1. `producer_tenant` owns the jobs that messages ask for."""

    store: JobStore
    tasks: Mapping[str, Task]
    counters_table: str
    producer_tenant: str
    observe: Observer
    clock: Clock
    new_nonce: Callable[[], str]
    jitter: Callable[[], float]
    serialize: Callable[[Any], Mapping[str, Any]]

    def new_job(self, tenant: str, job_id: str, submission: Submission) -> Job:
        """A job as it is before its first claim."""
        task = self.tasks.get(submission.task)
        return Job(
            id=job_id,
            tenant=tenant,
            task=submission.task,
            payload=submission.payload,
            status=Status.QUEUED,
            max_attempts=submission.max_attempts or (task.declaration.max_attempts if task else 1),
            created_at_ms=self.clock(),
            fingerprint=fingerprint(submission),
        )


class Runner:
    """Runs messages in one process, for as long as it lives. Threads may run messages beside each other."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._running: set[_Attempt] = set()
        self._config = IdempotencyConfig(
            expires_after_seconds=RETENTION_SECONDS, hash_function="sha256", use_local_cache=False, raise_on_no_idempotency_key=True
        )

        @idempotent_function(data_keyword_argument="job", persistence_store=TransactionalLayer(), config=self._config, key_prefix="job")
        def perform(*, job: str, attempt: _Attempt) -> Any:
            return attempt.run_task()

        self._perform = perform

    def run(self, message: Wake | Submission, message_id: str, context: LambdaContext) -> None:
        """Runs one message. Returns when its job has ended, by this attempt or by another one before.

        Raises LeaseHeld where the message must come back later, StoreUnavailable where the store could not say.
        """
        self._config.register_lambda_context(context)
        attempt = _Attempt(self._worker, message, message_id)
        log = self._worker.observe.log
        log.append_keys(job=attempt.job_id)
        self._running.add(attempt)
        try:
            with attempting(attempt):
                self._perform(job=attempt.job_id, attempt=attempt)
        except IdempotencyPersistenceLayerError as wrapped:
            attempt.settle(wrapped.__cause__ or wrapped)
        finally:
            self._running.discard(attempt)
            log.remove_keys(["job"])

    def beat(self) -> None:
        """Renews the leases of all jobs that run now; an attempt that has lost its job learns of it at its next checkpoint."""
        for attempt in list(self._running):
            attempt.renew()


class _Attempt:
    """One delivery of one message, until its job is claimed, and then that claim."""

    def __init__(self, worker: Worker, message: Wake | Submission, message_id: str) -> None:
        self._worker = worker
        self._message_id = message_id
        self._nonce = worker.new_nonce()
        self._job: Job | None = None
        self._lost: Fenced | None = None
        if isinstance(message, Wake):
            self.tenant, self.job_id, self._new = message.tenant, message.job_id, None
        else:
            self.tenant = worker.producer_tenant
            self.job_id = job_id_for(self.tenant, message.idempotency_key, otherwise=f"message {message_id}")
            self._new = worker.new_job(self.tenant, self.job_id, message)
        self._effects = Effects(
            self.tenant,
            counters_table=worker.counters_table,
            serialize=worker.serialize,
            follow_up=self._follow_up,
            checkpoint=self._checkpoint,
        )

    @property
    def job(self) -> Job:
        """The claimed job."""
        assert self._job is not None
        return self._job

    def claim(self) -> None:
        """See Claimant. Ends as DEAD a job whose last attempt was interrupted."""
        try:
            self._job = self._claim()
        except ClaimRefused as refused:
            found = refused.job
            if found is None:
                raise
            if self._new is not None and found.fingerprint != self._new.fingerprint and not is_expired(found, self._worker.clock()):
                raise UnreadableMessage(self._message_id, f"its idempotency key belongs to job {found.id!r}, with another body") from None
            if self._new is not None and is_expired(found, self._worker.clock()):
                self._worker.store.create(self._new)
                self._job = self._claim()
                return
            if found.status is Status.COMPLETED:
                raise AlreadyCompleted(canonical_json(found.result)) from None
            if is_terminal(found):
                raise
            if (wait := wait_before_claim_ms(found, self._worker.clock())) > 0:
                raise LeaseHeld(found.id, wait / 1000 + self._worker.jitter()) from None
            self._bury_if_exhausted(found)
            raise LeaseHeld(found.id, self._worker.jitter()) from None

    def renew(self) -> None:
        """Renews the lease, where there is one. Called by the heartbeat, from its own thread."""
        worker, job = self._worker, self._job
        if job is None or self._lost is not None:
            return
        try:
            worker.store.renew(job, now_ms=worker.clock(), lease_ms=LEASE_MS)
        except Fenced as lost:
            self._lost = lost
        except StoreUnavailable as problem:
            worker.observe.log.warning("a lease was not renewed; it is tried again at the next beat", error=describe(problem))

    def run_task(self) -> Any:
        """Runs the task and checks what it gave before anything is written."""
        task = self._worker.tasks.get(self.job.task)
        if task is None:
            raise UnknownTask(self.job.task, list(self._worker.tasks))
        result = task.run(self.job, self._effects)
        check_result(result)
        self._effects.collected()
        return result

    def commit(self, result: str) -> None:
        """See Claimant. A refused effect ends the job as DEAD: it would be refused again."""
        worker = self._worker
        try:
            worker.store.commit(self.job, result=result, effects=self._effects.collected(), now_ms=worker.clock())
        except EffectRefused as refused:
            self.release(refused)
        worker.observe.count("JobSucceeded")

    def release(self, failure: Exception) -> None:
        """See Claimant. Always raises: JobFailed where the job is to be tried again, _JobDead where not."""
        worker, job, now_ms = self._worker, self.job, self._worker.clock()
        if failure is self._lost:
            raise failure
        is_hopeless = isinstance(failure, MayflyError) and not failure.retryable
        is_final = is_hopeless or job.attempt >= job.max_attempts
        pause_ms = backoff_ms(job.attempt, worker.jitter())
        if isinstance(failure, Retry) and failure.after_seconds is not None:
            pause_ms = int(failure.after_seconds * 1000)
        worker.store.release(job, error=describe(failure), retry_at_ms=None if is_final else now_ms + pause_ms, now_ms=now_ms)
        if is_final:
            worker.observe.count("JobDead")
            worker.observe.log.error(
                "the job is dead; see its record for the reason", error=describe(failure), attempt=job.attempt, exc_info=failure
            )
            raise _JobDead
        worker.observe.count("JobRetried")
        worker.observe.log.warning(
            "an attempt failed; the job runs again", error=describe(failure), attempt=job.attempt, in_ms=pause_ms, exc_info=failure
        )
        raise JobFailed(job.id, pause_ms / 1000)

    def settle(self, cause: BaseException) -> None:
        """Decides what an error of claim, commit or release means for the message: gone (returns) or wanted again (raises)."""
        match cause:
            case ClaimRefused(job=None):
                self._worker.observe.log.warning("a message names a job that does not exist; it is dropped")
            case ClaimRefused():
                self._worker.observe.log.info("the job has ended before; the message is dropped")
            case _JobDead():
                pass
            case Fenced():
                self._worker.observe.log.warning("this attempt came too late; nothing of it was applied", error=describe(cause))
                if not cause.has_ended:  # the new owner may die, too, and its message is another one or this one
                    raise LeaseHeld(self.job_id, LEASE_MS / 1000) from cause
            case _:
                raise cause

    def _checkpoint(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _claim(self) -> Job:
        worker = self._worker
        return worker.store.claim(self.tenant, self.job_id, nonce=self._nonce, now_ms=worker.clock(), lease_ms=LEASE_MS, new=self._new)

    def _bury_if_exhausted(self, found: Job) -> None:
        if found.attempt < found.max_attempts:
            return
        worker = self._worker
        reason = f"attempt {found.attempt} of {found.max_attempts} was interrupted: its process died"
        worker.store.bury(found, error=reason, now_ms=worker.clock())
        worker.observe.count("JobDead")
        worker.observe.log.error("the job is dead; its last attempt was interrupted", buried=found.id)
        raise _JobDead

    def _follow_up(self, task: str, payload: Any, max_attempts: int | None, ordinal: int) -> list[dict[str, Any]]:
        """The puts of a follow-up job. Its id follows from this one's, so that no attempt makes another."""
        if task not in self._worker.tasks:
            raise UnknownTask(task, list(self._worker.tasks))
        submission = read_submission(
            {"task": task, "payload": payload, "max_attempts": max_attempts or DEFAULT_MAX_ATTEMPTS}, idempotency_key=None
        )
        submission = replace(submission, max_attempts=max_attempts)
        job_id = derived_id("follow-up", self.tenant, self.job_id, str(self.job.created_at_ms), str(ordinal))
        return self._worker.store.puts(self._worker.new_job(self.tenant, job_id, submission))
