"""The deliveries of one invocation.

::

    optimistic   first receive, the default    one after another, unclaimed; committed together
    exclusive    the task says so              claimed, in threads; committed together
    alone        may have killed its process,  claimed at their turn, last, one at a time;
                 async and exclusive, others   committed at once
    resting      the worker wants them to      not claimed; the message comes back
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any, Final

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from mayfly.core.errors import MayflyError, StoreUnavailable
from mayfly.jobs.errors import LeaseHeld, UnreadableMessage
from mayfly.jobs.model import Unreadable
from mayfly.jobs.rules import describe
from mayfly.jobs.store import JobExists
from mayfly.jobs.worker.claimed import STATEMENTS, Claimed, batched, claim_together
from mayfly.jobs.worker.delivery import Delivery
from mayfly.jobs.worker.deps import Deps
from mayfly.jobs.worker.pending import PendingCommits
from mayfly.jobs.worker.request import read_request, was_received_before

__all__ = ["Batch"]

#: The most exclusive jobs of a batch that run at the same time.
_THREADS: Final = 10


class Batch:
    """The messages of one invocation and their jobs.

    `mayfly.jobs.worker.invocation` defines the order in which its methods are called. After `run`
    has returned for a record, its commit may still be pending. Only `close` decides whether its
    message can be deleted.
    """

    def __init__(
        self,
        deps: Deps,
        run: Callable[[Delivery], None],
        records: Sequence[SQSRecord],
        *,
        seconds_left: Callable[[], float],
    ) -> None:
        self._deps = deps
        self._run = run
        self.records: Sequence[SQSRecord] = records
        self.commits = PendingCommits(deps)
        self._unreadable: dict[str, UnreadableMessage] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._for_others: dict[str, Delivery] = {}
        #: Failures of runs; `commits` has those of commits. Any thread may add one.
        self._failures: dict[Delivery, MayflyError] = {}
        self._returned: list[SQSRecord] = []
        self._beside: list[Delivery] = []
        self._threads: ThreadPoolExecutor | None = None
        self._running: dict[Delivery, Future[None]] = {}
        leaders: dict[Any, Delivery] = {}
        for record in records:
            try:
                request = read_request(deps, record)
            except UnreadableMessage as problem:
                self._unreadable[record.message_id] = problem
                continue
            delivery = Delivery(deps, request, stage=self.commits.add, seconds_left=seconds_left)
            if request.new is not None and request.new.task in deps.known:
                self._for_others[record.message_id] = delivery
            else:
                # Copies of a message are one delivery: a batch may name a job only once.
                copy_of = (*delivery.key, request.fingerprint)
                self._deliveries[record.message_id] = leaders.setdefault(copy_of, delivery)

    def prepare(self) -> None:
        """Reads all jobs, claims exclusive ones together, and sorts the records to run.

        A message that asks for a new job whose payload does not fit is left to `run`, which stores
        it as unreadable.
        """
        deliveries = self._all()
        keys = list(dict.fromkeys(delivery.key for delivery in deliveries))
        try:
            jobs = self._deps.store.read_many(keys)
        except StoreUnavailable as problem:
            self._deps.observe.log.warning(
                "a batch could not be read; its jobs are claimed one by one",
                error=describe(problem),
            )
            return
        for delivery in deliveries:
            delivery.see(jobs.get(delivery.key))
        for message_id, delivery in list(self._deliveries.items()):
            if misfit := delivery.misfit():
                self._unreadable[message_id] = misfit
                del self._deliveries[message_id]
        deliveries = self._all()
        exclusive = {
            delivery.ownership: delivery
            for delivery in deliveries
            if delivery.runs_beside and not self._must_rest(delivery)
        }
        claimed = claim_together(
            self._deps, [owner for owner in exclusive if isinstance(owner, Claimed)]
        )
        # Messages with one key and different bodies name one job: only the first runs in a thread.
        beside: dict[Any, Delivery] = {}
        for delivery in (
            *(exclusive[ownership] for ownership in claimed),
            *(delivery for delivery in exclusive.values() if delivery.may_run_beside()),
        ):
            beside.setdefault(delivery.key, delivery)
        self._beside = list(beside.values()) if len(beside) > 1 else []
        # A message that was received before may have killed its process. This is more likely with
        # every attempt. It runs last.
        self.records = sorted(self.records, key=self._run_order)

    def begin(self) -> None:
        """Starts exclusive jobs, each in a thread, since they mostly wait."""
        if not self._beside:
            return
        self._threads = ThreadPoolExecutor(
            min(len(self._beside), _THREADS), thread_name_prefix="job"
        )
        for delivery in self._beside:
            # Each thread has a context of its own, which separates the state of the deliveries.
            self._running[delivery] = self._threads.submit(
                copy_context().run, self._perform, delivery
            )

    def has_started(self, record: SQSRecord) -> bool:
        """Returns True if a thread runs the record already."""
        delivery = self._deliveries.get(record.message_id)
        return delivery is not None and delivery.has_started

    def run(self, record: SQSRecord) -> None:
        """Runs one message's job.

        Returns if the job has ended or its commit is pending, or if the message was stored. Raises
        LeaseHeld if the message must come back later, StoreUnavailable if the store did not answer.
        """
        if record.message_id in self._unreadable:
            self._keep(record, self._unreadable[record.message_id])
            return
        if record.message_id in self._for_others:
            self._forward(record, self._for_others[record.message_id])
            return
        delivery = self._deliveries[record.message_id]
        if delivery in self._running:
            self._await(delivery)
        elif delivery.has_started or self._must_rest(delivery):
            pass  # a copy of a message that has run, or a message that comes back
        elif delivery.is_optimistic:
            self.commits.commit_if_due()
            self._perform(delivery)
        else:
            # Finished jobs are committed before a job runs that may kill the process.
            self.commits.commit()
            self._perform(delivery)
            self.commits.commit()
        if self._is_done(record, delivery):
            self._returned.append(record)

    def beat(self) -> None:
        """Renews all claims, claims long runs that have no claim yet, and commits what is due."""
        held = [delivery for delivery in self._all() if delivery.holds_claim]
        for portion in batched(held, STATEMENTS):
            try:
                refusals = self._deps.store.renew(
                    [delivery.ownership.job for delivery in portion],
                    now_ms=self._deps.clock(),
                    lease_ms=self._deps.lease_ms,
                )
            except StoreUnavailable as problem:
                self._deps.observe.log.warning(
                    "leases were not renewed; the next heartbeat tries again",
                    error=describe(problem),
                )
                continue
            for delivery, refusal in zip(portion, refusals, strict=True):
                if isinstance(refusal, StoreUnavailable):
                    self._deps.observe.log.warning(
                        "a lease was not renewed; the next heartbeat tries again",
                        job=delivery.request.job_id,
                        error=describe(refusal),
                    )
                else:
                    delivery.ownership.lose(refusal)
        for delivery in self._all():
            if delivery.runs_unclaimed:
                delivery.ownership.ensure_written()
        self.commits.commit_if_due()

    def close(self) -> dict[str, MayflyError]:
        """Waits for the threads, commits what is pending, releases jobs that were not started.

        Returns errors by message id: `run` had returned for these messages, but they must come
        back.
        """
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        self.commits.commit()
        for delivery in self._all():
            if delivery.holds_claim and not delivery.has_started:
                delivery.ownership.release_unstarted()
                delivery.has_ended = True
        late: dict[str, MayflyError] = {}
        for record in self._returned:
            delivery = self._deliveries[record.message_id]
            try:
                self._is_done(record, delivery)
            except MayflyError as failure:
                late[record.message_id] = failure
            if self.commits.is_unknown(delivery):
                late[record.message_id] = self._unforeseen(delivery)
        return late

    def _all(self) -> list[Delivery]:
        return list(dict.fromkeys(self._deliveries.values()))

    def _run_order(self, record: SQSRecord) -> tuple[bool, bool, int]:
        delivery = self._deliveries.get(record.message_id)
        if delivery is None:
            return (False, False, 0)
        is_alone = not delivery.is_optimistic and delivery not in self._beside
        return (is_alone, was_received_before(record), delivery.attempts_seen)

    def _must_rest(self, delivery: Delivery) -> bool:
        """Returns True if a delivery that has not started must wait; its message comes back.

        This is asked before the threads start, and again at the turn of the others: a job that has
        run since then may change the answer.
        """
        if delivery not in self._failures and (seconds := delivery.rest_seconds()) > 0:
            self._deps.observe.count("JobRested")
            self._failures[delivery] = LeaseHeld(delivery.request.job_id, seconds)
        return delivery in self._failures

    def _keep(self, record: SQSRecord, problem: UnreadableMessage) -> None:
        """Stores a message that is not a valid job: another receive would change nothing."""
        self._deps.keep_unreadable(
            Unreadable(record.message_id, record.body, problem.problem, self._deps.clock())
        )
        self._deps.observe.count("MessageUnreadable")
        self._deps.observe.log.error(
            "a message is not a valid job and was stored; list such messages with "
            "'mayfly jobs unreadable'",
            error=describe(problem),
        )

    def _forward(self, record: SQSRecord, delivery: Delivery) -> None:
        """Makes a job that another function runs; the table's stream announces it there."""
        new = delivery.request.new
        assert new is not None
        try:
            self._deps.store.create(new)
        except JobExists as exists:
            if not delivery.request.is_for(exists.job):
                self._keep(record, delivery.request.key_reused())

    def _await(self, delivery: Delivery) -> None:
        """Waits for the thread of a delivery, and commits due completions meanwhile."""
        future = self._running[delivery]
        while not wait([future], timeout=self._deps.stage_ms / 1000).done:
            self.commits.commit_if_due()
        if all(running.done() for running in self._running.values()):
            self.commits.commit_if_due(is_last=True)
        future.result()

    def _perform(self, delivery: Delivery) -> None:
        delivery.runs_first = not any(other.has_started for other in self._all())
        delivery.has_started = True
        log, job_id = self._deps.observe.log, delivery.request.job_id
        if delivery.is_for_others():
            log.warning(
                "a message wakes a job that another function runs; it is deleted", job=job_id
            )
            return
        if delivery.has_ended_before():
            log.info("the job has ended before; the message is deleted", job=job_id)
            return
        # If the run fails in an unforeseen way, copies of the message get this error.
        self._failures[delivery] = self._unforeseen(delivery)
        try:
            self._run(delivery)
        except MayflyError as failure:
            self._failures[delivery] = failure
        else:
            del self._failures[delivery]

    def _is_done(self, record: SQSRecord, delivery: Delivery) -> bool:
        """Returns True if no known failure brings the message back; raises the failure otherwise.

        Returns False if the message turned out not to be a valid job, and was stored.
        """
        failure = self.commits.failure_of(delivery) or self._failures.get(delivery)
        if isinstance(failure, UnreadableMessage):
            self._keep(record, failure)
            return False
        if failure:
            raise failure
        return True

    def _unforeseen(self, delivery: Delivery) -> MayflyError:
        return LeaseHeld(delivery.request.job_id, self._deps.lease_ms / 1000)
