"""Time to live: deletes expired items after a configurable delay.

DynamoDB deletes "typically within a few days"; code that relies on items vanishing on time is
wrong. The emulator's own reaper cannot be slowed, so TTL is disabled there and this reaper deletes.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from mayfly_local.emulator.clients import Clients
from mayfly_local.emulator.control import Control
from mayfly_local.logs import Log

__all__ = ["Reaper"]

_INTERVAL_SECONDS: Final = 10.0
_PAGE: Final = 100


class Reaper:
    """Deletes items `lag_seconds` after they expired. `tables` maps names to TTL attributes."""

    def __init__(
        self,
        tables: dict[str, str],
        clients: Clients,
        log: Log,
        *,
        lag_seconds: float,
        control: Control | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tables = tables
        self._clients = clients
        self._log = log
        self.lag_seconds = lag_seconds
        self._clock = clock
        self._control = control

    async def run(self) -> None:
        """Deletes expired items from time to time.

        The emulator keeps an index of them. At other endpoints, the tables are scanned.
        """
        is_declared = self._control is None
        while True:
            try:
                if self._control is not None and not is_declared:
                    await self._control.ask("expiring", self._tables)
                    is_declared = True
                await (
                    self._reap_known(self._control)
                    if self._control is not None
                    else self._reap_all()
                )
            except (ClientError, BotoCoreError, aiohttp.ClientError, OSError) as problem:
                self._log.event("expiry failed", "ERROR", reason=str(problem))
            await asyncio.sleep(min(_INTERVAL_SECONDS, max(0.2, self.lag_seconds)))

    async def reap_due(self) -> None:
        """Deletes the items whose time has come by now. Raises aiohttp.ClientError."""
        if self._control is not None:
            await self._reap_known(self._control)

    async def _reap_known(self, control: Control) -> None:
        expired = None
        while expired is None or len(expired) == _PAGE:
            expired = await control.ask(
                "expired", {"before": int(self._clock() - self.lag_seconds), "limit": _PAGE}
            )
            for table in sorted({entry["table"] for entry in expired}):
                keys = [entry["key"] for entry in expired if entry["table"] == table]
                deleted = await self._clients.run(
                    self.delete, table=table, attribute=self._tables[table], keys=keys
                )
                self._log.event("expired items deleted", quiet=True, table=table, items=deleted)

    async def _reap_all(self) -> None:
        for table, attribute in self._tables.items():
            if deleted := await self._clients.run(self.reap, table=table, attribute=attribute):
                self._log.event("expired items deleted", quiet=True, table=table, items=deleted)

    def reap(self, *, table: str, attribute: str) -> int:
        """Scans a whole table and deletes items that have expired long enough ago.

        Returns their number.
        """
        client = self._clients.get("dynamodb")
        names = [
            part["AttributeName"]
            for part in client.describe_table(TableName=table)["Table"]["KeySchema"]
        ]
        pages = client.get_paginator("scan").paginate(
            TableName=table, **self._expired(attribute, "FilterExpression")
        )
        keys = [{name: item[name] for name in names} for page in pages for item in page["Items"]]
        return self.delete(table=table, attribute=attribute, keys=keys)

    def delete(self, *, table: str, attribute: str, keys: list[dict[str, Any]]) -> int:
        """Deletes items by their keys, each on the condition that it has expired long enough ago.

        Returns their number.
        """
        client, deleted = self._clients.get("dynamodb"), 0
        for key in keys:
            try:
                client.delete_item(
                    TableName=table, Key=key, **self._expired(attribute, "ConditionExpression")
                )
                deleted += 1
            except (
                client.exceptions.ConditionalCheckFailedException,
                client.exceptions.TransactionConflictException,
            ):
                continue  # The item was renewed meanwhile, or a transaction holds it for a moment.
        return deleted

    def _expired(self, attribute: str, expression: str) -> dict[str, Any]:
        """Returns the arguments of an expression for items that have expired long enough ago.

        Only a number is a TTL. Items that expired more than five years ago are not deleted, as on
        AWS.
        """
        now = self._clock()
        return {
            expression: "attribute_type(#ttl, :number) AND #ttl <= :cut AND #ttl > :oldest",
            "ExpressionAttributeNames": {"#ttl": attribute},
            "ExpressionAttributeValues": {
                ":cut": {"N": str(int(now - self.lag_seconds))},
                ":oldest": {"N": str(int(now) - 5 * 365 * 24 * 3600)},
                ":number": {"S": "N"},
            },
        }
