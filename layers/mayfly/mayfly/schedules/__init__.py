"""Schedules: one job for each tick, even if a sweep runs twice or late."""

from mayfly.schedules.model import Definition, Schedule
from mayfly.schedules.service import (
    Deps,
    define,
    delete,
    hand_out_due,
    list_by_name,
    pause,
    read,
    resume,
)  # fmt: skip
from mayfly.schedules.store import ScheduleStore
from mayfly.schedules.wire import public, read_definition

__all__ = [
    "Definition",
    "Deps",
    "Schedule",
    "ScheduleStore",
    "define",
    "delete",
    "hand_out_due",
    "list_by_name",
    "pause",
    "public",
    "read",
    "read_definition",
    "resume",
]
