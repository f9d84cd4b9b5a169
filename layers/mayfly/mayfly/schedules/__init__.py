"""Schedules: one job for each tick, even if a sweep runs twice or late."""

from mayfly.schedules.model import Definition, Schedule
from mayfly.schedules.service import Deps, define, delete, hand_out_due, pause, read, resume
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
    "pause",
    "public",
    "read",
    "read_definition",
    "resume",
]
