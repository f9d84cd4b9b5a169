"""API keys on DynamoDB."""

from mayfly.aws.dynamodb import ConditionFailed, DynamoDB
from mayfly.aws.errors import NewerFormat
from mayfly.aws.items import UNREADABLE, Item
from mayfly.core.clock import Clock, system_clock
from mayfly.tenants.errors import KeyNotFound, KeyUnreadable
from mayfly.tenants.items import deleted_at, key_item, key_of, read_key, read_listed
from mayfly.tenants.model import ApiKey

__all__ = ["TenantStore"]


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
        self._db.put("add the key", TableName=self._table, Item=key_item(api_key))

    def find_key(self, key_id: str) -> ApiKey | None:
        """Returns the key of this id, None if there is none.

        The read is strongly consistent, so a revoked key is refused immediately. Raises
        KeyUnreadable, NewerFormat.
        """
        item = self._db.get("find the key", self._table, key_of(key_id))
        try:
            return None if item is None else read_key(item)
        except NewerFormat:
            raise
        except UNREADABLE as problem:
            raise KeyUnreadable(key_id, f"{type(problem).__name__}: {problem}") from problem

    def list_keys(self, tenant: str) -> list[ApiKey]:
        """Returns a tenant's keys, oldest first; those that cannot be read have an `error`.

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
            keys += [read_listed(item, tenant) for item in reply["Items"]]
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
                Key=key_of(key_id),
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
                Key=key_of(key_id),
                UpdateExpression="SET valid_until = :at, expires_at = :deleted",
                ConditionExpression=f"{is_its_own} AND ({lasts_longer})",
                ExpressionAttributeValues={
                    ":tenant": {"S": tenant},
                    ":at": {"N": str(at_ms)},
                    ":deleted": {"N": deleted_at(at_ms)},
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
                Key=key_of(key_id),
                UpdateExpression="SET last_used_at = :now",
                ConditionExpression=f"{is_there} AND ({is_old})",
                ExpressionAttributeValues={
                    ":now": {"N": str(now_ms)},
                    ":before": {"N": str(unless_after_ms)},
                },
            )
        except ConditionFailed:
            return
