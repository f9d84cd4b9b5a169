"""`mayfly keys`: API keys."""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mayfly.clock import rfc3339, system_clock
from mayfly.ids import new_secret
from mayfly.operate.stack import Stack, target, tenant_option
from mayfly.tenants import ALL_SCOPES, ApiKey, authenticate, mint

__all__ = ["add_parser"]

_DEVELOPMENT_KEY_FILE = "development-key"


def add_parser(features: Any) -> None:
    """Adds the commands."""
    keys = features.add_parser("keys", help="API keys").add_subparsers(required=True, metavar="VERB")
    create = keys.add_parser(
        "create",
        parents=[target(), tenant_option()],
        help="make a key and show it, once",
        description="Makes an API key and shows it, this once: only its hash is stored.",
    )
    create.add_argument(
        "--scope", action="append", choices=sorted(ALL_SCOPES), help="what it may do; may be repeated (default: everything)"
    )
    create.add_argument("--env", default="live", choices=("dev", "test", "live"), help="shown in the key (default: %(default)s)")
    create.set_defaults(run=_create)
    development = keys.add_parser("development", parents=[target()])  # for `mayfly up` alone: no help, no place in the list
    development.set_defaults(run=_development)


def _create(options: argparse.Namespace) -> int:
    text, key = mint(options.env, options.tenant, frozenset(options.scope or ALL_SCOPES), now_ms=system_clock(), new_secret=new_secret)
    Stack(options).tenants().add_key(key)
    shown = {"key": text, "id": key.key_id, "tenant": key.tenant, "scopes": sorted(key.scopes), "created_at": rfc3339(key.created_at_ms)}
    if options.json:
        print(json.dumps(shown))
    else:
        print(text)
        print(f"tenant {key.tenant}, scopes {' '.join(sorted(key.scopes))}; it is not shown again", file=sys.stderr)
    return 0


def _development(options: argparse.Namespace) -> int:
    """Kept in a file of the work folder, readable by this user alone, so that it survives a store that forgets."""
    path = Path(os.environ["MAYFLY_WORK"], _DEVELOPMENT_KEY_FILE)
    store = Stack(options).tenants()
    if path.exists():
        kept = json.loads(path.read_text())
        text, key = kept["key"], _restored(kept)
    else:
        text, key = mint("dev", "default", ALL_SCOPES, now_ms=system_clock(), new_secret=new_secret)
        path.touch(mode=0o600)
        path.write_text(
            json.dumps({"key": text, "id": key.key_id, "tenant": key.tenant, "hash": key.secret_hash, "created": key.created_at_ms})
        )
    store.add_key(key)
    authenticate(f"Bearer {text}", store)
    print(f"key       {text}")
    return 0


def _restored(kept: Mapping[str, Any]) -> ApiKey:
    return ApiKey(kept["id"], kept["tenant"], ALL_SCOPES, kept["hash"], kept["created"])
