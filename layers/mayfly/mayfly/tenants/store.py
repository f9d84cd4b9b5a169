"""API keys on DynamoDB."""

from typing import Final

from mayfly.aws.dynamodb import ConditionFailed, DynamoDB, Item
from mayfly.aws.items import optional_number
from mayfly.core.clock import Clock, system_clock
from mayfly.core.ids import key
from mayfly.tenants.errors import KeyNotFound
from mayfly.tenants.model import ApiKey

__all__ = ["TenantStore"]

#: Time for which an expired key is kept. Until then its holder gets the reason "has expired", and
#: `mayfly keys list` shows the key.
_KEPT_SECONDS: Final = 30 * 24 * 3600


class TenantStore:
    """API keys by key id. An item holds the tenant, the scopes and the hash of the secret.

    Every method raises StoreUnavailable.
    """

    def __init__(self, db: DynamoDB, table: str, *, clock: Clock = system_clock) -> None:
        self._db = db
        self._table = table
        self.clock = clock

    def add_key(self, api_key: ApiKey) -> None:
        """Stores a key, and replaces one of the same id."""
        item: Item = {
            "pk": {"S": _pk(api_key.key_id)},
            "tenant": {"S": api_key.tenant},
            "scopes": {"S": " ".join(sorted(api_key.scopes))},
            "secret_hash": {"S": api_key.secret_hash},
            "created_at": {"N": str(api_key.created_at_ms)},
        }
        if api_key.expires_at_ms is not None:
            item |= {
                "valid_until": {"N": str(api_key.expires_at_ms)},
                "expires_at": {"N": _deleted_at(api_key.expires_at_ms)},
            }
        self._db.put("add the key", TableName=self._table, Item=item)

    def find_key(self, key_id: str) -> ApiKey | None:
        """Returns the key of this id, None if there is none.

        The read is strongly consistent, so a revoked key is refused immediately.
        """
        item = self._db.get("find the key", self._table, {"pk": {"S": _pk(key_id)}})
        return None if item is None else _read(item)

    def list_keys(self, tenant: str) -> list[ApiKey]:
        """Returns a tenant's keys, oldest first.

        It reads the whole table, so it is for operators, not for requests.
        """
        keys: list[ApiKey] = []
        start: Item = {}
        while True:
            reply = self._db.scan(
                "list the keys",
                TableName=self._table,
                ConsistentRead=True,
                FilterExpression="tenant = :tenant AND attribute_exists(secret_hash)",
                ExpressionAttributeValues={":tenant": {"S": tenant}},
                **start,
            )
            keys += [_read(item) for item in reply["Items"]]
            if "LastEvaluatedKey" not in reply:
                return sorted(keys, key=lambda api_key: (api_key.created_at_ms, api_key.key_id))
            start = {"ExclusiveStartKey": reply["LastEvaluatedKey"]}

    def revoke_key(self, key_id: str, tenant: str) -> None:
        """Deletes a key; from now on its holder is refused. Raises KeyNotFound."""
        # The condition keeps a tenant from revoking another tenant's key.
        is_its_own = "tenant = :tenant"
        try:
            self._db.delete(
                "revoke the key",
                TableName=self._table,
                Key={"pk": {"S": _pk(key_id)}},
                ConditionExpression=is_its_own,
                ExpressionAttributeValues={":tenant": {"S": tenant}},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refusal:
            if refusal.was_repeated and refusal.item is None:
                return  # The first request deleted the key, and its response was lost.
            raise KeyNotFound(key_id) from None

    def end_key(self, key_id: str, tenant: str, at_ms: int) -> None:
        """Makes a key expire at a time, unless it expires earlier. Raises KeyNotFound."""
        is_its_own = "tenant = :tenant"
        lasts_longer = "attribute_not_exists(valid_until) OR valid_until > :at"
        try:
            self._db.update(
                "end the key",
                TableName=self._table,
                Key={"pk": {"S": _pk(key_id)}},
                UpdateExpression="SET valid_until = :at, expires_at = :deleted",
                ConditionExpression=f"{is_its_own} AND ({lasts_longer})",
                ExpressionAttributeValues={
                    ":tenant": {"S": tenant},
                    ":at": {"N": str(at_ms)},
                    ":deleted": {"N": _deleted_at(at_ms)},
                },
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refusal:
            if refusal.item is None or refusal.item["tenant"]["S"] != tenant:
                raise KeyNotFound(key_id) from None

    def note_use(self, key_id: str, now_ms: int, *, unless_after_ms: int) -> None:
        """Stores the time of a key's use, unless the stored time is after `unless_after_ms`.

        If several processes do so at once, one of them writes.
        """
        # The condition keeps this update from creating an item without a secret, if the key is
        # revoked at the same moment.
        is_there = "attribute_exists(pk)"
        is_old = "attribute_not_exists(last_used_at) OR last_used_at <= :before"
        try:
            self._db.update(
                "note the key's use",
                TableName=self._table,
                Key={"pk": {"S": _pk(key_id)}},
                UpdateExpression="SET last_used_at = :now",
                ConditionExpression=f"{is_there} AND ({is_old})",
                ExpressionAttributeValues={
                    ":now": {"N": str(now_ms)},
                    ":before": {"N": str(unless_after_ms)},
                },
            )
        except ConditionFailed:
            return


def _pk(key_id: str) -> str:
    return key("key", key_id)


def _deleted_at(expires_at_ms: int) -> str:
    return str(expires_at_ms // 1000 + _KEPT_SECONDS)


def _read(item: Item) -> ApiKey:
    return ApiKey(
        key_id=item["pk"]["S"].removeprefix(key("key", "")),
        tenant=item["tenant"]["S"],
        scopes=frozenset(item["scopes"]["S"].split()),
        secret_hash=item["secret_hash"]["S"],
        created_at_ms=int(item["created_at"]["N"]),
        expires_at_ms=optional_number(item, "valid_until"),
        last_used_at_ms=optional_number(item, "last_used_at"),
    )
