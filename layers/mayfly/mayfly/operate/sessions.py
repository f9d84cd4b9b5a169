"""`mayfly sessions`: look at a subject's sessions, and end one or all of them."""

import argparse
from typing import Any

from mayfly import sessions
from mayfly.core.errors import MayflyError
from mayfly.operate.stack import Stack, name, show, target, tenant_option
from mayfly.sessions.wire import public

__all__ = ["add_parser"]

_COLUMNS = ("id", "version", "created_at", "idle_expires_at", "absolute_expires_at")
_PAGE = 100


def add_parser(features: Any) -> None:
    """Adds the commands."""
    common = [target(), tenant_option(), _subject()]
    verbs = features.add_parser("sessions", help="sessions of a subject: list, end").add_subparsers(
        required=True, metavar="VERB"
    )
    listing = verbs.add_parser(
        "list", parents=common, help="those that are alive; --json shows their data, too"
    )
    listing.set_defaults(run=_list)
    ending = verbs.add_parser(
        "end",
        parents=common,
        help="end sessions, at once",
        description="Ends sessions: their tokens open nothing.",
    )
    ending.add_argument("id", nargs="*", help="which")
    ending.add_argument("--all", action="store_true", help="every session of the subject")
    ending.set_defaults(run=_end)


def _subject() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--subject", required=True, type=name, help="whose sessions")
    return parser


def _list(options: argparse.Namespace) -> int:
    store = Stack(options).sessions()
    rows: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = sessions.list_by_subject(
            store, tenant=options.tenant, subject=options.subject, limit=_PAGE, after=after
        )
        rows += [public(each) for each in page.sessions]
        after = page.next
        if after is None:
            break
    show(
        rows,
        _COLUMNS,
        as_json=options.json,
        none=f"{options.subject} has no session of tenant {options.tenant}",
    )
    return 0


def _end(options: argparse.Namespace) -> int:
    if options.all == bool(options.id):
        raise _Misused
    store = Stack(options).sessions()
    if options.all:
        sessions.end_all(store, tenant=options.tenant, subject=options.subject)
    for session_id in options.id:
        sessions.end_one(
            store, tenant=options.tenant, subject=options.subject, session_id=session_id
        )
    return 0


class _Misused(MayflyError):
    """Neither ids nor the flag were given, or both."""

    def __init__(self) -> None:
        super().__init__("give the ids of sessions, or --all")
