"""`mayfly keys`: API keys."""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mayfly.core.clock import rfc3339, system_clock
from mayfly.core.ids import new_secret
from mayfly.operate.stack import Stack, show, target, tenant_option
from mayfly.tenants import ALL_SCOPES, ApiKey, authenticate, mint
from mayfly.tenants.errors import KeyNotFound

__all__ = ["add_parser"]

_DEVELOPMENT_KEY_FILE: Final = "development-key"
_DAY_MS: Final = 24 * 3600 * 1000
_CACHED: Final = "its last answers hold for up to 60 s more where API Gateway has cached them"


def add_parser(features: Any) -> None:
    """Adds the commands."""
    keys = features.add_parser("keys", help="API keys").add_subparsers(
        required=True, metavar="VERB"
    )
    create = keys.add_parser(
        "create",
        parents=[target(), tenant_option()],
        help="make a key and show it, once",
        description="Makes an API key and shows it, this once: only its hash is stored.",
    )
    create.add_argument(
        "--scope",
        action="append",
        choices=sorted(ALL_SCOPES),
        help="what it may do; may be repeated (default: everything)",
    )
    create.add_argument(
        "--expires-in",
        type=_lifetime,
        metavar="DAYS",
        help="when it stops to work (default: never)",
    )
    _add_env(create)
    create.set_defaults(run=_create)

    listing = keys.add_parser(
        "list",
        parents=[target(), tenant_option()],
        help="a tenant's keys, without their secrets",
        description="Lists a tenant's keys. The last use is noted once an hour.",
    )
    listing.set_defaults(run=_list)

    revoke = keys.add_parser(
        "revoke",
        parents=[target(), tenant_option()],
        help="end a key now",
        description=f"Ends a key at once; {_CACHED}.",
    )
    revoke.add_argument(
        "id", type=_key_id, help="the key's id, as list shows it, or the key itself"
    )
    revoke.set_defaults(run=_revoke)

    rotate = keys.add_parser(
        "rotate",
        parents=[target(), tenant_option()],
        help="make a key's successor; both work for a while",
        description="Makes another key of the same scopes and shows it, once. The old one "
        "works on for the overlap.",
    )
    rotate.add_argument("id", type=_key_id, help="the id of the key to replace, or the key itself")
    rotate.add_argument(
        "--overlap",
        type=_days,
        default=7.0,
        metavar="DAYS",
        help="how long both work (default: %(default)s; 0 ends it now)",
    )
    rotate.add_argument(
        "--expires-in",
        type=_lifetime,
        metavar="DAYS",
        help="when the new one stops to work (default: never)",
    )
    _add_env(rotate)
    rotate.set_defaults(run=_rotate)

    development = keys.add_parser(
        "development", parents=[target()]
    )  # for `mayfly up` alone: no help, no place in the list
    development.set_defaults(run=_development)


def _add_env(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--env",
        choices=("dev", "test", "live"),
        help="shown in the key (default: dev on the local stack, live elsewhere)",
    )


def _create(options: argparse.Namespace) -> int:
    text, key = _make(
        Stack(options), options, options.tenant, frozenset(options.scope or ALL_SCOPES)
    )
    _show_once(text, key, as_json=options.json)
    return 0


def _list(options: argparse.Namespace) -> int:
    now_ms = system_clock()
    rows = [
        {**_shown(each), "expired": _has_expired(each, now_ms)}
        for each in Stack(options).tenants().list_keys(options.tenant)
    ]
    if not options.json:
        rows = [{**each, "scopes": " ".join(each["scopes"])} for each in rows]
    columns = ("id", "created_at", "last_used_at", "expires_at", "expired", "scopes")
    show(rows, columns, as_json=options.json, none=f"tenant {options.tenant} has no keys")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    store = Stack(options).tenants()
    # Looked for first: to a deletion that is repeated for want of an answer, one that was never
    # there looks like its own doing.
    if store.find_key(options.id) is None:
        raise KeyNotFound(options.id)
    store.revoke_key(options.id, options.tenant)
    print(f"key {options.id} is revoked; {_CACHED}", file=sys.stderr)
    return 0


def _rotate(options: argparse.Namespace) -> int:
    stack = Stack(options)
    store, now_ms = stack.tenants(), system_clock()
    old = store.find_key(options.id)
    if old is None or old.tenant != options.tenant:
        raise KeyNotFound(options.id)
    if _has_expired(old, now_ms):
        print(
            f"mayfly: key {old.key_id} has expired and cannot be rotated; make another one "
            "with: mayfly keys create",
            file=sys.stderr,
        )
        return 1
    # The new one first: whoever stops in between has two keys, and never none. It is shown when
    # both stand as they should.
    text, new = _make(stack, options, old.tenant, old.scopes)
    ends_at_ms = min(now_ms + round(options.overlap * _DAY_MS), old.expires_at_ms or sys.maxsize)
    try:
        store.end_key(old.key_id, old.tenant, ends_at_ms)
    except KeyNotFound:  # revoked at this moment: whoever did that wants no successor
        store.revoke_key(new.key_id, new.tenant)
        raise
    _show_once(text, new, as_json=options.json)
    print(f"key {old.key_id} works until {rfc3339(ends_at_ms)}; {_CACHED}", file=sys.stderr)
    return 0


def _make(
    stack: Stack, options: argparse.Namespace, tenant: str, scopes: frozenset[str]
) -> tuple[str, ApiKey]:
    now_ms = system_clock()
    expires_at_ms = (
        None if options.expires_in is None else now_ms + round(options.expires_in * _DAY_MS)
    )
    env = options.env or ("dev" if stack.is_local else "live")
    text, key = mint(
        env, tenant, scopes, now_ms=now_ms, new_secret=new_secret, expires_at_ms=expires_at_ms
    )
    stack.tenants().add_key(key)
    return text, key


def _show_once(text: str, key: ApiKey, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"key": text, **_shown(key)}))
        return
    print(text)
    until = (
        ", never expires"
        if key.expires_at_ms is None
        else f", expires {rfc3339(key.expires_at_ms)}"
    )
    print(
        f"id {key.key_id}, tenant {key.tenant}, scopes {' '.join(sorted(key.scopes))}{until}; "
        "it is not shown again",
        file=sys.stderr,
    )


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "created_at": rfc3339(key.created_at_ms),
        "expires_at": _time(key.expires_at_ms),
        "last_used_at": _time(key.last_used_at_ms),
    }


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def _has_expired(key: ApiKey, now_ms: int) -> bool:
    return key.expires_at_ms is not None and key.expires_at_ms <= now_ms


def _key_id(text: str) -> str:
    """A key's id; of a key that was pasted whole, which must not end in a terminal again, the id in
    it.
    """
    parts = text.split("_")
    return parts[2] if len(parts) == 4 and parts[0] == "mf" else text


def _lifetime(text: str) -> float:
    days = _days(text)
    if not days:
        raise argparse.ArgumentTypeError(
            "a key that expires at once opens nothing; to end one: mayfly keys revoke"
        )
    return days


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1
    if not 0 <= days <= 3660:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 0 to 3660")
    return days


def _development(options: argparse.Namespace) -> int:
    """Kept in a file of the work folder, readable by this user alone, so that it survives a store
    that forgets.
    """
    path = Path(os.environ["MAYFLY_WORK"], _DEVELOPMENT_KEY_FILE)
    store = Stack(options).tenants()
    if path.exists():
        kept = json.loads(path.read_text())
        text, key = kept["key"], _restored(kept)
    else:
        text, key = mint("dev", "default", ALL_SCOPES, now_ms=system_clock(), new_secret=new_secret)
        path.touch(mode=0o600)
        path.write_text(
            json.dumps(
                {
                    "key": text,
                    "id": key.key_id,
                    "tenant": key.tenant,
                    "hash": key.secret_hash,
                    "created": key.created_at_ms,
                }
            )
        )
    store.add_key(key)
    authenticate(f"Bearer {text}", store, now_ms=system_clock())
    print(f"key       {text}")
    return 0


def _restored(kept: Mapping[str, Any]) -> ApiKey:
    return ApiKey(kept["id"], kept["tenant"], ALL_SCOPES, kept["hash"], kept["created"])
