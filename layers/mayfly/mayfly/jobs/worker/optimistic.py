"""Ownership without a claim: the commit is the first write.

::

    A   read v1 -- runs ---------- commit: still v1?  yes: one write for claim and completion
    B   read v1 -- runs -- commit                     no: v2 is B's, and A has changed nothing

It is used only on a message's first receive, and only if no worker has had the job. A job that has
run for a third of a lease is claimed, so that other workers see its owner.
"""

import threading
from dataclasses import replace
from typing import Any

from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.lifecycle import claimed
from mayfly.jobs.model import Job
from mayfly.jobs.rules import describe
from mayfly.jobs.worker.deps import Deps
from mayfly.jobs.worker.ownership import Ownership
from mayfly.jobs.worker.request import Request

__all__ = ["Optimistic"]


class Optimistic(Ownership):
    """Ownership of a job in the version that the batch read."""

    def __init__(self, deps: Deps, request: Request, nonce: str, seen: Job | None) -> None:
        super().__init__(deps, request, nonce, seen)
        origin = seen or request.new
        assert origin is not None
        self._origin = origin
        self._is_new = seen is None
        self._claiming = threading.Lock()

    def acquire(self) -> None:
        """Writes nothing: the job is claimed in memory only."""
        self._job = claimed(
            self._origin,
            nonce=self._nonce,
            now_ms=self._deps.clock(),
            lease_ms=self._deps.lease_ms,
        )

    def ensure_written(self) -> None:
        """Claims the job in the version that was read; `lost` is set if another worker has it."""
        with self._claiming:  # the heartbeat and the task's own thread may both do this
            if self.is_written:
                return
            mine = replace(self.job, lease_until_ms=self._deps.clock() + self._deps.lease_ms)
            try:
                self.lost = self._deps.store.claim_late(self._origin, mine, is_new=self._is_new)
            except StoreUnavailable as problem:
                self._deps.observe.log.warning(
                    "a long job could not be claimed; the next heartbeat tries again",
                    error=describe(problem),
                )
                return
            self.is_written = self.lost is None

    def completion(self, result: str) -> dict[str, Any]:
        """Returns the write that ends the job; refused if another worker has changed the job."""
        return self._deps.store.completion_unclaimed(
            self._origin, self.job, is_new=self._is_new, result=result, now_ms=self._deps.clock()
        )

    def fail(self, error: str, retry_at_ms: int | None, now_ms: int) -> None:
        """Records a failure. See Ownership."""
        if self.is_written:
            self._deps.store.fail(self.job, error=error, retry_at_ms=retry_at_ms, now_ms=now_ms)
            return
        self._deps.store.fail_unclaimed(
            self._origin,
            self.job,
            is_new=self._is_new,
            error=error,
            retry_at_ms=retry_at_ms,
            now_ms=now_ms,
        )
