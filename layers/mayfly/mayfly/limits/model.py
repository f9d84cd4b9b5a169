"""What a limit is, and what it decides."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Algorithm", "Decision", "Limit"]


class Algorithm(StrEnum):
    """How a limit counts. What each admits at most, with every process on one clock (docs/scale.md
    has it with clocks that differ):

    FIXED    `limit` in each window of `period_seconds` since the epoch, so twice that in a period across an edge. One item each window.
    SLIDING  the last window counts by the part of it that the period before now still covers: with e seconds of the present window
             gone, `limit` x (1 + e/period) across its start, and one more for the fraction that is rounded away.
    GCRA     `burst` at once and `limit` in each period besides: burst + t x limit/period in any t seconds. Evenly spaced once the burst
             is used up (ITU-T I.371, the generic cell rate algorithm).
    """

    FIXED = "fixed"
    SLIDING = "sliding"
    GCRA = "gcra"


@dataclass(frozen=True)
class Limit:
    """So many in a period, by name. `burst` is for GCRA, and `limit` where it is not given."""

    name: str
    limit: int
    period_seconds: int
    algorithm: Algorithm = Algorithm.GCRA
    burst: int | None = None

    @property
    def most(self) -> int:
        """The most that it ever admits at once."""
        return self.limit if self.burst is None else self.burst


@dataclass(frozen=True)
class Decision:
    """What a limit decided.

    `reset_ms`: where it admitted, when all of it is free again; where it refused, when the same
    could be admitted at the earliest.
    """

    limit: Limit
    is_allowed: bool
    remaining: int
    reset_ms: int

    @property
    def reset_seconds(self) -> int:
        """`reset_ms` in whole seconds, never early."""
        return -(-self.reset_ms // 1000)
