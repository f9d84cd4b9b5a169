"""`mayfly token`: JSON Web Tokens for the authorizers of the running stack."""

import json
import time
from pathlib import Path
from typing import Any

import click

from mayfly_cli.options import PAIR, work
from mayfly_local.errors import LocalError

__all__ = ["claims_of", "token"]


@click.command()
@click.option("--as", "user", required=True, metavar="USER", help="The subject of the token.")
@click.option(
    "--authorizer",
    metavar="NAME",
    help="The authorizer that the token is for; needed if the stack has several.",
)
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="A scope; may be repeated.")
@click.option(
    "--claim",
    "claims",
    type=PAIR,
    multiple=True,
    metavar="NAME=VALUE",
    help="A further claim; may be repeated.",
)
@click.option(
    "--seconds",
    type=click.IntRange(min=1),
    default=3600,
    show_default=True,
    help="How long the token is valid.",
)
@work
def token(
    *,
    user: str,
    authorizer: str | None,
    scopes: tuple[str, ...],
    claims: tuple[tuple[str, str], ...],
    seconds: int,
    work: Path,
) -> None:
    """Prints a token that a JWT or Cognito authorizer of the running stack accepts.

    It takes the place of a token of the issuer that the template names. Use it as in:
    curl -H "Authorization: Bearer $(mayfly token --as anna)" URL
    """
    from mayfly_local.iam.tokens import make_token
    from mayfly_local.stack_file import StackFile

    stack = StackFile.read(work)
    chosen = _chosen(stack.issuers, authorizer)
    now = int(time.time())
    own = {"iat": now, "exp": now + seconds} | claims_of(chosen, user, scopes, now)
    click.echo(make_token(stack.people.secret, own | {name: _value(text) for name, text in claims}))


def claims_of(
    issuer: dict[str, Any], user: str, scopes: tuple[str, ...], now: int
) -> dict[str, Any]:
    """Returns the claims of a token without its times.

    Cognito gives scopes to access tokens only; these name user and client in other claims than ID
    tokens do.
    Page amazon-cognito-user-pools-using-the-access-token of
    https://docs.aws.amazon.com/cognito/latest/developerguide/
    """
    own: dict[str, Any] = {"iss": issuer["issuer"], "sub": user}
    if issuer["kind"] == "COGNITO_USER_POOLS":
        own |= {"token_use": "access" if scopes else "id", "auth_time": now}
        own |= (
            {"username": user, "client_id": "local"}
            if scopes
            else {"cognito:username": user, "aud": "local"}
        )
    if issuer["audience"]:
        own["aud"] = issuer["audience"][0]
    if scopes:
        own["scope"] = " ".join(scopes)
    return own


def _chosen(issuers: dict[str, Any], name: str | None) -> dict[str, Any]:
    """Returns the authorizer of a name, or the only one. Raises LocalError."""
    names = ", ".join(issuers) or "none"
    if name is None and len(issuers) == 1:
        return dict(next(iter(issuers.values())))
    if name is None:
        raise LocalError(f"choose one with --authorizer; JWT and Cognito authorizers: {names}")
    if name not in issuers:
        raise LocalError(f"there is no JWT or Cognito authorizer {name}; there are: {names}")
    return dict(issuers[name])


def _value(text: str) -> Any:
    """Returns a claim: JSON if the text is JSON, such as a list, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
