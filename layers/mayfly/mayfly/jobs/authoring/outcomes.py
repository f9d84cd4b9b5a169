"""The errors that a task raises to say how its job continues. A task that returns has succeeded.

`mayfly.jobs.worker.failures` lists what follows from these and from other errors.
"""

from mayfly.core.errors import MayflyError

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
    """Raised by a task to be tried again, `after_seconds` from now or after the usual backoff."""

    code = "retry"

    def __init__(self, reason: str, after_seconds: float | None = None) -> None:
        self.after_seconds = after_seconds
        super().__init__(reason)


class Continue(MayflyError):
    """Raised by a task shortly before the deadline; the job continues in another invocation.

    It continues immediately, from its last checkpoint. The attempt does not count if it saved a
    checkpoint; otherwise it is a failure like any other.
    """

    code = "continue"

    def __init__(self) -> None:
        super().__init__("out of time before the first checkpoint")
