"""Gives deliveries to Powertools' idempotency, which claims, runs and completes them."""

from collections.abc import Sequence

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from mayfly.jobs.rules import RETENTION_SECONDS
from mayfly.jobs.worker.batch import Batch
from mayfly.jobs.worker.delivery import Delivery
from mayfly.jobs.worker.deps import Deps
from mayfly.jobs.worker.powertools import (
    IdempotencyConfig,
    IdempotencyPersistenceLayerError,
    TransactionalLayer,
    delivering,
    idempotent_function,
)

__all__ = ["Runner"]


class Runner:
    """Runs jobs in one process, for as long as it lives."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._config = IdempotencyConfig(
            expires_after_seconds=RETENTION_SECONDS,
            hash_function="sha256",
            use_local_cache=False,
            raise_on_no_idempotency_key=True,
        )

        @idempotent_function(  # type: ignore[untyped-decorator]  # Powertools
            data_keyword_argument="job",
            persistence_store=TransactionalLayer(),
            config=self._config,
            key_prefix="job",
        )
        def perform(*, job: str, delivery: Delivery) -> None:
            # Returns nothing: Powertools would encode the result once more.
            delivery.run_task()

        self._perform = perform

    def open(self, records: Sequence[SQSRecord], context: LambdaContext) -> Batch:
        """Returns the jobs of one invocation. Nothing is kept from one invocation to the next."""
        self._config.register_lambda_context(context)
        return Batch(
            self._deps,
            self._run,
            records,
            seconds_left=lambda: context.get_remaining_time_in_millis() / 1000,
        )

    def _run(self, delivery: Delivery) -> None:
        """Runs a delivery. Returns if its message can be deleted once the commit has succeeded."""
        log, job_id = self._deps.observe.log, delivery.request.job_id
        log.thread_safe_append_keys(job=job_id)
        try:
            with delivering(delivery):
                self._perform(job=job_id, delivery=delivery)
        except IdempotencyPersistenceLayerError as wrapped:
            delivery.settle(wrapped.__cause__ or wrapped)
        finally:
            delivery.has_ended = True
            log.thread_safe_remove_keys(["job"])
