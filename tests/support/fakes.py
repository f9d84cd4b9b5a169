"""Sources of time and names that a test controls."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext


@dataclass
class FixedClock:
    """A clock that stands still until it is moved; a millisecond count like mayfly.core.clock."""

    now_ms: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        """Moves the clock forward."""
        self.now_ms += int(seconds * 1000)


@dataclass
class Names:
    """Counts names: n1, n2, n3 ..."""

    prefix: str = "n"
    _numbers: Any = field(default_factory=lambda: count(1))

    def __call__(self) -> str:
        return f"{self.prefix}{next(self._numbers)}"


class NoReports:
    """An empty bucket of the relay's reports."""

    def forward(self, *, is_over: Callable[[], bool]) -> int:
        """Returns the number of reports that were passed on: none."""
        return 0


class Context(LambdaContext):
    """Lambda's context, with a deadline that stands still."""

    def __init__(self, remaining_ms: int = 30_000) -> None:
        self._aws_request_id = "request-1"
        self._function_name = "test"
        self._memory_limit_in_mb = 128
        self._invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:test"
        self._remaining_ms = remaining_ms

    # A static method in Lambda's context.
    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]
        """Returns the time that is left of the invocation."""
        return self._remaining_ms
