"""Limits and their decisions."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Algorithm", "Decision", "Limit"]


class Algorithm(StrEnum):
    """The way a limit counts.

    This is the most that each admits if all processes have the same time. For clocks that differ,
    see docs/counters-and-limits.md.

    FIXED    Admits `limit` in each window of `period_seconds` since the epoch. In a period that
             spans two windows it admits up to twice that. Each window has an item of its own.
    SLIDING  Weighs the last window by the part of it that is within the period before now. If e
             seconds of the present window are over, it has admitted `limit` x (1 + e/period) across
             the start of the window, and one more because fractions are rounded down.
    GCRA     Admits `burst` at once, and `limit` in each period in addition: in any t seconds,
             burst + t x limit/period. Once the burst is used up, admissions are evenly spaced
             (ITU-T I.371, the generic cell rate algorithm).
    """

    FIXED = "fixed"
    SLIDING = "sliding"
    GCRA = "gcra"


@dataclass(frozen=True)
class Limit:
    """A named limit: `limit` in `period_seconds`.

    `burst` is for GCRA; without it, the burst is `limit`.
    """

    name: str
    limit: int
    period_seconds: int
    algorithm: Algorithm = Algorithm.GCRA
    burst: int | None = None

    @property
    def most(self) -> int:
        """The most that the limit admits at once."""
        return self.limit if self.burst is None else self.burst


@dataclass(frozen=True)
class Decision:
    """A limit's decision about a take, or about one that was only asked for.

    `remaining` is what is left after a take, or now.

    `reset_ms` is a time from now. After an admission it is the time until the whole limit is free
    again; after a refusal, the earliest time at which the same take could be admitted.
    """

    limit: Limit
    is_allowed: bool
    remaining: int
    reset_ms: int

    @property
    def reset_seconds(self) -> int:
        """`reset_ms` in whole seconds, rounded up."""
        return -(-self.reset_ms // 1000)
