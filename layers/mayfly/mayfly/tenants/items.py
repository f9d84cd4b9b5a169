"""API keys as DynamoDB items. An item holds the tenant, the scopes and the hash of the secret."""

from typing import Final

from mayfly.aws.items import UNREADABLE, Item, check_format, optional_number, stamp
from mayfly.core.ids import key
from mayfly.tenants.model import ApiKey

__all__ = ["deleted_at", "key_item", "key_of", "read_key", "read_listed"]

#: Time for which an expired key is kept. Until then its holder gets the reason "has expired", and
#: `mayfly keys list` shows the key.
_KEPT_SECONDS: Final = 30 * 24 * 3600


def key_of(key_id: str) -> Item:
    """Returns the primary key of an API key."""
    return {"pk": {"S": key("key", key_id)}}


def key_item(api_key: ApiKey) -> Item:
    """Returns the item of an API key."""
    item: Item = {
        **key_of(api_key.key_id),
        **stamp("API key"),
        "tenant": {"S": api_key.tenant},
        "scopes": {"S": " ".join(sorted(api_key.scopes))},
        "secret_hash": {"S": api_key.secret_hash},
        "created_at": {"N": str(api_key.created_at_ms)},
    }
    if api_key.expires_at_ms is not None:
        item |= {
            "valid_until": {"N": str(api_key.expires_at_ms)},
            "expires_at": {"N": deleted_at(api_key.expires_at_ms)},
        }
    return item


def deleted_at(expires_at_ms: int) -> str:
    """Returns the time at which TTL deletes the item of an expired key, in seconds."""
    return str(expires_at_ms // 1000 + _KEPT_SECONDS)


def read_key(item: Item) -> ApiKey:
    """Returns the key in an item. Raises NewerFormat, or an error of UNREADABLE."""
    check_format("API key", item)
    return ApiKey(
        key_id=item["pk"]["S"].removeprefix(key("key", "")),
        tenant=item["tenant"]["S"],
        scopes=frozenset(item["scopes"]["S"].split()),
        secret_hash=item["secret_hash"]["S"],
        created_at_ms=int(item["created_at"]["N"]),
        expires_at_ms=optional_number(item, "valid_until"),
        last_used_at_ms=optional_number(item, "last_used_at"),
    )


def read_listed(item: Item, tenant: str) -> ApiKey:
    """Returns the key in an item of a list of a tenant's keys.

    One that cannot be read has an `error`, so that it does not hide the others.
    """
    try:
        return read_key(item)
    except UNREADABLE as problem:
        return ApiKey(
            key_id=item["pk"]["S"].removeprefix(key("key", "")),
            tenant=tenant,
            scopes=frozenset(),
            secret_hash="",
            created_at_ms=0,
            error=f"the record of this key cannot be read: {type(problem).__name__}: {problem}",
        )
