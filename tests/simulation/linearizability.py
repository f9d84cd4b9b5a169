"""Whether a concurrent history could have been a sequential one: Wing and Gong's search, with what
it has seen remembered (Lowe 2017).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Call", "is_linearizable"]


@dataclass(frozen=True)
class Call:
    """One operation: when it began and ended on one clock, what it was asked and what it answered.
    `ended` is infinite where nobody knows whether it took effect, ever."""

    began: float
    ended: float
    operation: str
    argument: Any
    answer: Any


def is_linearizable(
    history: Sequence[Call], start: Hashable, step: Callable[[Any, Call], Sequence[Hashable]]
) -> bool:
    """Whether the calls can be put in an order that keeps every `ended before began` and that
    `step` allows.

    `step(state, call)` gives the states that the call may leave with the answer it gave; none where
    it could not have given it.
    """
    seen: set[tuple[frozenset[int], Hashable]] = set()
    stack: list[tuple[frozenset[int], Hashable]] = [(frozenset(range(len(history))), start)]
    while stack:
        left, state = stack.pop()
        if all(history[index].ended == float("inf") for index in left):
            return True
        if (left, state) in seen:
            continue
        seen.add((left, state))
        first_end = min(history[index].ended for index in left)
        for index in left:
            if history[index].began <= first_end:  # nothing that is left ended before it began
                stack += [(left - {index}, after) for after in step(state, history[index])]
    return False
