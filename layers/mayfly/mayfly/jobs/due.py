"""Reading the index `due`, for sweeps."""

import heapq
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from mayfly.aws.dynamodb import DynamoDB, Item
from mayfly.jobs.shards import Due, partitions

__all__ = ["earliest"]


def earliest(
    db: DynamoDB, table: str, kind: str, *, before_ms: int, limit: int, operation: str, threads: int
) -> list[Due]:
    """Returns up to `limit` items of a kind whose time is before `before_ms`, the earliest first.

    The read is eventually consistent. It makes a call for each partition, in several `threads`, and
    then one for each further megabyte. Raises StoreUnavailable.
    """

    def page(of: str, after: Item | None = None) -> dict[str, Any]:
        return db.query(
            operation,
            TableName=table,
            IndexName="due",
            KeyConditionExpression="#due = :due AND #at < :before",
            ProjectionExpression="pk, sk, #due, #at",
            ExpressionAttributeNames={"#due": "due", "#at": "attention_at"},
            ExpressionAttributeValues={":due": {"S": of}, ":before": {"N": str(before_ms)}},
            Limit=limit,
            **({} if after is None else {"ExclusiveStartKey": after}),
        )

    def items(of: str, reply: dict[str, Any]) -> Iterator[Item]:
        yield from reply["Items"]
        while "LastEvaluatedKey" in reply:
            reply = page(of, reply["LastEvaluatedKey"])
            yield from reply["Items"]

    places = partitions(kind)
    with ThreadPoolExecutor(threads, thread_name_prefix="due") as pool:
        first = list(pool.map(page, places))
    in_order = heapq.merge(*map(items, places, first), key=_time)
    return [
        Due({name: item[name] for name in ("pk", "sk")}, item["due"]["S"])
        for item in islice(in_order, limit)
    ]


def _time(item: Item) -> int:
    return int(item["attention_at"]["N"])
