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
    """The response to an increment was lost, and a read did not settle whether it counted.

    The answer has no Retry-After, because a retry may count twice.
    """

    status = 503
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(
            f"the increment of {counter!r} may or may not have counted; read the counter. Send "
            "increments with an Idempotency-Key to retry them safely"
        )


class CounterOutOfRange(MayflyError):
    """The increment would leave the range of 38 digits that DynamoDB numbers have."""

    status = 409
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(
            f"counter {counter!r} would leave the range of 38 digits; nothing was added"
        )


class CounterLimit(MayflyError):
    """The increment would leave its floor or ceiling; nothing was added."""

    status = 409
    retryable = False

    def __init__(self, counter: str, value: int, by: int) -> None:
        self.value = value
        super().__init__(
            f"counter {counter!r} is at {value}; {by:+d} would leave the floor or ceiling of this "
            "increment, so nothing was added"
        )


class CounterExists(MayflyError):
    """A counter of this name exists with another number of shards, or without shards.

    The number of shards is fixed when a counter is created.
    """

    status = 409
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(
            f"counter {counter!r} exists with another number of shards, or without shards; delete "
            "it, or use another name"
        )


class CounterIsSharded(MayflyError):
    """A sharded counter cannot have a floor, a ceiling or a time to live.

    A condition checks one item, so it cannot check the sum of several shards.
    """

    code = "counter-sharded"
    status = 409
    retryable = False

    def __init__(self, counter: str) -> None:
        super().__init__(
            f"counter {counter!r} has shards, so it cannot have a floor, a ceiling or a time to "
            "live; use a counter without shards"
        )
