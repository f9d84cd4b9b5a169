"""Errors of AWS clients that callers may want to distinguish."""

from mayfly.core.errors import MayflyError

__all__ = ["StreamTrimmed"]


class StreamTrimmed(MayflyError):
    """The table's stream no longer has these records (it keeps them for 24 hours)."""

    retryable = False

    def __init__(self, stream_arn: str, first: str, last: str) -> None:
        super().__init__(f"the stream {stream_arn} no longer has the records {first} to {last}")
