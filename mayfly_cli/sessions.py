"""`mayfly sessions`: list a subject's sessions, and end one or all of them."""

from typing import Any

import click
from mayfly import sessions as service
from mayfly.sessions.wire import public

from mayfly_cli.options import NAME_TYPE, tenant
from mayfly_cli.output import show
from mayfly_cli.target import Target, target
from mayfly_local.errors import LocalError

__all__ = ["sessions"]

_COLUMNS = ("id", "version", "created_at", "idle_expires_at", "absolute_expires_at")
_PAGE = 100

_subject = click.option("--subject", type=NAME_TYPE, required=True, help="The subject.")


@click.group()
def sessions() -> None:
    """Lists and ends the sessions of a subject."""


@sessions.command("list")
@target
@tenant
@_subject
def list_(*, target: Target, tenant: str, subject: str, as_json: bool) -> None:
    """Lists live sessions; --json shows their data, too."""
    store = target.sessions()
    rows: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = service.list_by_subject(
            store, tenant=tenant, subject=subject, limit=_PAGE, after=after
        )
        rows += [public(session) for session in page.sessions]
        after = page.next
        if after is None:
            break
    none = f"{subject} has no session of tenant {tenant}"
    show(rows, _COLUMNS, as_json=as_json, none=none)


@sessions.command()
@target
@tenant
@_subject
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Every session of the subject.")
def end(
    *,
    target: Target,
    tenant: str,
    subject: str,
    ids: tuple[str, ...],
    is_all: bool,
    as_json: bool,
) -> None:
    """Ends sessions immediately: their tokens are dead."""
    if is_all == bool(ids):
        raise LocalError("give the ids of sessions, or --all")
    store = target.sessions()
    if is_all:
        service.end_all(store, tenant=tenant, subject=subject)
    for session_id in ids:
        service.end_one(store, tenant=tenant, subject=subject, session_id=session_id)
