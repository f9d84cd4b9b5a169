"""Tenants and their API keys on DynamoDB."""

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from mayfly.errors import StoreUnavailable
from mayfly.ids import key
from mayfly.tenants.model import ApiKey

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["TenantStore"]


class TenantStore:
    """API keys by key id; the item holds the tenant, the scopes and the hash of the secret."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def add_key(self, api_key: ApiKey) -> None:
        """Stores a key, over one of the same id. Raises StoreUnavailable."""
        item = {
            "pk": {"S": key("key", api_key.key_id)},
            "tenant": {"S": api_key.tenant},
            "scopes": {"S": " ".join(sorted(api_key.scopes))},
            "secret_hash": {"S": api_key.secret_hash},
            "created_at": {"N": str(api_key.created_at_ms)},
        }
        try:
            self._client.put_item(TableName=self._table, Item=item)
        except (BotoCoreError, ClientError) as problem:
            raise StoreUnavailable("add key", type(problem).__name__) from problem

    def find_key(self, key_id: str) -> ApiKey | None:
        """The key of this id. Strongly consistent, so that a revoked key is refused at once. Raises StoreUnavailable."""
        try:
            reply = self._client.get_item(TableName=self._table, Key={"pk": {"S": key("key", key_id)}}, ConsistentRead=True)
        except (BotoCoreError, ClientError) as problem:
            raise StoreUnavailable("find key", type(problem).__name__) from problem
        item = reply.get("Item")
        if item is None:
            return None
        return ApiKey(
            key_id=key_id,
            tenant=item["tenant"]["S"],
            scopes=frozenset(item["scopes"]["S"].split()),
            secret_hash=item["secret_hash"]["S"],
            created_at_ms=int(item["created_at"]["N"]),
        )
