"""A schedule: the job to make, and its times."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Definition", "HandOut", "Schedule"]


@dataclass(frozen=True)
class Definition:
    """The part of a schedule that its owner defines.

    Exactly one of `cron` (five fields, in `timezone`) and `every_seconds` is set.
    """

    task: str
    payload: Any
    max_attempts: int | None
    cron: str | None
    every_seconds: int | None
    timezone: str


@dataclass(frozen=True)
class Schedule:
    """A schedule, as read. Times are milliseconds since the epoch; its times are called ticks.

    `edition` names this definition, and is part of the ids of its jobs. `version` grows with every
    write. `next_ms` is the first tick that has no job yet. It is None if no tick gets a job: the
    schedule is paused, or in the middle of a change. `made_ms` is the last tick that has a job.
    Intervals count from `anchor_ms`.

    `error` says why the record cannot be read. Then there is no definition, no tick gets a job, and
    `stored` has the attributes by which a write replaces or deletes exactly this record.
    """

    tenant: str
    name: str
    definition: Definition
    edition: str
    anchor_ms: int
    next_ms: int | None
    made_ms: int = 0
    version: int = 1
    is_paused: bool = False
    error: str | None = None
    stored: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class HandOut:
    """The ticks to make jobs of.

    `missed` ticks came before the first of them. `next_ms` is the tick after the last.
    """

    ticks: tuple[int, ...]
    missed: int
    next_ms: int
