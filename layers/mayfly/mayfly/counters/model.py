"""Counters and increments as callers see them."""

from dataclasses import dataclass

__all__ = ["Count", "Step"]


@dataclass(frozen=True)
class Count:
    """A counter's name, and its value at a moment during the call or after it began."""

    name: str
    value: int


@dataclass(frozen=True)
class Step:
    """One increment as the caller requested it.

    The increment is refused if the value would leave `floor` or `ceiling`. With `ttl_seconds` the
    counter expires that long after the increment.
    """

    by: int = 1
    floor: int | None = None
    ceiling: int | None = None
    ttl_seconds: int | None = None
