"""A session as an item of the Sessions table: where it stands, and back."""

import json
from typing import Any

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

Item = dict[str, Any]


def session_key(tenant: str, partition: str, session_id: str) -> Item:
    """Where a session stands."""
    return {"pk": {"S": key(tenant, partition)}, "sk": {"S": session_sort(session_id)}}


def session_sort(session_id: str) -> str:
    """Its sort key; an empty id gives what all of them start with. Sorts after `generation`."""
    return f"session/{session_id}"


def session_id_in(key: Item) -> str:
    """The session id in a key, empty in that of the generation, which sorts before all of them."""
    sort: str = key["sk"]["S"]
    return sort.removeprefix(session_sort("")) if sort.startswith(session_sort("")) else ""


def generation_key(tenant: str, partition: str) -> Item:
    """Where a subject's generation stands: beside its sessions. There is none before the first
    end-all, and it never expires: sessions of an earlier generation must not come to life again."""
    return {"pk": {"S": key(tenant, partition)}, "sk": {"S": "generation"}}


def generation_of(item: Item | None) -> int:
    """The generation in its item."""
    return int(item["generation"]["N"]) if item else 0


def write_item(session: Session) -> Item:
    """The item of a session."""
    item = {
        **session_key(session.tenant, session.partition, session.id),
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
    """The session in an item."""
    return Session(
        tenant=tenant,
        partition=item["pk"]["S"].rpartition("/")[2],
        id=item["sk"]["S"].removeprefix(session_sort("")),
        subject=item["subject"]["S"] if "subject" in item else None,
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
    """`expires_at` for a deadline: whole seconds, and never before it."""
    return str(-(-idle_expires_at_ms // 1000))
