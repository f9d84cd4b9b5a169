"""Linearizability of concurrent histories.

Wing and Gong's search, with memoized states (Lowe 2017).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Call", "is_linearizable"]


@dataclass(frozen=True)
class Call:
    """An operation with its beginning and end on one clock, its request and its answer.

    `ended` is infinite if it is unknown whether the operation took effect.
    """

    began: float
    ended: float
    operation: str
    argument: Any
    answer: Any


def is_linearizable(
    history: Sequence[Call], start: Hashable, step: Callable[[Any, Call], Sequence[Hashable]]
) -> bool:
    """Returns whether an order of the calls exists that keeps every `ended before began`.

    `step` must allow each call of that order: `step(state, call)` returns the states that the call
    may leave with its answer, and no state if that answer was impossible.
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
            if history[index].began <= first_end:  # no call that is left ended before it began
                stack += [(left - {index}, after) for after in step(state, history[index])]
    return False
