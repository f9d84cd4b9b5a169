"""`mayfly counters`: read counters, add to them, make sharded ones, delete them."""

import argparse
from typing import Any

from mayfly import counters
from mayfly.counters import MAX_SHARDS, Count
from mayfly.operate.stack import Stack, name, show, target, tenant_option

__all__ = ["add_parser"]


def add_parser(features: Any) -> None:
    """Adds the commands."""
    common = [target(), tenant_option()]
    verbs = features.add_parser(
        "counters", help="counters: show, add, create, delete"
    ).add_subparsers(required=True, metavar="VERB")
    showing = verbs.add_parser(
        "show", parents=common, help="the values of counters; 0 where there is none"
    )
    showing.add_argument("name", type=name, nargs="+")
    showing.set_defaults(run=_show)
    adding = verbs.add_parser("add", parents=common, help="add to a counter, once")
    adding.add_argument("name", type=name)
    adding.add_argument(
        "by",
        type=int,
        nargs="?",
        default=1,
        help="how much, negative to take away (default: %(default)s)",
    )
    adding.set_defaults(run=_add)
    making = verbs.add_parser(
        "create", parents=common, help="make a sharded counter, for more than 1,000 writes a second"
    )
    making.add_argument("name", type=name)
    making.add_argument(
        "--shards",
        type=int,
        choices=range(2, MAX_SHARDS + 1),
        required=True,
        metavar="N",
        help=f"2 to {MAX_SHARDS}",
    )
    making.set_defaults(run=_create)
    deleting = verbs.add_parser(
        "delete", parents=common, help="delete counters; they count as 0 from then on"
    )
    deleting.add_argument("name", type=name, nargs="+")
    deleting.set_defaults(run=_delete)


def _show(options: argparse.Namespace) -> int:
    _print(
        counters.read_many(Stack(options).counters(), tenant=options.tenant, names=options.name),
        options,
    )
    return 0


def _add(options: argparse.Namespace) -> int:
    _print(
        [
            counters.increment(
                Stack(options).counters(), tenant=options.tenant, name=options.name, by=options.by
            )
        ],
        options,
    )
    return 0


def _create(options: argparse.Namespace) -> int:
    counters.create_sharded(
        Stack(options).counters(), tenant=options.tenant, name=options.name, shards=options.shards
    )
    return 0


def _delete(options: argparse.Namespace) -> int:
    store = Stack(options).counters()
    for each in options.name:
        counters.delete(store, tenant=options.tenant, name=each)
    return 0


def _print(found: list[Count], options: argparse.Namespace) -> None:
    show([vars(count) for count in found], ("name", "value"), as_json=options.json, none="none")
