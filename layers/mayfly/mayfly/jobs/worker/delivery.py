"""One delivery of one message: from the read of its job to the fate of the message."""

from collections.abc import Callable, Coroutine
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from typing import Any

from mayfly.core.errors import MayflyError
from mayfly.core.ids import derived_id
from mayfly.core.json_input import check_json
from mayfly.jobs.authoring.effects import Effects
from mayfly.jobs.authoring.task import Task
from mayfly.jobs.errors import (
    Contended,
    EffectRefused,
    PayloadMismatch,
    UnknownTask,
    UnreadableMessage,
)
from mayfly.jobs.group_commit import CommitOutcome, Member
from mayfly.jobs.model import Job
from mayfly.jobs.rules import (
    DEFAULT_MAX_ATTEMPTS,
    check_result,
    is_expired,
    is_terminal,
    wait_before_claim_ms,
)
from mayfly.jobs.wire import read_submission
from mayfly.jobs.worker.claimed import Claimed
from mayfly.jobs.worker.deps import Deps
from mayfly.jobs.worker.failures import fail, release_contended, settle
from mayfly.jobs.worker.optimistic import Optimistic
from mayfly.jobs.worker.ownership import Ownership
from mayfly.jobs.worker.request import Request

__all__ = ["Delivery", "Stage"]


class _Escaped(Exception):
    """A task has raised an exception that is not an Exception, such as SystemExit: `original`.

    Powertools and the batch handle instances of Exception only. Any other would end the process,
    and the jobs of the batch with it.
    """

    def __init__(self, original: BaseException) -> None:
        self.original = original
        super().__init__(type(original).__name__)


#: Takes the completion of a delivery whose task has returned.
Stage = Callable[["Delivery", Member], None]


class Delivery:
    """A message being worked on. Powertools drives it; see `mayfly.jobs.worker.powertools`."""

    def __init__(
        self, deps: Deps, request: Request, *, stage: Stage, seconds_left: Callable[[], float]
    ) -> None:
        self._deps = deps
        self._stage = stage
        self._seen: Job | None = None
        self._result = "null"
        self._nonce = deps.new_nonce()
        self._seconds_left = seconds_left
        self.request = request
        self.ownership: Ownership = Claimed(deps, request, self._nonce)
        self.has_started = False
        self.has_ended = False
        #: False if the invocation has run another job before, which used part of its time.
        self.runs_first = True
        self._effects = Effects(
            request.tenant,
            counters_table=deps.counters_table,
            serialize=deps.serialize,
            follow_up=self._follow_up,
            checkpoint=self._checkpoint,
            seconds_left=seconds_left,
            clock=deps.clock,
        )

    # ------------------------------------------------------------ before the run

    @property
    def key(self) -> tuple[str, str]:
        """Tenant and id of the job."""
        return self.request.tenant, self.request.job_id

    @property
    def attempts_seen(self) -> int:
        """The number of attempts that the job had when the batch was read."""
        return self._seen.attempt if self._seen else 0

    @property
    def is_optimistic(self) -> bool:
        """True if the task runs without a claim."""
        return isinstance(self.ownership, Optimistic)

    @property
    def is_exclusive(self) -> bool:
        """True if the job's task must be claimed before it runs."""
        task = self._task
        return task is not None and task.declaration.exclusive

    @property
    def runs_beside(self) -> bool:
        """True if the job's task must be claimed, and may run next to others of the batch."""
        task = self._task
        return task is not None and task.runs_beside

    def see(self, job: Job | None) -> None:
        """Notes the job as the batch was read, and decides how it is owned."""
        self._seen = job
        is_plain = self._task is not None and not self.is_exclusive
        ownership = Optimistic if is_plain and self.request.is_fresh(job) else Claimed
        self.ownership = ownership(self._deps, self.request, self._nonce, job)

    def misfit(self) -> UnreadableMessage | None:
        """Returns the error of a message that asks for a new job whose payload its task refuses.

        A job that exists keeps its messages, whatever its payload is: its attempt says so.
        """
        new, task = self.request.new, self._task
        if self._seen is not None or new is None or task is None:
            return None
        try:
            task.declaration.check_payload(new.payload)
        except PayloadMismatch as problem:
            return UnreadableMessage(self.request.message_id, str(problem))
        return None

    def may_run_beside(self) -> bool:
        """Returns True if the job may run in a thread, next to others. See Claimed."""
        ownership = self.ownership
        return isinstance(ownership, Claimed) and ownership.may_run_beside()

    def rest_seconds(self) -> float:
        """Returns the seconds for which the job must wait although it may run, 0 to run it now."""
        job = self._seen or self.request.new
        if job is None or is_terminal(job) or wait_before_claim_ms(job, self._deps.clock()) > 0:
            return 0.0  # the claim decides
        return self._deps.rest_seconds(job, self.request.receives)

    def is_for_others(self) -> bool:
        """Returns True if another function runs the job, which has another message for it."""
        return self._seen is not None and self._seen.task in self._deps.known

    def has_ended_before(self) -> bool:
        """Returns True if the job had ended when the batch was read: there is nothing to do."""
        seen = self._seen
        return (
            seen is not None
            and is_terminal(seen)
            and not is_expired(seen, self._deps.clock())
            and self.request.is_for(seen)
        )

    # ------------------------------------------------------------ next to the run: the heartbeat

    @property
    def holds_claim(self) -> bool:
        """True if there is a claim to renew."""
        return self.ownership.is_written and self.ownership.lost is None and not self.has_ended

    @property
    def runs_unclaimed(self) -> bool:
        """True if the task runs and no other worker can see it."""
        ownership = self.ownership
        is_running = ownership.is_taken and self.has_started and not self.has_ended
        return is_running and not ownership.is_written and ownership.lost is None

    # ------------------------------------------------------------ the run, as Powertools drives it

    def claim(self) -> None:
        """Takes the job. See Claimant."""
        self.ownership.acquire()

    def run_task(self) -> None:
        """Runs the task, and checks its result and effects before anything is written.

        Whatever the task raises, this raises an Exception.
        """
        job = self.ownership.job
        task = self._deps.tasks.get(job.task)
        if task is None:
            raise UnknownTask(job.task, list(self._deps.tasks))
        if self.request.new is not None:
            # The job's own write has the payload, and the task may change what it is given.
            job = replace(job, payload=deepcopy(job.payload))
        self.ownership.begin()
        try:
            self._result = check_result(self._returned(task.run(job, self._effects)))
            self._effects.collected()
        except BaseException as raised:
            if isinstance(raised, Exception):
                raise
            raise _Escaped(raised) from None

    def _returned(self, value: Any) -> Any:
        """Returns what a task has returned; a coroutine is run to its end."""
        if not isinstance(value, Coroutine):
            return value
        # asyncio takes a while to load, and is for async tasks only.
        loop = import_module("mayfly.jobs.worker.event_loop").process_loop
        return loop.run(value, seconds_left=self._seconds_left)

    def complete(self) -> None:
        """Stages the completion, with the effects; `conclude` gets the outcome. See Claimant."""
        completion = self.ownership.completion(self._result)
        effects = self._effects.collected()
        self._stage(self, Member(*self.key, self._nonce, completion, effects))

    def fail(self, failure: Exception) -> None:
        """Retries, continues or buries the job after `failure` (`failures.fail`). See Claimant."""
        cause = failure.original if isinstance(failure, _Escaped) else failure
        fail(self._deps, self.ownership, cause, runs_first=self.runs_first)

    # ------------------------------------------------------------ after it

    def conclude(self, outcome: CommitOutcome) -> MayflyError | None:
        """Returns the error with which the message comes back, None if it can be deleted.

        A refused effect buries the job, unless its task wants such a job to be retried.
        """
        if outcome is None:
            self._deps.observe.count("JobSucceeded")
            return None
        cause: MayflyError = outcome
        try:
            if isinstance(outcome, EffectRefused):
                self.fail(outcome)
            if isinstance(outcome, Contended):
                release_contended(self._deps, self.ownership, outcome)
        except MayflyError as ended:
            cause = ended
        try:
            self.settle(cause)
        except MayflyError as failure:
            return failure
        return None

    def settle(self, cause: BaseException) -> None:
        """Returns if the message can be deleted after `cause`. See `failures.settle`."""
        settle(self._deps, self.request, cause)

    # ------------------------------------------------------------ what the task may call

    @property
    def _task(self) -> Task | None:
        job = self._seen or self.request.new
        return self._deps.tasks.get(job.task) if job else None

    def _checkpoint(self, *progress: Any) -> None:
        self.ownership.check()
        for value in progress:
            self.ownership.save(value)

    def _follow_up(
        self, task: str, payload: Any, max_attempts: int | None, delay_seconds: float, ordinal: int
    ) -> list[dict[str, Any]]:
        """Returns the puts of a follow-up job.

        Its id is derived from this job's id, so a second attempt makes the same follow-up job.
        """
        deps, tenant, job_id = self._deps, *self.key
        if task not in deps.tasks and task not in deps.known:
            raise UnknownTask(task, [*deps.tasks, *deps.known])
        check_json("payload", payload)
        if task in deps.tasks:
            deps.tasks[task].declaration.check_payload(payload)
        submission = read_submission(
            {
                "task": task,
                "payload": payload,
                "max_attempts": DEFAULT_MAX_ATTEMPTS if max_attempts is None else max_attempts,
                "delay_seconds": delay_seconds,
            },
            idempotency_key=None,
        )
        submission = replace(submission, max_attempts=max_attempts)
        created_at = str(self.ownership.job.created_at_ms)
        follow_up_id = derived_id("follow-up", tenant, job_id, created_at, str(ordinal))
        return deps.store.puts(deps.new_job(tenant, follow_up_id, submission))
