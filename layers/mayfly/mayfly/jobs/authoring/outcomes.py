"""The errors that a task raises to say how its job continues. A task that returns has succeeded.

`mayfly.jobs.worker.failures` lists what follows from these and from other errors.
"""

from mayfly.core.errors import MayflyError
from mayfly.jobs.rules import check_pause

__all__ = ["Continue", "Permanent", "Retry"]


class Permanent(MayflyError):
    """Raised by a task whose job can never succeed.

    The job ends as dead immediately, with `reason`, even if it has attempts left.
    """

    code = "permanent-failure"
    retryable = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Retry(MayflyError):
    """Raised by a task to be tried again, `after_seconds` from now or after the usual backoff.

    The pause is at most a year. Its constructor raises TypeError if `after_seconds` is not a
    number, and ValueError if it is NaN or above a year; the attempt then fails with that error. A
    number below 0 is 0.
    """

    code = "retry"
    _after_seconds: float | None = None

    def __init__(self, reason: str, after_seconds: float | None = None) -> None:
        self.after_seconds = after_seconds
        super().__init__(reason)

    @property
    def after_seconds(self) -> float | None:
        """The pause in seconds; None for the usual backoff."""
        return self._after_seconds

    @after_seconds.setter
    def after_seconds(self, seconds: float | None) -> None:
        self._after_seconds = None if seconds is None else check_pause(seconds)


class Continue(MayflyError):
    """Raised by a task shortly before the deadline; the job continues in another invocation.

    It continues immediately, from its last checkpoint. The attempt does not count if it saved a
    checkpoint; otherwise it is a failure like any other.
    """

    code = "continue"

    def __init__(self) -> None:
        super().__init__("out of time before the first checkpoint")
