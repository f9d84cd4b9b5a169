"""`mayfly counters`: read counters, add to them, make sharded ones, delete them."""

from collections.abc import Sequence

import click
from mayfly import counters as service
from mayfly.counters import MAX_SHARDS, Count

from mayfly_cli.options import NAME_TYPE, tenant
from mayfly_cli.output import show
from mayfly_cli.target import Target, target

__all__ = ["counters"]


@click.group()
def counters() -> None:
    """Shows, adds to, makes and deletes counters."""


@counters.command("show")
@target
@tenant
@click.argument("names", metavar="NAME...", type=NAME_TYPE, nargs=-1, required=True)
def show_(*, target: Target, tenant: str, names: tuple[str, ...], as_json: bool) -> None:
    """Shows the values of counters; 0 if a counter does not exist."""
    _print(service.read_many(target.counters(), tenant=tenant, names=list(names)), as_json=as_json)


# A negative number is an argument, not an option.
@counters.command(context_settings={"ignore_unknown_options": True})
@target
@tenant
@click.argument("name", type=NAME_TYPE)
@click.argument("by", type=int, default=1)
def add(*, target: Target, tenant: str, name: str, by: int, as_json: bool) -> None:
    """Adds BY to a counter, once; 1 by default, negative to subtract."""
    count = service.increment(target.counters(), tenant=tenant, name=name, by=by)
    _print([count], as_json=as_json)


@counters.command()
@target
@tenant
@click.argument("name", type=NAME_TYPE)
@click.option(
    "--shards",
    type=click.IntRange(2, MAX_SHARDS),
    required=True,
    metavar="N",
    help=f"From 2 to {MAX_SHARDS}.",
)
def create(
    *,
    target: Target,
    tenant: str,
    name: str,
    shards: int,
    as_json: bool,
) -> None:
    """Makes a sharded counter, for many writes a second (docs/counters-and-limits.md)."""
    service.create_sharded(target.counters(), tenant=tenant, name=name, shards=shards)


@counters.command()
@target
@tenant
@click.argument("names", metavar="NAME...", type=NAME_TYPE, nargs=-1, required=True)
def delete(
    *,
    target: Target,
    tenant: str,
    names: tuple[str, ...],
    as_json: bool,
) -> None:
    """Deletes counters; they count from 0 afterwards."""
    store = target.counters()
    for name in names:
        service.delete(store, tenant=tenant, name=name)


def _print(counts: Sequence[Count], *, as_json: bool) -> None:
    show([vars(count) for count in counts], ("name", "value"), as_json=as_json, none="none")
