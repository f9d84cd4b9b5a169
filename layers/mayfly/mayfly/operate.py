"""The operator's side of `mayfly`: `python -m mayfly.operate keys ...`.

Finds the stack's tables through CloudFormation: the running local stack's, or with `--stack` a deployed one's.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from mayfly.clock import rfc3339, system_clock
from mayfly.errors import MayflyError
from mayfly.fields import NAME
from mayfly.ids import new_secret
from mayfly.tenants import ALL_SCOPES, ApiKey, TenantStore, authenticate, mint

__all__ = ["main"]

_DEVELOPMENT_KEY_FILE = "development-key"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.endpoint_url and not options.stack:
        parser.error("--endpoint-url needs --stack: which stack at that endpoint?")
    try:
        return int(options.run(options))
    except MayflyError as problem:
        print(f"mayfly: {problem}", file=sys.stderr)
    except NoRegionError:
        print("mayfly: no AWS region is set; set AWS_REGION, or a profile that has one", file=sys.stderr)
    except NoCredentialsError:
        print("mayfly: no AWS credentials were found; set them as for any AWS command", file=sys.stderr)
    except (BotoCoreError, ClientError) as problem:
        print(f"mayfly: the stack {options.stack or 'here'!r} cannot be used: {problem}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mayfly")
    target = argparse.ArgumentParser(add_help=False)
    target.add_argument("--stack", metavar="NAME", help="a deployed stack (default: the running local one)")
    target.add_argument("--endpoint-url", metavar="URL", help="the AWS-compatible endpoint that holds the stack")
    target.add_argument("--json", action="store_true", help="print JSON")
    features = parser.add_subparsers(required=True, metavar="COMMAND")

    keys = features.add_parser("keys", help="API keys").add_subparsers(required=True, metavar="VERB")
    create = keys.add_parser(
        "create",
        parents=[target],
        help="make a key and show it, once",
        description="Makes an API key and shows it, this once: only its hash is stored.",
    )
    create.add_argument("--tenant", default="default", type=_name, help="whose key it is (default: %(default)s)")
    create.add_argument(
        "--scope", action="append", choices=sorted(ALL_SCOPES), help="what it may do; may be repeated (default: everything)"
    )
    create.add_argument("--env", default="live", choices=("dev", "test", "live"), help="shown in the key (default: %(default)s)")
    create.set_defaults(run=_create_key)
    development = keys.add_parser("development", parents=[target])  # for `mayfly up` alone: no help, no place in the list
    development.set_defaults(run=_development_key)
    return parser


def _create_key(options: argparse.Namespace) -> int:
    text, key = mint(options.env, options.tenant, frozenset(options.scope or ALL_SCOPES), now_ms=system_clock(), new_secret=new_secret)
    _tenants(options).add_key(key)
    shown = {"key": text, "id": key.key_id, "tenant": key.tenant, "scopes": sorted(key.scopes), "created_at": rfc3339(key.created_at_ms)}
    if options.json:
        print(json.dumps(shown))
    else:
        print(text)
        print(f"tenant {key.tenant}, scopes {' '.join(sorted(key.scopes))}; it is not shown again", file=sys.stderr)
    return 0


def _development_key(options: argparse.Namespace) -> int:
    """Kept in a file of the work folder, readable by this user alone, so that it survives a store that forgets."""
    path = Path(os.environ["MAYFLY_WORK"], _DEVELOPMENT_KEY_FILE)
    store = _tenants(options)
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


def _tenants(options: argparse.Namespace) -> TenantStore:
    client = boto3.client("dynamodb", endpoint_url=options.endpoint_url)
    return TenantStore(client, _physical_id(options, "TenantsTable"))


def _physical_id(options: argparse.Namespace, logical: str) -> str:
    """What a resource of the stack is called, by asking CloudFormation. Raises ClientError where the stack has no such resource."""
    stack = options.stack or os.environ["MAYFLY_STACK"]
    client = boto3.client("cloudformation", endpoint_url=options.endpoint_url)
    reply = client.describe_stack_resource(StackName=stack, LogicalResourceId=logical)
    found: str = reply["StackResourceDetail"]["PhysicalResourceId"]
    return found


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} must match {NAME.pattern}")
    return text


if __name__ == "__main__":
    sys.exit(main())
