"""Sessions as items of the Sessions table: their keys, and conversion in both directions."""

import json

from mayfly.aws.items import Item, check_format, optional_text, stamp
from mayfly.core.ids import key
from mayfly.core.json_input import canonical_json
from mayfly.sessions.model import Session

__all__ = [
    "Item",
    "generation_key",
    "generation_of",
    "read_item",
    "session_id_in",
    "session_key",
    "session_sort",
    "ttl_of",
    "write_item",
]


def session_key(tenant: str, partition: str, session_id: str) -> Item:
    """Returns the key of a session's item."""
    return {"pk": {"S": key(tenant, partition)}, "sk": {"S": session_sort(session_id)}}


def session_sort(session_id: str) -> str:
    """Returns a session's sort key, which sorts after `generation`.

    An empty id gives the prefix of all of them.
    """
    return f"session/{session_id}"


def session_id_in(key: Item) -> str:
    """Returns the session id in a key, empty for the key of a generation."""
    sort: str = key["sk"]["S"]
    return sort.removeprefix(session_sort("")) if sort.startswith(session_sort("")) else ""


def generation_key(tenant: str, partition: str) -> Item:
    """Returns the key of a subject's generation, in the partition of its sessions.

    The first end-all creates the item. It never expires, because sessions of an earlier generation
    must stay ended.
    """
    return {"pk": {"S": key(tenant, partition)}, "sk": {"S": "generation"}}


def generation_of(item: Item | None) -> int:
    """Returns the generation in its item, 0 if there is no item."""
    return int(item["generation"]["N"]) if item else 0


def write_item(session: Session) -> Item:
    """Returns the item of a session."""
    item = {
        **session_key(session.tenant, session.partition, session.id),
        **stamp("session"),
        "data": {"S": canonical_json(session.data)},
        "version": {"N": str(session.version)},
        "generation": {"N": str(session.generation)},
        "secret_hash": {"S": session.secret_hash},
        "created_at": {"N": str(session.created_at_ms)},
        "idle": {"N": str(session.idle_ms)},
        "absolute": {"N": str(session.absolute_ms)},
        "idle_expires_at": {"N": str(session.idle_expires_at_ms)},
        "absolute_expires_at": {"N": str(session.absolute_expires_at_ms)},
        "nonce": {"S": session.nonce},
        "rotated_at": {"N": str(session.rotated_at_ms)},
        "expires_at": {"N": ttl_of(session.idle_expires_at_ms)},
    }
    return item if session.subject is None else {**item, "subject": {"S": session.subject}}


def read_item(tenant: str, item: Item) -> Session:
    """Returns the session in an item. Raises NewerFormat."""
    check_format("session", item)
    return Session(
        tenant=tenant,
        partition=item["pk"]["S"].rpartition("/")[2],
        id=item["sk"]["S"].removeprefix(session_sort("")),
        subject=optional_text(item, "subject"),
        data=json.loads(item["data"]["S"]),
        version=int(item["version"]["N"]),
        generation=int(item["generation"]["N"]),
        secret_hash=item["secret_hash"]["S"],
        created_at_ms=int(item["created_at"]["N"]),
        idle_ms=int(item["idle"]["N"]),
        absolute_ms=int(item["absolute"]["N"]),
        idle_expires_at_ms=int(item["idle_expires_at"]["N"]),
        absolute_expires_at_ms=int(item["absolute_expires_at"]["N"]),
        nonce=item["nonce"]["S"],
        rotated_at_ms=int(item["rotated_at"]["N"]),
    )


def ttl_of(idle_expires_at_ms: int) -> str:
    """Returns `expires_at` for a deadline: whole seconds, rounded up."""
    return str(-(-idle_expires_at_ms // 1000))
