"""The one way to wait in a test."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float, *, what: str = "", interval: float = 0.02) -> T:
    """The first true value of `predicate`; fails when there is none within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'it'} did not happen within {timeout} s")
        time.sleep(interval)  # noqa: TID251 - the interval of the one wait
