"""Errors of counters."""

from mayfly.core.errors import MayflyError

__all__ = [
    "CounterExists",
    "CounterIsSharded",
    "CounterLimit",
    "CounterOutOfRange",
    "OutcomeUnknown",
]


class OutcomeUnknown(MayflyError):
    """An increment was sent and its answer lost, and reading back did not settle whether it
    counted.

    Without Retry-After: whoever repeats it may count twice.
    """

    status = 503
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(
            f"the increment of {counter!r} may or may not have counted; read it, or use an "
            "Idempotency-Key to repeat safely"
        )


class CounterOutOfRange(MayflyError):
    """DynamoDB numbers hold 38 digits; an increment would leave that range."""

    status = 409
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(f"{counter!r} would leave the range of 38 digits")


class CounterLimit(MayflyError):
    """A floor or a ceiling refuses an increment; nothing was added."""

    status = 409
    retryable = False

    def __init__(self, counter: str, value: int, by: int) -> None:
        self.value = value
        super().__init__(
            f"{counter!r} stands at {value}; {by:+d} would leave the floor or ceiling of this "
            "increment"
        )


class CounterExists(MayflyError):
    """A counter of this name exists with another number of shards, or with none: shards are fixed
    when it is made.
    """

    status = 409
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(
            f"{counter!r} exists otherwise; the number of shards is fixed when a counter is "
            "made: delete it, or take another name"
        )


class CounterIsSharded(MayflyError):
    """No condition can see the sum of several items, so a sharded counter has neither floor,
    ceiling nor time to live.
    """

    code = "counter-sharded"
    status = 409
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(f"{counter!r} has shards, and so neither floor, ceiling nor time to live")
