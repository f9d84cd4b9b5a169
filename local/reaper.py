"""Time to live: deletes expired items, as late as it is told to.

DynamoDB deletes "typically within a few days"; code that only works because items vanish on time is wrong. The embedded
store's own reaper cannot be slowed, so TTL is off there and this one does it.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html
"""

import asyncio
import time
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from local.clients import Clients
from local.logs import Log

__all__ = ["Reaper"]

_INTERVAL_SECONDS: Final = 10.0


class Reaper:
    """Deletes items of the given tables (name to TTL attribute) `lag_seconds` after they expired."""

    def __init__(self, tables: dict[str, str], clients: Clients, log: Log, *, lag_seconds: float) -> None:
        self._tables = tables
        self._clients = clients
        self._log = log
        self._lag_seconds = lag_seconds

    async def run(self) -> None:
        """Looks through the tables again and again."""
        while True:
            for table, attribute in self._tables.items():
                try:
                    if deleted := await self._clients.run(self.reap, table=table, attribute=attribute):
                        self._log.event("expired items deleted", quiet=True, table=table, items=deleted)
                except (ClientError, BotoCoreError) as problem:
                    self._log.event("expiry failed", "ERROR", table=table, reason=str(problem))
            await asyncio.sleep(min(_INTERVAL_SECONDS, max(0.2, self._lag_seconds)))

    def reap(self, *, table: str, attribute: str) -> int:
        """Deletes what has expired long enough ago, each item on the condition that it still has. Returns how many."""
        client = self._clients.get("dynamodb")
        names, values = {"#ttl": attribute}, {":cut": {"N": str(int(time.time() - self._lag_seconds))}}
        keys = [each["AttributeName"] for each in client.describe_table(TableName=table)["Table"]["KeySchema"]]
        # Only a number is a time to live; an item older than five years is left alone, as on AWS.
        values[":oldest"] = {"N": str(int(time.time()) - 5 * 365 * 24 * 3600)}
        condition = "attribute_type(#ttl, :number) AND #ttl <= :cut AND #ttl > :oldest"
        values[":number"] = {"S": "N"}
        expired: list[dict[str, Any]] = []
        for page in client.get_paginator("scan").paginate(
            TableName=table, FilterExpression=condition, ExpressionAttributeNames=names, ExpressionAttributeValues=values
        ):
            expired += page["Items"]
        deleted = 0
        for item in expired:
            try:
                client.delete_item(
                    TableName=table, Key={name: item[name] for name in keys}, ConditionExpression=condition,
                    ExpressionAttributeNames=names, ExpressionAttributeValues=values,
                )  # fmt: skip
                deleted += 1
            except client.exceptions.ConditionalCheckFailedException:
                continue  # renewed meanwhile
        return deleted
