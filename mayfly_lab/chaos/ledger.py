"""The ledger of a tenant's callers: acknowledged changes, and those that may have happened."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["CHAINED", "EFFECTS", "KEYED", "LIMIT", "PLAIN", "Ledger", "Session"]

#: Counters: of jobs, of the jobs that jobs submit, of increments with a key, and the one of
#: increments without a key, which jobs and increments with a key share.
EFFECTS: Final = "chaos-effects"
CHAINED: Final = "chaos-chained"
KEYED: Final = "chaos-keyed"
PLAIN: Final = "chaos-plain"
#: The limit that callers take from.
LIMIT: Final = "chaos-limit"


@dataclass
class Session:
    """A session that one caller uses: the number in its data, and its end."""

    token: str
    acknowledged: int = 0
    sent: int = 0
    is_ended: bool = False
    may_have_ended: bool = False


@dataclass
class Ledger:
    """The ledger of one tenant. Callers on several threads write to it.

    A request with a key is repeated until its answer is known, so it either counts or it is in
    `open_requests`.
    """

    tenant: str
    #: Ids of accepted jobs.
    jobs: set[str] = field(default_factory=set)
    #: Keys of accepted messages to the queue.
    messages: set[str] = field(default_factory=set)
    #: The sum of acknowledged increments with keys of a counter of their own.
    keyed: int = 0
    #: Acknowledged increments of the other counter, and those whose outcome is unknown.
    plain: int = 0
    plain_unknown: int = 0
    sessions: list[Session] = field(default_factory=list)
    #: Takes from the limit: admitted, refused, and of unknown outcome.
    admitted: int = 0
    refused: int = 0
    takes_unknown: int = 0
    #: Requests whose answer is not known yet: their repeat keys, with what is sent.
    open_requests: dict[str, tuple[str, Any]] = field(default_factory=dict)
    #: Answers that nothing of what is done to the stack explains.
    wrong: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def acknowledged(self) -> int:
        """The number of acknowledged changes."""
        return (
            len(self.jobs)
            + len(self.messages)
            + self.keyed
            + self.plain
            + self.admitted
            + sum(1 + session.acknowledged for session in list(self.sessions))
        )

    def add(self, **changes: int) -> None:
        """Adds to figures, as one change."""
        with self._lock:
            for name, by in changes.items():
                setattr(self, name, getattr(self, name) + by)

    def note_wrong(self, what: str) -> None:
        """Notes an answer that no fault explains."""
        with self._lock:
            self.wrong[what] += 1

    def accept_job(self, job_id: str) -> None:
        """Notes an accepted job."""
        with self._lock:
            self.jobs.add(job_id)

    def accept_message(self, key: str) -> None:
        """Notes a message that the queue has taken."""
        with self._lock:
            self.messages.add(key)

    def open_request(self, key: str, path: str, body: Any) -> None:
        """Notes a request before it is sent."""
        with self._lock:
            self.open_requests[key] = (path, body)

    def settle_request(self, key: str) -> None:
        """Notes that the outcome of a request is known."""
        with self._lock:
            self.open_requests.pop(key, None)
