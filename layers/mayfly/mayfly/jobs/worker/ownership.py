"""Ownership of a job while its task runs: the common part of its two kinds."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from mayfly.aws.dynamodb import RequestRefused
from mayfly.core.errors import StoreUnavailable
from mayfly.core.json_input import canonical_json
from mayfly.jobs.errors import StaleWrite, WriteRefused
from mayfly.jobs.model import Job
from mayfly.jobs.rules import check_progress, describe
from mayfly.jobs.worker.deps import Deps
from mayfly.jobs.worker.request import Request

__all__ = ["Ownership"]


class Ownership(ABC):
    """One worker's right to change one job.

    `seen` is the job as the batch read it, None if it did not exist or the batch was not read.
    """

    def __init__(self, deps: Deps, request: Request, nonce: str, seen: Job | None = None) -> None:
        self._deps = deps
        self._request = request
        self._nonce = nonce
        self._seen = seen
        self._job: Job | None = None
        #: True if the job's item names this owner, so that other workers can see it.
        self.is_written = False
        #: The refusal of a write, once another worker has changed the job.
        self.lost: StaleWrite | None = None
        #: True if the task has saved progress that differs from what it found.
        self.has_progressed = False
        #: The progress that is stored, as JSON: the task may change the value that it was given.
        self._saved = "null"

    @abstractmethod
    def acquire(self) -> None:
        """Makes the job this worker's before its task runs. Raises the error that prevents it."""

    @abstractmethod
    def ensure_written(self) -> None:
        """Makes the claim visible if it is not, for a task that takes long."""

    @abstractmethod
    def completion(self, result: str) -> dict[str, Any]:
        """Returns the conditional write that ends the job with `result` (JSON)."""

    @abstractmethod
    def fail(self, error: str, retry_at_ms: int | None, now_ms: int) -> None:
        """Records a failure: retried not before `retry_at_ms`, or dead if that is None.

        Raises StaleWrite, StoreUnavailable.
        """

    @property
    def job(self) -> Job:
        """The job with this worker as its owner, even if that is not written yet."""
        assert self._job is not None
        return self._job

    @property
    def is_taken(self) -> bool:
        """True once `acquire` or an early claim has succeeded."""
        return self._job is not None

    def begin(self) -> None:
        """Notes the progress that the task finds. Called before the task runs."""
        self._saved = canonical_json(self.job.progress)

    def release(self) -> None:
        """Undoes the claim of a job that was not started; the attempt does not count.

        Raises StaleWrite, StoreUnavailable.
        """
        if self.is_written:
            self._deps.store.release(self.job, now_ms=self._deps.clock())

    def release_unstarted(self) -> None:
        """Undoes an early claim of a job that was not started; its lease expires if that fails."""
        try:
            self.release()
        except (StaleWrite, StoreUnavailable) as problem:
            self._deps.observe.log.warning(
                "a claim could not be released; its lease expires", error=describe(problem)
            )

    def continue_later(self) -> None:
        """Leaves the job, with its progress, to another invocation; the attempt does not count.

        Raises StaleWrite, StoreUnavailable.
        """
        self._deps.store.continue_later(self.job, now_ms=self._deps.clock())

    def lose(self, refusal: StaleWrite | None) -> None:
        """Notes the result of the heartbeat's renewal; a lost job stops at its next checkpoint."""
        self.lost = self.lost or refusal

    def check(self) -> None:
        """Raises StaleWrite if the job is known to be lost."""
        if self.lost is not None:
            raise self.lost

    def save(self, progress: Any) -> None:
        """Stores the task's progress with the job.

        Raises StaleWrite, InvalidRequest, WriteRefused, StoreUnavailable.
        """
        text = check_progress(progress)
        self.ensure_written()
        if not self.is_written:
            raise self.lost or StoreUnavailable("save", "the job could not be claimed")
        try:
            self._deps.store.save(self.job, progress=text)
        except StaleWrite as refusal:
            self.lost = refusal
            raise
        except RequestRefused as refusal:
            if refusal.is_malformed:
                raise WriteRefused(self.job.id, refusal.message) from refusal
            raise
        # Unchanged progress does not count; otherwise a task could continue forever.
        self.has_progressed = self.has_progressed or text != self._saved
        self._saved = text
        self._job = replace(self.job, progress=progress)
