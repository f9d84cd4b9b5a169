"""Reading the index `due`, for sweeps."""

import heapq
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from mayfly.aws.dynamodb import DynamoDB, Item, NoAnswer
from mayfly.core.deadline import carried
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.shards import Due, partitions

__all__ = ["earliest"]


def earliest(
    db: DynamoDB, table: str, kind: str, *, before_ms: int, limit: int, operation: str, threads: int
) -> tuple[list[Due], StoreUnavailable | None]:
    """Returns up to `limit` items of a kind whose time is before `before_ms`, the earliest first.

    The read is eventually consistent. It makes a call for each partition, in several `threads`, and
    then one for each further megabyte. The caller's deadline holds for all.

    A partition whose read is refused, or has an answer that is damaged or a 500, does not hold up
    the others: their items are returned, next to the first failure, which names the partition. If a
    read has no answer at all, no other is begun: each would take as long again.
    """
    failures: list[StoreUnavailable] = []

    def page(of: str, after: Item | None = None) -> dict[str, Any]:
        if any(isinstance(failure, NoAnswer) for failure in failures):
            return {"Items": []}
        try:
            return db.query(
                f"{operation}: partition {of}",
                TableName=table,
                IndexName="due",
                KeyConditionExpression="#due = :due AND #at < :before",
                ProjectionExpression="pk, sk, #due, #at",
                ExpressionAttributeNames={"#due": "due", "#at": "attention_at"},
                ExpressionAttributeValues={":due": {"S": of}, ":before": {"N": str(before_ms)}},
                Limit=limit,
                **({} if after is None else {"ExclusiveStartKey": after}),
            )
        except StoreUnavailable as failure:
            failures.append(failure)
            return {"Items": []}

    def items(of: str, reply: dict[str, Any]) -> Iterator[Item]:
        yield from reply["Items"]
        while "LastEvaluatedKey" in reply:
            reply = page(of, reply["LastEvaluatedKey"])
            yield from reply["Items"]

    places = partitions(kind)
    with ThreadPoolExecutor(threads, thread_name_prefix="due") as pool:
        first = list(pool.map(carried(page), places))
    in_order = heapq.merge(*map(items, places, first), key=_time)
    due = [
        Due({name: item[name] for name in ("pk", "sk")}, item["due"]["S"])
        for item in islice(in_order, limit)
    ]
    return due, failures[0] if failures else None


def _time(item: Item) -> float:
    return float(item["attention_at"]["N"])
