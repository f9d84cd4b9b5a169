"""Completions that wait to be committed together."""

import threading
from typing import Protocol

from mayfly.core.errors import MayflyError
from mayfly.jobs.authoring.effects import EFFECT_LIMIT
from mayfly.jobs.group_commit import CommitOutcome, Member
from mayfly.jobs.worker.deps import Deps

__all__ = ["Committer", "PendingCommits"]


class Committer(Protocol):
    """A delivery, as far as its commit is concerned."""

    def conclude(self, outcome: CommitOutcome) -> MayflyError | None:
        """Returns the error with which the message comes back, None if it can be deleted."""


class PendingCommits:
    """The completions of one invocation. Any thread may add and commit.

    A completion waits for at most `stage_ms`; then all are committed before the next record starts.
    """

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._staged: list[tuple[Committer, Member]] = []
        self._staged_since_ms = 0
        self._staging = threading.Lock()
        self._committing = threading.Lock()
        self._unknown: set[Committer] = set()
        self._failures: dict[Committer, MayflyError] = {}

    def add(self, delivery: Committer, member: Member) -> None:
        """Stages a completion; commits if one transaction cannot hold more."""
        with self._staging:
            if not self._staged:
                self._staged_since_ms = self._deps.clock()
            self._staged.append((delivery, member))
            self._unknown.add(delivery)
            is_full = sum(1 + len(staged.effects) for _, staged in self._staged) > EFFECT_LIMIT
        if is_full:
            self.commit()

    def commit_if_due(self, *, is_last: bool = False) -> None:
        """Commits if the first completion has waited for long enough, or if no more will come."""
        waited_ms = self._deps.clock() - self._staged_since_ms
        if self._staged and (is_last or waited_ms >= self._deps.stage_ms):
            self.commit()

    def commit(self) -> None:
        """Commits all, in as few calls as possible. Returns when no commit is in progress."""
        with self._committing:
            with self._staging:
                staged, self._staged = self._staged, []
            if not staged:
                return
            outcomes = self._deps.store.commit_many([member for _, member in staged])
            for (delivery, _), outcome in zip(staged, outcomes, strict=True):
                if failure := delivery.conclude(outcome):
                    self._failures[delivery] = failure
                self._unknown.discard(delivery)

    def failure_of(self, delivery: Committer) -> MayflyError | None:
        """Returns the error of the delivery's commit, None if it has not failed so far."""
        return self._failures.get(delivery)

    def is_unknown(self, delivery: Committer) -> bool:
        """Returns True if it was staged and its commit has not returned."""
        return delivery in self._unknown
