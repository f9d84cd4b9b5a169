"""`mayfly keys`: API keys."""

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import click
from mayfly.aws.errors import NewerFormat
from mayfly.core.clock import rfc3339, system_clock
from mayfly.core.ids import new_secret
from mayfly.tenants import ALL_SCOPES, ApiKey, authenticate, mint
from mayfly.tenants.errors import KeyNotFound, KeyUnreadable

from mayfly_cli.options import tenant
from mayfly_cli.output import show
from mayfly_cli.target import Target, target
from mayfly_local.errors import LocalError

__all__ = ["keys"]

_DEVELOPMENT_KEY_FILE: Final = "development-key"
_DAY_MS: Final = 24 * 3600 * 1000
_CACHED: Final = "API Gateway may use cached answers for up to 60 s more"


class _Days(click.ParamType[float]):
    """A number of days."""

    name = "days"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Returns the days, or ends the command."""
        try:
            days = float(value)
        except ValueError:
            days = -1
        if not 0 <= days <= 3660:
            self.fail(f"{value!r} is not a number of days from 0 to 3660", param, ctx)
        return days


class _Lifetime(_Days):
    """A number of days above 0."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Returns the days, or ends the command."""
        days = super().convert(value, param, ctx)
        if not days:
            self.fail(
                "a key that expires immediately opens nothing; to end one: mayfly keys revoke",
                param,
                ctx,
            )
        return days


class _KeyId(click.ParamType[str]):
    """A key's id, or a whole key, of which only the id is used and shown."""

    name = "id"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Returns the id."""
        parts = value.split("_")
        return str(parts[2] if len(parts) == 4 and parts[0] == "mf" else value)


def _new_key(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of commands that make a key."""
    command = click.option(
        "--expires-in", type=_Lifetime(), metavar="DAYS", help="Its lifetime.  [default: unlimited]"
    )(command)
    return click.option(
        "--env",
        type=click.Choice(["dev", "test", "live"]),
        help="Shown in the key.  [default: dev on the local stack, live elsewhere]",
    )(command)


@click.group()
def keys() -> None:
    """Makes, lists, rotates and revokes API keys."""


@keys.command()
@target
@tenant
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(sorted(ALL_SCOPES)),
    multiple=True,
    help="What the key may do; may be repeated.  [default: everything]",
)
@_new_key
def create(
    *,
    target: Target,
    tenant: str,
    scopes: tuple[str, ...],
    expires_in: float | None,
    env: str | None,
    as_json: bool,
) -> None:
    """Makes an API key and shows it once: only its hash is stored."""
    text, key = _make(
        target, tenant, frozenset(scopes or ALL_SCOPES), expires_in=expires_in, env=env
    )
    _show_once(text, key, as_json=as_json)


@keys.command("list")
@target
@tenant
def list_(*, target: Target, tenant: str, as_json: bool) -> None:
    """Lists a tenant's keys, without their secrets. The last use is noted once an hour.

    A key whose record cannot be read is shown with its error, opens nothing, and can be revoked.
    """
    now_ms = system_clock()
    rows = [
        {**_listed(key), "expired": _has_expired(key, now_ms)}
        for key in target.tenants().list_keys(tenant)
    ]
    if not as_json:
        rows = [{**row, "scopes": " ".join(row["scopes"])} for row in rows]
    columns = ["id", "created_at", "last_used_at", "expires_at", "expired", "scopes"]
    if any("error" in row for row in rows):
        columns.append("error")
    show(rows, columns, as_json=as_json, none=f"tenant {tenant} has no keys")


@keys.command()
@target
@tenant
@click.argument("key_id", metavar="ID", type=_KeyId())
def revoke(
    *,
    target: Target,
    tenant: str,
    key_id: str,
    as_json: bool,
) -> None:
    """Ends a key immediately. ID is the key's id, as list shows it, or the key itself."""
    store = target.tenants()
    # A deletion that the SDK repeats after a lost response looks like one of a key that never
    # existed. So the key is read first.
    with suppress(KeyUnreadable, NewerFormat):
        if store.find_key(key_id) is None:
            raise KeyNotFound(key_id)
    store.revoke_key(key_id, tenant)
    click.echo(f"key {key_id} is revoked; {_CACHED}", err=True)


@keys.command()
@target
@tenant
@click.argument("key_id", metavar="ID", type=_KeyId())
@click.option(
    "--overlap",
    type=_Days(),
    default=7.0,
    show_default=True,
    metavar="DAYS",
    help="How long both work; 0 ends the old one immediately.",
)
@_new_key
def rotate(
    *,
    target: Target,
    tenant: str,
    key_id: str,
    overlap: float,
    expires_in: float | None,
    env: str | None,
    as_json: bool,
) -> None:
    """Makes the successor of a key, with the same scopes, and shows it once.

    The old one works for the overlap. ID is the key's id, or the key itself.
    """
    store, now_ms = target.tenants(), system_clock()
    old = store.find_key(key_id)
    if old is None or old.tenant != tenant:
        raise KeyNotFound(key_id)
    if _has_expired(old, now_ms):
        raise LocalError(
            f"key {old.key_id} has expired and cannot be rotated; make another one with: "
            "mayfly keys create"
        )
    # The new key is made first: an interrupted command leaves two keys, and never none. It is
    # shown last, when both are as they should be.
    text, new = _make(target, old.tenant, old.scopes, expires_in=expires_in, env=env)
    ends_at_ms = min(now_ms + round(overlap * _DAY_MS), old.expires_at_ms or sys.maxsize)
    try:
        store.end_key(old.key_id, old.tenant, ends_at_ms)
    except KeyNotFound:  # revoked at this moment, so it must not get a successor
        store.revoke_key(new.key_id, new.tenant)
        raise
    _show_once(text, new, as_json=as_json)
    click.echo(f"key {old.key_id} works until {rfc3339(ends_at_ms)}; {_CACHED}", err=True)


@keys.command(hidden=True)
@target
def development(*, target: Target, as_json: bool) -> None:
    """Makes the development key of the local stack, or stores it again, and prints it.

    It is kept in a file of the work folder that only this user can read, since the emulator may
    forget it. `mayfly up` runs this command.
    """
    path = target.work / _DEVELOPMENT_KEY_FILE
    store = target.tenants()
    if path.exists():
        kept = json.loads(path.read_text())
        text, key = kept["key"], _restored(kept)
    else:
        text, key = mint("dev", "default", ALL_SCOPES, now_ms=system_clock(), new_secret=new_secret)
        path.touch(mode=0o600)
        path.write_text(json.dumps(_kept(text, key)))
    store.add_key(key)
    authenticate(store, f"Bearer {text}")
    click.echo(f"key       {text}")


def _make(
    target: Target,
    tenant: str,
    scopes: frozenset[str],
    *,
    expires_in: float | None,
    env: str | None,
) -> tuple[str, ApiKey]:
    now_ms = system_clock()
    expires_at_ms = None if expires_in is None else now_ms + round(expires_in * _DAY_MS)
    text, key = mint(
        env or ("dev" if target.is_local else "live"),
        tenant,
        scopes,
        now_ms=now_ms,
        new_secret=new_secret,
        expires_at_ms=expires_at_ms,
    )
    target.tenants().add_key(key)
    return text, key


def _show_once(text: str, key: ApiKey, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"key": text, **_shown(key)}))
        return
    click.echo(text)
    until = f", expires {_time(key.expires_at_ms)}" if key.expires_at_ms else ", never expires"
    click.echo(
        f"id {key.key_id}, tenant {key.tenant}, scopes {' '.join(sorted(key.scopes))}{until}; "
        "it is not shown again",
        err=True,
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


def _listed(key: ApiKey) -> dict[str, Any]:
    if key.error is None:
        return _shown(key)
    return {**_shown(key), "created_at": None, "error": key.error}


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def _has_expired(key: ApiKey, now_ms: int) -> bool:
    return key.expires_at_ms is not None and key.expires_at_ms <= now_ms


def _kept(text: str, key: ApiKey) -> dict[str, Any]:
    return {
        "key": text,
        "id": key.key_id,
        "tenant": key.tenant,
        "hash": key.secret_hash,
        "created": key.created_at_ms,
    }


def _restored(kept: Mapping[str, Any]) -> ApiKey:
    return ApiKey(kept["id"], kept["tenant"], ALL_SCOPES, kept["hash"], kept["created"])
