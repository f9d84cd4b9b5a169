"""Runs the jobs of a batch of messages: read together, claimed together where they want a claim,
committed together.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any, Final

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyPersistenceLayerError
from aws_lambda_powertools.utilities.typing import LambdaContext

from mayfly.core.errors import (
    InvalidRequest,
    LeaseHeld,
    MayflyError,
    PayloadTooLarge,
    StoreUnavailable,
    UnreadableMessage,
)
from mayfly.jobs.authoring.effects import EFFECT_LIMIT
from mayfly.jobs.model import Unreadable
from mayfly.jobs.rules import RETENTION_SECONDS, describe, read_message
from mayfly.jobs.store import Claim, JobExists
from mayfly.jobs.worker.attempt import Attempt, Worker
from mayfly.jobs.worker.group_commit import Member
from mayfly.jobs.worker.powertools import TransactionalLayer, attempting

__all__ = ["Batch", "Runner", "Worker"]

#: Statements of one BatchExecuteStatement.
_STATEMENTS: Final = 25
#: How many exclusive jobs of a batch run beside each other.
_THREADS: Final = 10


class Runner:
    """Runs jobs in one process, for as long as it lives."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._config = IdempotencyConfig(
            expires_after_seconds=RETENTION_SECONDS,
            hash_function="sha256",
            use_local_cache=False,
            raise_on_no_idempotency_key=True,
        )

        @idempotent_function(
            data_keyword_argument="job",
            persistence_store=TransactionalLayer(),
            config=self._config,
            key_prefix="job",
        )
        def perform(*, job: str, attempt: Attempt) -> Any:
            return attempt.run_task()

        self._perform = perform

    def open(self, records: Sequence[SQSRecord], context: LambdaContext) -> "Batch":
        """The jobs of one invocation. Nothing is kept from one invocation to the next."""
        self._config.register_lambda_context(context)
        return Batch(
            self._worker,
            self._run,
            records,
            seconds_left=lambda: context.get_remaining_time_in_millis() / 1000,
        )

    def _run(self, attempt: Attempt) -> None:
        log = self._worker.observe.log
        log.thread_safe_append_keys(job=attempt.job_id)
        try:
            with attempting(attempt):
                self._perform(job=attempt.job_id, attempt=attempt)
        except IdempotencyPersistenceLayerError as wrapped:
            attempt.settle(wrapped.__cause__ or wrapped)
        finally:
            attempt.has_ended = True
            log.thread_safe_remove_keys(["job"])


class Batch:
    """The messages of one invocation and their jobs. See `mayfly.jobs.worker.batch.Batch` for how
    it is driven.

    ::

        optimistic   first receive, the default        run one after another, unclaimed; staged, committed together
        exclusive    first receive, task says so       claimed together; run in threads; staged, committed together
        alone        received before, and all others   claimed at their turn, run last and one at a time; committed at once

    A record that `run` returned for may still be staged: only `close` tells whether it is done.
    """

    def __init__(
        self,
        worker: Worker,
        run: Callable[[Attempt], None],
        records: Sequence[SQSRecord],
        *,
        seconds_left: Callable[[], float],
    ) -> None:
        self._worker = worker
        self._seconds_left = seconds_left
        self._run = run
        self.records: Sequence[SQSRecord] = records
        self._unreadable: dict[str, UnreadableMessage] = {}
        self._attempts: dict[str, Attempt] = {}
        # What a run and what a commit came to are kept apart: either may be known first, from any
        # thread.
        self._for_others: dict[str, Attempt] = {}
        self._run_failures: dict[Attempt, MayflyError] = {}
        self._commit_failures: dict[Attempt, MayflyError] = {}
        self._returned: list[SQSRecord] = []
        self._lock = threading.Lock()
        self._committing = threading.Lock()
        self._staged: list[tuple[Attempt, Member]] = []
        self._staged_since_ms = 0
        self._uncommitted: set[Attempt] = set()
        self._early: list[Attempt] = []
        self._threads: ThreadPoolExecutor | None = None
        self._running: dict[Attempt, Future[None]] = {}
        leaders: dict[Any, Attempt] = {}
        for record in records:
            attempt = self._read(record)
            if attempt is not None and attempt.new is not None and attempt.new.task in worker.known:
                self._for_others[record.message_id] = attempt
            elif attempt is not None:
                # Copies of a message are one attempt: a store takes a job once in a batch, and once
                # is enough.
                leader = leaders.setdefault(
                    (attempt.tenant, attempt.job_id, attempt.request), attempt
                )
                self._attempts[record.message_id] = leader

    def prepare(self) -> None:
        """Reads all jobs, claims those that want it, and puts the records in the order to run them
        in.
        """
        attempts = self._all()
        try:
            found = self._worker.store.read_many(
                list(dict.fromkeys((each.tenant, each.job_id) for each in attempts))
            )
        except StoreUnavailable as problem:
            self._worker.observe.log.warning(
                "a batch could not be read; its jobs are claimed one by one",
                error=describe(problem),
            )
            return
        for attempt in attempts:
            attempt.see(found.get((attempt.tenant, attempt.job_id)))
        self._early = self._claim_together(attempts)
        # What was received before may have killed its process, the more likely the more attempts it
        # has had: it comes last.
        self.records = sorted(self.records, key=self._danger)

    def begin(self) -> None:
        """Starts the jobs that were claimed together, each in a thread: they wait on the outside
        more than they compute.
        """
        if not self._early:
            return
        self._threads = ThreadPoolExecutor(
            min(len(self._early), _THREADS), thread_name_prefix="job"
        )
        for attempt in self._early:
            # A context each: Powertools' state and ours stay apart.
            self._running[attempt] = self._threads.submit(
                copy_context().run, self._perform, attempt
            )

    def has_started(self, record: SQSRecord) -> bool:
        """Whether a record runs already, in a thread."""
        attempt = self._attempts.get(record.message_id)
        return attempt is not None and attempt.has_started

    def run(self, record: SQSRecord) -> None:
        """Runs one message's job. Returns when it has ended or is staged, or the message was no job
        and is kept.

        Raises LeaseHeld where the message must come back later, StoreUnavailable where the store
        could not say.
        """
        if record.message_id in self._unreadable:
            self._keep(record, self._unreadable[record.message_id])
            return
        if record.message_id in self._for_others:
            self._hand_on(record, self._for_others[record.message_id])
            return
        attempt = self._attempts[record.message_id]
        if attempt in self._running:
            self._await(attempt)
        elif attempt.has_started:
            pass  # a copy: its leader has run
        elif attempt.is_optimistic:
            self._commit_if_due()
            self._perform(attempt)
        else:
            self._commit()  # what has finished is safe before something runs that may take the process along
            self._perform(attempt)
            self._commit()
        if self._is_done_with(record, attempt):
            self._returned.append(record)

    def beat(self) -> None:
        """Renews the claims of all jobs that run or wait for their turn, claims what runs for long
        without, commits what waits.
        """
        held = [attempt for attempt in self._all() if attempt.holds_claim]
        for some in _chunks(held):
            try:
                answers = self._worker.store.renew(
                    [attempt.job for attempt in some],
                    now_ms=self._worker.clock(),
                    lease_ms=self._worker.lease_ms,
                )
            except StoreUnavailable as problem:
                self._worker.observe.log.warning(
                    "leases were not renewed; the next beat tries again", error=describe(problem)
                )
                continue
            for attempt, lost in zip(some, answers, strict=True):
                attempt.learn(lost)
        for attempt in self._all():
            if attempt.runs_unclaimed:
                attempt.claim_late()
        self._commit_if_due()

    def close(self) -> dict[str, MayflyError]:
        """Waits for the threads, commits what is staged, hands back what was not started.

        Returns the errors with which messages come back after all, for which `run` had returned.
        """
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        self._commit()
        for attempt in self._all():
            if attempt.holds_claim and not attempt.has_started:
                attempt.hand_back()
        late: dict[str, MayflyError] = {}
        for record in self._returned:
            attempt = self._attempts[record.message_id]
            try:
                self._is_done_with(record, attempt)
            except MayflyError as failure:
                late[record.message_id] = failure
            if attempt in self._uncommitted:
                late[record.message_id] = self._unknown(attempt)
        return late

    # ------------------------------------------------------------ reading and claiming

    def _read(self, record: SQSRecord) -> Attempt | None:
        try:
            message = read_message(record.body)
        except (InvalidRequest, PayloadTooLarge) as problem:
            self._unreadable[record.message_id] = UnreadableMessage(record.message_id, str(problem))
            return None
        return Attempt(
            self._worker,
            message,
            record.message_id,
            is_first_receive=not _was_received_before(record),
            stage=self._stage,
            seconds_left=self._seconds_left,
        )

    def _keep(self, record: SQSRecord, problem: UnreadableMessage) -> None:
        """A message that is no job is kept for the operator; receiving it again would change
        nothing.
        """
        self._worker.keep_unreadable(
            Unreadable(record.message_id, record.body, problem.problem, self._worker.clock())
        )
        self._worker.observe.count("MessageUnreadable")
        self._worker.observe.log.error(
            "a message is no job; it is kept, see 'mayfly jobs unreadable'", error=describe(problem)
        )

    def _hand_on(self, record: SQSRecord, attempt: Attempt) -> None:
        """A message asks for a job that another function runs: the job is made here, and the stream
        takes it there.
        """
        assert attempt.new is not None
        try:
            self._worker.store.create(attempt.new)
        except JobExists as exists:
            if exists.job.fingerprint != attempt.new.fingerprint:
                self._keep(record, attempt.key_taken())

    def _all(self) -> list[Attempt]:
        return list(dict.fromkeys(self._attempts.values()))

    def _danger(self, record: SQSRecord) -> tuple[bool, bool, int]:
        attempt = self._attempts.get(record.message_id)
        if attempt is None:
            return (False, False, 0)
        is_alone = not attempt.is_optimistic and attempt not in self._early
        return (_was_received_before(record), is_alone, attempt.attempts_seen)

    def _claim_together(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """Makes the early claims; returns whose they were, whatever came of them."""
        claims: dict[tuple[str, str], tuple[Attempt, Claim]] = {}
        for attempt in attempts:
            claim = attempt.early_claim()
            if claim is not None:
                claims.setdefault((attempt.tenant, attempt.job_id), (attempt, claim))
        if len(claims) < 2:
            return []
        for some in _chunks(list(claims.values())):
            try:
                jobs = self._worker.store.claim_many(
                    [claim for _, claim in some],
                    now_ms=self._worker.clock(),
                    lease_ms=self._worker.lease_ms,
                )
            except StoreUnavailable as problem:
                self._worker.observe.log.warning(
                    "a batch could not be claimed; its jobs are claimed one by one",
                    error=describe(problem),
                )
                continue
            for (attempt, _), job in zip(some, jobs, strict=True):
                attempt.accept_claim(job)
        return [attempt for attempt, _ in claims.values()]

    # ------------------------------------------------------------ running

    def _await(self, attempt: Attempt) -> None:
        """Waits for a thread's attempt, and commits meanwhile what has waited for long enough."""
        future = self._running[attempt]
        while not wait([future], timeout=self._worker.stage_ms / 1000).done:
            self._commit_if_due()
        if all(each.done() for each in self._running.values()):
            self._commit_if_due(is_last=True)
        future.result()

    def _perform(self, attempt: Attempt) -> None:
        attempt.runs_first = not any(each.has_started for each in self._all())
        attempt.has_started = True
        if attempt.is_for_others():
            self._worker.observe.log.warning(
                "a message wakes a job that another function runs; it is dropped",
                job=attempt.job_id,
            )
            return
        if attempt.ended_before():
            self._worker.observe.log.info(
                "the job has ended before; the message is dropped", job=attempt.job_id
            )
            return
        self._run_failures[attempt] = self._unknown(
            attempt
        )  # for the copies of a message that fails in an unforeseen way
        try:
            self._run(attempt)
        except MayflyError as failure:
            self._run_failures[attempt] = failure
        else:
            del self._run_failures[attempt]

    def _is_done_with(self, record: SQSRecord, attempt: Attempt) -> bool:
        """Whether a record needs nothing more, as far as is known; a message that turned out to be
        no job is kept. Raises its error.
        """
        failure = self._commit_failures.get(attempt) or self._run_failures.get(attempt)
        if isinstance(failure, UnreadableMessage):
            self._keep(record, failure)
            return False
        if failure:
            raise failure
        return True

    def _unknown(self, attempt: Attempt) -> MayflyError:
        return LeaseHeld(attempt.job_id, self._worker.lease_ms / 1000)

    # ------------------------------------------------------------ committing

    def _stage(self, attempt: Attempt, member: Member) -> None:
        with self._lock:
            if not self._staged:
                self._staged_since_ms = self._worker.clock()
            self._staged.append((attempt, member))
            self._uncommitted.add(attempt)
            is_full = sum(1 + len(each.effects) for _, each in self._staged) > EFFECT_LIMIT
        if is_full:
            self._commit()

    def _commit_if_due(self, *, is_last: bool = False) -> None:
        """Commits what is staged once the first of it has waited for long enough, or nothing more
        is to come.
        """
        if self._staged and (
            is_last or self._worker.clock() - self._staged_since_ms >= self._worker.stage_ms
        ):
            self._commit()

    def _commit(self) -> None:
        """Commits what is staged, in as few calls as it needs.

        Any thread may call it; returns when nothing is on its way.
        """
        with self._committing:
            with self._lock:
                staged, self._staged = self._staged, []
            if not staged:
                return
            outcomes = self._worker.store.commit_many([member for _, member in staged])
            for (attempt, _), outcome in zip(staged, outcomes, strict=True):
                if failure := attempt.conclude(outcome):
                    self._commit_failures[attempt] = failure
                self._uncommitted.discard(attempt)


def _was_received_before(record: SQSRecord) -> bool:
    return record.attributes.approximate_receive_count not in (None, "1")


def _chunks(things: Sequence[Any]) -> list[Sequence[Any]]:
    return [things[start : start + _STATEMENTS] for start in range(0, len(things), _STATEMENTS)]
