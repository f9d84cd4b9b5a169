"""Work in turns: fair between owners, in several threads, and until a deadline."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, zip_longest
from typing import Any, Final, TypeVar

from mayfly.core.deadline import carried

__all__ = ["in_turns", "work_off"]

T = TypeVar("T")

_END: Final[Any] = object()


def in_turns(things: Iterable[T], owner: Callable[[T], str]) -> list[T]:
    """Returns things so that each owner has its turn: the first of each, the second of each, ...

    ::

        a1 a2 a3 a4 a5 b1 b2 c1   ->   a1 b1 c1 a2 b2 a3 a4 a5

    So nothing waits for more things of another owner than it has before it of its own owner. Things
    of one owner stay in order, and owners are in the order of their first things.
    """
    by_owner: dict[str, list[T]] = defaultdict(list)
    for thing in things:
        by_owner[owner(thing)].append(thing)
    rounds = zip_longest(*by_owner.values(), fillvalue=_END)
    return [thing for thing in chain.from_iterable(rounds) if thing is not _END]


def work_off(
    work: Callable[[T], int],
    things: Sequence[T],
    *,
    threads: int,
    is_over: Callable[[], bool],
) -> int:
    """Calls `work` with each thing, in order, in several threads. Returns the sum of its results.

    Nothing is begun once `is_over()`, or after an error; what has begun is completed. The deadline
    of the caller (`mayfly.core.deadline`) holds in all threads. Raises the first error.
    """
    left, taking, has_failed = iter(things), threading.Lock(), threading.Event()

    def work_in_order() -> int:
        done = 0
        while not has_failed.is_set() and not is_over():
            with taking:
                thing = next(left, _END)
            if thing is _END:
                break
            try:
                done += work(thing)
            except BaseException:
                has_failed.set()
                raise
        return done

    count = min(threads, len(things))
    if count <= 1:
        return work_in_order()
    with ThreadPoolExecutor(count, thread_name_prefix="turns") as pool:
        work_carried = carried(work_in_order)
        return sum(worker.result() for worker in [pool.submit(work_carried) for _ in range(count)])
