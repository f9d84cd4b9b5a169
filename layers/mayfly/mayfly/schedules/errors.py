"""Errors of schedules."""

from mayfly.core.errors import MayflyError

__all__ = ["ScheduleBusy", "ScheduleNotFound", "ScheduleUnusable"]


class ScheduleNotFound(MayflyError):
    """The tenant has no schedule of this name."""

    status = 404
    retryable = False

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no schedule {name!r}")


class ScheduleBusy(MayflyError):
    """The schedule is being changed by other callers at the same time."""

    status = 409

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the schedule {name!r} is being changed by another caller; read it and try again"
        )


class ScheduleUnusable(MayflyError):
    """The record of the schedule cannot be read, or its times cannot be found.

    For example, its time zone no longer exists.
    """

    status = 409
    retryable = False

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"the schedule {name!r} cannot be used: {reason}; put a new definition, or delete it"
        )
