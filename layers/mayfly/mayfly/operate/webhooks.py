"""`mayfly webhooks`: make the secrets that sign webhooks, and change them without a gap."""

import argparse
import base64
import json
import secrets
from typing import Any

from mayfly.core.errors import MayflyError
from mayfly.operate.stack import Stack, name, target, tenant_option
from mayfly.webhooks.rules import DEFAULT_SECRET
from mayfly.webhooks.store import parameter

__all__ = ["add_parser"]

_BYTES = 32
#: Of several, the newest: the one that signs now, and the one before it.
_KEPT = 2


def add_parser(features: Any) -> None:
    """Adds the commands."""
    verbs = features.add_parser(
        "webhooks", help="webhooks: the secrets that sign them"
    ).add_subparsers(required=True, metavar="VERB")
    making = verbs.add_parser(
        "secret",
        parents=[target(), tenant_option()],
        help="make a signing secret, and show it once",
        description="Makes a signing secret in Parameter Store, and prints it: give it to the "
        "receivers. It is not shown again.",
    )
    making.add_argument(
        "name", nargs="?", default=DEFAULT_SECRET, type=name, help="which (default: %(default)s)"
    )
    making.add_argument(
        "--rotate",
        action="store_true",
        help="sign with a new one and the one before, until it is rotated again",
    )
    making.set_defaults(run=_make)


def _make(options: argparse.Namespace) -> int:
    stack = Stack(options)
    client, path = (
        stack.parameters(),
        f"{stack.secrets_prefix}/{parameter(options.tenant, options.name)}",
    )
    made = f"whsec_{base64.b64encode(secrets.token_bytes(_BYTES)).decode()}"
    found = client.get_parameters(Names=[path], WithDecryption=True)["Parameters"]
    if bool(found) != options.rotate:
        raise _Misused(options.name, exists=bool(found))
    before = found[0]["Value"].split() if found else []
    value = " ".join([made, *before][:_KEPT])
    client.put_parameter(Name=path, Value=value, Type="SecureString", Overwrite=options.rotate)
    print(
        json.dumps({"name": options.name, "tenant": options.tenant, "secret": made})
        if options.json
        else made
    )
    return 0


class _Misused(MayflyError):
    """A secret exists that was to be made, or does not that was to be rotated."""

    def __init__(self, name: str, *, exists: bool) -> None:
        super().__init__(
            f"the secret {name!r} exists; --rotate changes it"
            if exists
            else f"there is no secret {name!r} to rotate; leave --rotate out"
        )
