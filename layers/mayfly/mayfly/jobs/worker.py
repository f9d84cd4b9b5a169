"""Runs the jobs of a batch of messages: read together, claimed together where that is safe, run one after another."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyPersistenceLayerError
from aws_lambda_powertools.utilities.typing import LambdaContext

from mayfly.errors import InvalidRequest, LeaseHeld, MayflyError, PayloadTooLarge, StoreUnavailable, UnreadableMessage
from mayfly.jobs.attempt import Attempt, Worker
from mayfly.jobs.persistence import TransactionalLayer, attempting
from mayfly.jobs.rules import RETENTION_SECONDS, describe, read_message
from mayfly.jobs.store import Claim

__all__ = ["Batch", "Runner", "Worker"]

#: Statements of one BatchExecuteStatement.
_STATEMENTS: Final = 25


class Runner:
    """Runs jobs in one process, for as long as it lives."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._config = IdempotencyConfig(
            expires_after_seconds=RETENTION_SECONDS, hash_function="sha256", use_local_cache=False, raise_on_no_idempotency_key=True
        )

        @idempotent_function(data_keyword_argument="job", persistence_store=TransactionalLayer(), config=self._config, key_prefix="job")
        def perform(*, job: str, attempt: Attempt) -> Any:
            return attempt.run_task()

        self._perform = perform

    def open(self, records: Sequence[SQSRecord], context: LambdaContext) -> "Batch":
        """The jobs of one invocation. Nothing is kept from one invocation to the next."""
        self._config.register_lambda_context(context)
        return Batch(self._worker, self._run, records)

    def _run(self, attempt: Attempt) -> None:
        log = self._worker.observe.log
        log.append_keys(job=attempt.job_id)
        try:
            with attempting(attempt):
                self._perform(job=attempt.job_id, attempt=attempt)
        except IdempotencyPersistenceLayerError as wrapped:
            attempt.settle(wrapped.__cause__ or wrapped)
        finally:
            attempt.has_ended = True
            log.remove_keys(["job"])


class Batch:
    """The messages of one invocation and their jobs. See `mayfly.sqs.Batch` for how it is driven."""

    def __init__(self, worker: Worker, run: Any, records: Sequence[SQSRecord]) -> None:
        self._worker = worker
        self._run = run
        self._unreadable: dict[str, UnreadableMessage] = {}
        self._attempts: dict[str, Attempt] = {}
        self._outcomes: dict[Attempt, MayflyError | None] = {}
        leaders: dict[Any, Attempt] = {}
        for record in records:
            attempt = self._read(record)
            if attempt is not None:
                # Copies of a message are one attempt: a store takes a job once in a batch, and once is enough.
                leader = leaders.setdefault((attempt.tenant, attempt.job_id, attempt.request), attempt)
                self._attempts[record.message_id] = leader
        self.records: Sequence[SQSRecord] = records

    def prepare(self) -> None:
        """Reads all jobs, puts the records in the order to run them in, and claims together those jobs that may be."""
        attempts = list(dict.fromkeys(self._attempts.values()))
        try:
            found = self._worker.store.read_many(list(dict.fromkeys((each.tenant, each.job_id) for each in attempts)))
        except StoreUnavailable as problem:
            self._worker.observe.log.warning("a batch could not be read; its jobs are claimed one by one", error=describe(problem))
            return
        for attempt in attempts:
            attempt.see(found.get((attempt.tenant, attempt.job_id)))
        # What was received before may have killed its process, the more likely the more attempts it has had: it comes last.
        self.records = sorted(self.records, key=lambda record: (_was_received_before(record), self._attempts_made(record)))
        self._claim_together(attempts)

    def run(self, record: SQSRecord) -> None:
        """Runs one message's job. Returns when it has ended, by this attempt or by another one before.

        Raises LeaseHeld where the message must come back later, StoreUnavailable where the store could not say,
        UnreadableMessage where it is no job.
        """
        if record.message_id in self._unreadable:
            raise self._unreadable[record.message_id]
        attempt = self._attempts[record.message_id]
        if attempt not in self._outcomes:
            # For the copies of a message that fails in an unforeseen way.
            self._outcomes[attempt] = LeaseHeld(attempt.job_id, self._worker.lease_ms / 1000)
            self._outcomes[attempt] = self._outcome(attempt)
        if failure := self._outcomes[attempt]:
            raise failure

    def beat(self) -> None:
        """Renews the claims of all jobs that run or wait for their turn."""
        held = [attempt for attempt in dict.fromkeys(self._attempts.values()) if attempt.holds_claim]
        for some in _chunks(held):
            try:
                answers = self._worker.store.renew(
                    [attempt.job for attempt in some], now_ms=self._worker.clock(), lease_ms=self._worker.lease_ms
                )
            except StoreUnavailable as problem:
                self._worker.observe.log.warning("leases were not renewed; the next beat tries again", error=describe(problem))
                continue
            for attempt, lost in zip(some, answers, strict=True):
                attempt.learn(lost)

    def close(self) -> None:
        """Hands back what was claimed and not started."""
        for attempt in dict.fromkeys(self._attempts.values()):
            if attempt.holds_claim and not attempt.has_started:
                attempt.hand_back()

    def _attempts_made(self, record: SQSRecord) -> int:
        attempt = self._attempts.get(record.message_id)
        return attempt.attempts_seen if attempt else 0

    def _read(self, record: SQSRecord) -> Attempt | None:
        try:
            message = read_message(record.body)
        except (InvalidRequest, PayloadTooLarge) as problem:
            self._unreadable[record.message_id] = UnreadableMessage(record.message_id, str(problem))
            return None
        return Attempt(self._worker, message, record.message_id, is_first_receive=not _was_received_before(record))

    def _claim_together(self, attempts: Iterable[Attempt]) -> None:
        claims: dict[tuple[str, str], tuple[Attempt, Claim]] = {}
        for attempt in attempts:
            claim = attempt.early_claim()
            if claim is not None:
                claims.setdefault((attempt.tenant, attempt.job_id), (attempt, claim))
        if len(claims) < 2:
            return
        for some in _chunks(list(claims.values())):
            try:
                jobs = self._worker.store.claim_many(
                    [claim for _, claim in some], now_ms=self._worker.clock(), lease_ms=self._worker.lease_ms
                )
            except StoreUnavailable as problem:
                self._worker.observe.log.warning("a batch could not be claimed; its jobs are claimed one by one", error=describe(problem))
                continue
            for (attempt, _), job in zip(some, jobs, strict=True):
                attempt.accept_claim(job)

    def _outcome(self, attempt: Attempt) -> MayflyError | None:
        attempt.has_started = True
        if attempt.ended_before():
            self._worker.observe.log.info("the job has ended before; the message is dropped", job=attempt.job_id)
            return None
        try:
            self._run(attempt)
        except MayflyError as failure:
            return failure
        return None


def _was_received_before(record: SQSRecord) -> bool:
    return record.attributes.approximate_receive_count not in (None, "1")


def _chunks(things: Sequence[Any]) -> list[Sequence[Any]]:
    return [things[start : start + _STATEMENTS] for start in range(0, len(things), _STATEMENTS)]
