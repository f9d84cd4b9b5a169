"""What a counter is to its callers."""

from dataclasses import dataclass

__all__ = ["Count", "Step"]


@dataclass(frozen=True)
class Count:
    """A counter's name and its value at some moment at or after the call that returned it."""

    name: str
    value: int


@dataclass(frozen=True)
class Step:
    """One increment as it was asked for.

    `floor` and `ceiling` refuse it where the value would leave them. With `ttl_seconds` the counter
    expires so long after it.
    """

    by: int = 1
    floor: int | None = None
    ceiling: int | None = None
    ttl_seconds: int | None = None
