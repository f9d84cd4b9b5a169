"""Counters on DynamoDB."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from mayfly.counters.rules import SHARD, partition
from mayfly.errors import CounterOutOfRange, OutcomeUnknown, StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["CounterStore"]


#: A read changes nothing, so it is repeated here, where the SDK must not repeat.
_READ_TRIES: Final = 3


class CounterStore:
    """Counters of all tenants, one item each.

    The client must be made with SDK retries off: an SDK that repeats a plain ADD after a lost answer counts twice, in
    each of its retry modes. What is safe to repeat is repeated here.
    """

    def __init__(self, client: "DynamoDBClient", table: str, new_nonce: Callable[[], str]) -> None:
        self._client = client
        self._table = table
        self._new_nonce = new_nonce

    def increment(self, tenant: str, name: str, by: int) -> int:
        """Adds `by` once and returns the value, in one write.

        ::

            this call     ADD value, SET last = nonce ──?── answer lost ── read: last = nonce?  yes: it counted
            another call                          ADD value, SET last = other                   no: cannot be known

        Raises OutcomeUnknown where the answer was lost and another writer has since replaced the nonce, or the write may
        still be on its way; StoreUnavailable where it is certain that nothing was written.
        """
        nonce = self._new_nonce()
        try:
            return self._add(tenant, name, by, nonce)
        except ClientError as refusal:
            code = refusal.response["Error"]["Code"]
            if code == "ValidationException":
                raise CounterOutOfRange(name) from refusal
            if refusal.response["ResponseMetadata"]["HTTPStatusCode"] < 500:  # refused: certain to have written nothing
                raise StoreUnavailable("increment", code) from refusal
            return self._settle(tenant, name, nonce)
        except BotoCoreError:
            return self._settle(tenant, name, nonce)

    def read(self, tenant: str, name: str) -> int:
        """The value, 0 where there is no counter. Strongly consistent. Raises StoreUnavailable."""
        item = self._get(tenant, name, "read")
        return int(item["value"]["N"]) if "value" in item else 0

    def ping(self) -> None:
        """Raises StoreUnavailable unless the table answers."""
        self._get("", "", "ping")

    def _add(self, tenant: str, name: str, by: int, nonce: str) -> int:
        reply = self._client.update_item(
            TableName=self._table,
            Key=self._key(tenant, name),
            UpdateExpression="ADD #value :by SET #last = :nonce",
            ExpressionAttributeNames={"#value": "value", "#last": "last"},
            ExpressionAttributeValues={":by": {"N": str(by)}, ":nonce": {"S": nonce}},
            ReturnValues="UPDATED_NEW",
        )
        return int(reply["Attributes"]["value"]["N"])

    def _settle(self, tenant: str, name: str, nonce: str) -> int:
        try:
            item = self._get(tenant, name, "increment")
        except StoreUnavailable as problem:
            raise OutcomeUnknown(name) from problem
        if item.get("last") != {"S": nonce}:
            raise OutcomeUnknown(name)
        return int(item["value"]["N"])

    def _get(self, tenant: str, name: str, operation: str) -> dict[str, Any]:
        problem: Exception | None = None
        for _ in range(_READ_TRIES):
            try:
                reply = self._client.get_item(TableName=self._table, Key=self._key(tenant, name), ConsistentRead=True)
                return dict(reply.get("Item", {}))
            except (BotoCoreError, ClientError) as failure:
                problem = failure
        raise StoreUnavailable(operation, type(problem).__name__) from problem

    def _key(self, tenant: str, name: str) -> dict[str, Any]:
        return {"pk": {"S": partition(tenant, name)}, "sk": {"S": SHARD}}
