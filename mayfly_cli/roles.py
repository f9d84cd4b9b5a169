"""`mayfly roles`: what roles allow, and what was used of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import click

from mayfly_cli.options import as_json, work
from mayfly_local.emulator.handover import shown
from mayfly_local.errors import LocalError
from mayfly_local.stack_file import StackFile

__all__ = ["roles"]


@click.command()
@click.option("--unused", is_flag=True, help="Only permissions that were never used.")
@click.option(
    "--check",
    is_flag=True,
    help="Exit with 1 unless everything was used and nothing refused.",
)
@as_json
@work
def roles(*, unused: bool, check: bool, as_json: bool, work: Path) -> int:
    """Prints what the role of each function of the running stack allows.

    Next to it stands how often each permission was used since the start, and what was refused.
    """
    stack = StackFile.read(work)
    report = _report(stack)
    grants = shown(report, stack.resources)
    rows = [row for row in grants if not (unused and row["used"])]
    if as_json:
        facts = {"grants": rows, "refused": report["refused"], "unchecked": report["unchecked"]}
        click.echo(json.dumps(facts))
    else:
        _print(rows, report, grants)
    is_clean = (
        not report["refused"] and not report["unchecked"] and all(row["used"] for row in grants)
    )
    return int(check and not is_clean)


def _report(stack: StackFile) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {stack.people.id}"}
    request = Request(f"{stack.endpoint}/_mayfly/roles", headers=headers)  # noqa: S310 - loopback
    try:
        with urlopen(request, timeout=10) as reply:  # noqa: S310
            report: dict[str, Any] = json.load(reply)
    except (URLError, ValueError):
        raise LocalError(
            f"the endpoint {stack.endpoint} has no guard: roles are checked in the embedded "
            "emulator only"
        ) from None
    return report


def _print(
    rows: Sequence[Mapping[str, Any]], report: Mapping[str, Any], grants: Sequence[Any]
) -> None:
    width, middle = (
        max([len(row[name]) for row in rows], default=0) for name in ("function", "action")
    )
    for row in rows:
        click.echo(
            f"{row['function']:<{width}}  {row['action']:<{middle}}  "
            f"{row['used'] or 'unused':>8}  {row['resource']}"
        )
    for call in report["refused"]:
        click.echo(
            f"refused {call['times']}x: {call['function']} {call['action']} on {call['resource']}"
        )
    for function in report["unchecked"]:
        click.echo(f"not checked: {function}, whose role is not here, or only in part")
    unused = sum(not row["used"] for row in grants)
    click.echo(
        f"{len(grants)} permissions, {unused} unused, {len(report['refused'])} refused", err=True
    )
