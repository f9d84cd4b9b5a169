"""What a counter is to its callers."""

from dataclasses import dataclass

__all__ = ["Count"]


@dataclass(frozen=True)
class Count:
    """A counter's name and its value at some moment at or after the call that returned it."""

    name: str
    value: int
