"""Powertools idempotency whose completion is the job's transaction.

`idempotent_function` claims a record before the task runs, and completes or releases it after. This
layer turns its three hooks into conditional writes of the job. The stock layer completes without a
condition, so a late worker overwrites its successor's result and repeats its effects
(docs/decisions/0002).

Powertools shares one layer between all calls of a process, and hashes a key of its own. Neither is
used: a context variable holds the delivery in progress, and its job's key is the only one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from aws_lambda_powertools.utilities.idempotency.config import IdempotencyConfig
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyPersistenceLayerError,
)
from aws_lambda_powertools.utilities.idempotency.idempotency import idempotent_function
from aws_lambda_powertools.utilities.idempotency.persistence.base import BasePersistenceLayer
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord

__all__ = [
    "AlreadyCompleted", "Claimant", "IdempotencyConfig", "IdempotencyPersistenceLayerError",
    "TransactionalLayer", "delivering", "idempotent_function",
]  # fmt: skip


class AlreadyCompleted(Exception):
    """A claim found its job completed; `result` is the stored JSON."""

    def __init__(self, result: str) -> None:
        self.result = result
        super().__init__("the job is completed")


class Claimant(Protocol):
    """A delivery, as the layer drives it."""

    def claim(self) -> None:
        """Takes the job. Raises AlreadyCompleted, or the error that keeps it from running."""

    def complete(self) -> None:
        """Completes the job with its effects, and with the result that the delivery has checked.

        Powertools' own JSON of the result is longer.
        """

    def fail(self, failure: Exception) -> None:
        """Retries, continues or buries the job after `failure`. Always raises."""


_current: ContextVar[Claimant] = ContextVar("mayfly_delivery")


@contextmanager
def delivering(delivery: Claimant) -> Iterator[None]:
    """Makes `delivery` the one that the layer works for in this context."""
    token = _current.set(delivery)
    try:
        yield
    finally:
        _current.reset(token)


class TransactionalLayer(BasePersistenceLayer):
    """The persistence layer. One instance serves the whole process; its state is in the context."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Powertools has no types here

    def delete_record(self, data: Any, exception: Exception) -> None:
        """Called by Powertools when the task raised; the exception decides the job's fate."""
        _current.get().fail(exception)

    def _put_record(self, data_record: DataRecord) -> None:
        try:
            _current.get().claim()
        except AlreadyCompleted as done:
            stored = DataRecord(
                data_record.idempotency_key, status="COMPLETED", response_data=done.result
            )
            raise IdempotencyItemAlreadyExistsError(old_data_record=stored) from None

    def _update_record(self, data_record: DataRecord) -> None:
        _current.get().complete()

    def _delete_record(self, data_record: DataRecord) -> None:
        raise AssertionError("delete_record is overridden: a job's record is never deleted")

    def _get_record(self, idempotency_key: str) -> DataRecord:
        # Never needed: a refused claim comes with the existing record.
        raise IdempotencyItemNotFoundError
