"""The DynamoDB Streams edge: reads again what a mapping gave up on, while the stream still has it (24 hours)."""

from collections.abc import Iterator
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from mayfly.errors import StoreUnavailable, StreamTrimmed

__all__ = ["Streams"]

#: What the stream says of records that it no longer has.
_GONE: Final = {"TrimmedDataAccessException", "ResourceNotFoundException"}


class Streams:
    """Streams of this account."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def images(self, arn: str, shard: str, first: str, last: str) -> Iterator[dict[str, Any]]:
        """The new images of a shard's records from one sequence number to another, both included.

        Raises StreamTrimmed where the stream no longer has them, StoreUnavailable.
        """
        try:
            position: str | None = self._client.get_shard_iterator(
                StreamArn=arn, ShardId=shard, ShardIteratorType="AT_SEQUENCE_NUMBER", SequenceNumber=first
            )["ShardIterator"]
            while position:
                reply = self._client.get_records(ShardIterator=position)
                for record in reply["Records"]:
                    if _number(record) > int(last):
                        return
                    yield dict(record["dynamodb"].get("NewImage", {}))
                    if _number(record) == int(last):
                        return
                if not reply["Records"]:
                    return
                position = reply.get("NextShardIterator")
        except ClientError as refusal:
            code = refusal.response["Error"]["Code"]
            if code in _GONE:
                raise StreamTrimmed(arn, first, last) from refusal
            raise StoreUnavailable("read stream", code) from refusal
        except BotoCoreError as problem:
            raise StoreUnavailable("read stream", type(problem).__name__) from problem


def _number(record: Any) -> int:
    return int(record["dynamodb"]["SequenceNumber"])
