"""`mayfly webhooks`: make the secrets that sign webhooks, and rotate them without a gap."""

import base64
import json
import secrets

import click
from mayfly.webhooks.rules import DEFAULT_SECRET
from mayfly.webhooks.store import parameter

from mayfly_cli.options import NAME_TYPE, tenant
from mayfly_cli.target import Target, target
from mayfly_local.errors import LocalError

__all__ = ["webhooks"]

_BYTES = 32
#: Secrets that sign at the same time: the newest, and the one before it.
_KEPT = 2


@click.group()
def webhooks() -> None:
    """Makes and rotates the secrets that sign webhooks."""


@webhooks.command()
@target
@tenant
@click.argument("name", type=NAME_TYPE, default=DEFAULT_SECRET)
@click.option(
    "--rotate", is_flag=True, help="Sign with a new secret and the one before, until the next time."
)
def secret(*, target: Target, tenant: str, name: str, rotate: bool, as_json: bool) -> None:
    """Makes a signing secret in Parameter Store and prints it once, for the receivers."""
    client = target.parameters()
    path = f"{target.secrets_prefix}/{parameter(tenant, name)}"
    text = f"whsec_{base64.b64encode(secrets.token_bytes(_BYTES)).decode()}"
    stored = client.get_parameters(Names=[path], WithDecryption=True)["Parameters"]
    if stored and not rotate:
        raise LocalError(f"the secret {name!r} exists; --rotate changes it")
    if rotate and not stored:
        raise LocalError(f"there is no secret {name!r} to rotate; leave --rotate out")
    before = stored[0]["Value"].split() if stored else []
    value = " ".join([text, *before][:_KEPT])
    client.put_parameter(Name=path, Value=value, Type="SecureString", Overwrite=rotate)
    click.echo(json.dumps({"name": name, "tenant": tenant, "secret": text}) if as_json else text)
