"""Adapter to DynamoDB Streams.

It reads records again that an event source mapping failed to deliver. A stream keeps its records
for 24 hours.
"""

from collections.abc import Iterator
from typing import Any, Final

from mayfly.aws.client import as_client
from mayfly.aws.errors import Refused, StreamTrimmed, Unanswered
from mayfly.core.errors import StoreUnavailable

__all__ = ["Streams"]

#: The most pages that are read for one range of records; each page may be empty.
_PAGES: Final = 500
#: Error codes for records that the stream no longer has.
_GONE: Final = {"TrimmedDataAccessException", "ResourceNotFoundException"}


class Streams:
    """Streams of this account."""

    def __init__(self, client: Any) -> None:
        self._client = as_client(client)

    def images(self, arn: str, shard: str, first: str, last: str) -> Iterator[dict[str, Any]]:
        """Yields the new images of a shard's records, from sequence number `first` to `last`.

        Both ends are included. Raises StreamTrimmed, at the end, if the stream no longer has all of
        the records. Raises StoreUnavailable, also if the last record was not reached: a page may be
        empty although more records follow.
        https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
        """
        is_trimmed = False
        try:
            position: str | None = self._position(
                arn, shard, "AT_SEQUENCE_NUMBER", SequenceNumber=first
            )
        except StreamTrimmed:
            is_trimmed, position = True, self._position(arn, shard, "TRIM_HORIZON")
        for _ in range(_PAGES):
            if position is None:
                break
            reply = self._call(
                "GetRecords", StreamTrimmed(arn, first, last), ShardIterator=position
            )
            for record in reply["Records"]:
                number = int(record["dynamodb"]["SequenceNumber"])
                if number <= int(last):
                    yield dict(record["dynamodb"].get("NewImage", {}))
                if number >= int(last):
                    if is_trimmed:
                        raise StreamTrimmed(arn, first, last)
                    return
            position = reply.get("NextShardIterator")
        if is_trimmed:
            raise StreamTrimmed(arn, first, last)
        raise StoreUnavailable("read the stream", f"record {last} was not reached")

    def _position(self, arn: str, shard: str, kind: str, **more: str) -> str:
        position: str = self._call(
            "GetShardIterator", StreamTrimmed(arn, more.get("SequenceNumber", "first"), "last"),
            StreamArn=arn, ShardId=shard,
            ShardIteratorType=kind, **more,
        )["ShardIterator"]  # fmt: skip
        return position

    def _call(self, method: str, if_gone: StreamTrimmed, **request: Any) -> dict[str, Any]:
        try:
            return self._client.call(method, request)
        except Refused as refusal:
            if refusal.code in _GONE:
                raise if_gone from refusal
            raise StoreUnavailable("read the stream", refusal.code) from refusal
        except Unanswered as problem:
            raise StoreUnavailable("read the stream", problem.reason) from problem
