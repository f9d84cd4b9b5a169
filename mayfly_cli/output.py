"""Rows on the terminal."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

__all__ = ["show"]


def show(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, none: str
) -> None:
    """Prints rows as JSON, one a line, or in aligned columns; `none` if there are no rows."""
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    if not rows:
        click.echo(none, err=True)
        return
    texts = [
        [str(row.get(column) if row.get(column) is not None else "-") for column in columns]
        for row in rows
    ]
    widths = [
        max(len(column), *(len(text[index]) for text in texts))
        for index, column in enumerate(columns)
    ]
    for text in [list(columns), *texts]:
        cells = (part.ljust(width) for part, width in zip(text, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
