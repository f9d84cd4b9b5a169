"""The streams that a mapping reads: those of DynamoDB tables, and those of Kinesis.

Both have shards, iterators and sequence numbers, in calls and records of their own.
"""

import base64
import json
from contextlib import suppress
from typing import Any, Final, Protocol

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.emulator.clients import Clients
from mayfly_local.emulator.deployment import wait_until_streams
from mayfly_local.sources.payloads import stream_record

__all__ = ["DynamoFeed", "Feed", "KinesisFeed", "feed_of"]

#: Most records of one read, and pages of shards.
_LIMIT: Final = 1000


class Feed(Protocol):
    """A stream, read with the clients of a function.

    Records are those of the function's event. `batch_info` is the name of the facts about a failed
    batch in its report. `has_positions` tells whether the emulator keeps what was read.
    """

    batch_info: str
    has_positions: bool

    async def shards(self) -> list[str]:
        """Returns the ids of all shards."""

    async def iterator(self, shard: str, where: dict[str, str]) -> str:
        """Returns an iterator for the place `where` in a shard. Raises ClientError."""

    async def read(self, shard: str, iterator: str) -> tuple[list[dict[str, Any]], str]:
        """Returns records, and the iterator for those after them. Raises ClientError."""

    def number(self, record: dict[str, Any]) -> str:
        """Returns the sequence number of a record."""

    def created(self, record: dict[str, Any]) -> float | None:
        """Returns when a record was made, in seconds since 1970."""

    def filtered(self, record: dict[str, Any]) -> dict[str, Any]:
        """Returns the part of a record that filters see."""


def feed_of(stream_arn: str, clients: Clients, *, role: str) -> Feed:
    """Returns the feed of a stream. `role` is the name of the role that reads it."""
    if ":kinesis:" in stream_arn:
        return KinesisFeed(stream_arn, clients, role=f"arn:aws:iam::{ACCOUNT}:role/{role}")
    return DynamoFeed(stream_arn, clients)


class DynamoFeed:
    """The stream of a table.

    https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html
    """

    batch_info = "DDBStreamBatchInfo"
    has_positions = True

    def __init__(self, stream_arn: str, clients: Clients) -> None:
        self._arn = stream_arn
        self._clients = clients

    async def shards(self) -> list[str]:
        """Returns the ids of all shards."""
        return await wait_until_streams(self._clients, self._arn)

    async def iterator(self, shard: str, where: dict[str, str]) -> str:
        """Returns an iterator for the place `where` in a shard. Raises ClientError."""
        reply = await self._clients.call(
            "dynamodbstreams", "get_shard_iterator", StreamArn=self._arn, ShardId=shard, **where
        )
        return str(reply["ShardIterator"])

    async def read(self, shard: str, iterator: str) -> tuple[list[dict[str, Any]], str]:
        """Returns records, and the iterator for those after them. Raises ClientError."""
        reply = await self._clients.call(
            "dynamodbstreams", "get_records", ShardIterator=iterator, Limit=_LIMIT
        )
        records = [stream_record(record, self._arn) for record in reply["Records"]]
        return records, reply.get("NextShardIterator", iterator)

    def number(self, record: dict[str, Any]) -> str:
        """Returns the sequence number of a record."""
        return str(record["dynamodb"]["SequenceNumber"])

    def created(self, record: dict[str, Any]) -> float | None:
        """Returns when a record was made, in seconds since 1970."""
        created: float | None = record["dynamodb"].get("ApproximateCreationDateTime")
        return created

    def filtered(self, record: dict[str, Any]) -> dict[str, Any]:
        """Returns the part of a record that filters see: all of it."""
        return record


class KinesisFeed:
    """A stream of Kinesis.

    https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
    """

    batch_info = "KinesisBatchInfo"
    has_positions = False

    def __init__(self, stream_arn: str, clients: Clients, *, role: str) -> None:
        self._arn = stream_arn
        self._clients = clients
        self._role = role

    async def shards(self) -> list[str]:
        """Returns the ids of all shards."""
        reply = await self._clients.call("kinesis", "list_shards", StreamARN=self._arn)
        return [str(shard["ShardId"]) for shard in reply["Shards"]]

    async def iterator(self, shard: str, where: dict[str, str]) -> str:
        """Returns an iterator for the place `where` in a shard. Raises ClientError."""
        arguments: dict[str, Any] = dict(where)
        if "SequenceNumber" in arguments:
            arguments["StartingSequenceNumber"] = arguments.pop("SequenceNumber")
        reply = await self._clients.call(
            "kinesis", "get_shard_iterator", StreamARN=self._arn, ShardId=shard, **arguments
        )
        return str(reply["ShardIterator"])

    async def read(self, shard: str, iterator: str) -> tuple[list[dict[str, Any]], str]:
        """Returns records, and the iterator for those after them. Raises ClientError."""
        reply = await self._clients.call(
            "kinesis", "get_records", StreamARN=self._arn, ShardIterator=iterator, Limit=_LIMIT
        )
        records = [self._record(shard, record) for record in reply["Records"]]
        return records, reply.get("NextShardIterator") or iterator

    def number(self, record: dict[str, Any]) -> str:
        """Returns the sequence number of a record."""
        return str(record["kinesis"]["sequenceNumber"])

    def created(self, record: dict[str, Any]) -> float | None:
        """Returns when a record was made, in seconds since 1970."""
        created: float = record["kinesis"]["approximateArrivalTimestamp"]
        return created

    def filtered(self, record: dict[str, Any]) -> dict[str, Any]:
        """Returns the part of a record that filters see: its data is decoded, as JSON if it is.

        https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis-filtering.html
        """
        data: Any = base64.b64decode(record["kinesis"]["data"]).decode(errors="replace")
        with suppress(ValueError, RecursionError):
            data = json.loads(data)
        return {**record["kinesis"], "data": data}

    def _record(self, shard: str, record: dict[str, Any]) -> dict[str, Any]:
        number, created = record["SequenceNumber"], record["ApproximateArrivalTimestamp"]
        return {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": record["PartitionKey"],
                "sequenceNumber": number,
                "data": base64.b64encode(record["Data"]).decode(),
                "approximateArrivalTimestamp": created.timestamp(),
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard}:{number}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": self._role,
            "awsRegion": REGION,
            "eventSourceARN": self._arn,
        }
