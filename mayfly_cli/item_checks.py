"""Checks of items: the formats that they carry, against those that the installed library reads."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError
from mayfly import __version__
from mayfly.aws.items import FORMAT, FORMATS, format_of

from mayfly_cli.findings import Finding, note, problem, unchecked

__all__ = ["item_checks"]

#: Kinds of items with a format, by their table, key attribute and the beginning of its value.
_PLACES: Final = {
    "job": ("JobsTable", "sk", "job"),
    "schedule": ("JobsTable", "sk", "schedule/"),
    "session": ("SessionsTable", "sk", "session/"),
    "API key": ("TenantsTable", "pk", "key/"),
}
_PAGE: Final = 1000


def item_checks(client: Any, tables: Mapping[str, str], most: int | None) -> Iterator[Finding]:
    """Reads up to `most` items of each table, None for all, and checks their formats.

    `tables` are names by logical ids. Costs half a read unit for each 4 KB of items that are read.
    """
    for table, name in tables.items():
        kinds = {kind: place[1:] for kind, place in _PLACES.items() if place[0] == table}
        if not kinds:
            continue
        counts: Counter[tuple[str, int, bool]] = Counter()
        read = 0
        try:
            for item in _items(client, name, most):
                read += 1
                for kind, (attribute, beginning) in kinds.items():
                    if item.get(attribute, {}).get("S", "").startswith(beginning):
                        counts[kind, _format(item), FORMAT in item] += 1
        except ClientError as failure:
            code = failure.response.get("Error", {}).get("Code")
            yield unchecked("items", table, f"Scan was refused ({code})")
            continue
        yield from _findings(table, counts)
        if most is not None and read >= most:
            yield unchecked(
                "items", table, f"only the first {most} items were read; --items N reads more"
            )


def _findings(table: str, counts: Mapping[tuple[str, int, bool], int]) -> Iterator[Finding]:
    for kind in sorted({kind for kind, _, _ in counts}):
        newer = {
            number: count
            for (of, number, _), count in counts.items()
            if of == kind and number > FORMATS[kind]
        }
        for number, count in sorted(newer.items()):
            yield problem(
                "items",
                table,
                f"{_number(count, kind)} of format {number}, and mayfly {__version__} reads "
                f"formats up to {FORMATS[kind]}",
                "deploy the later release again; until then these items are left as they are",
            )
        without = sum(
            count for (of, _, has_one), count in counts.items() if of == kind and not has_one
        )
        every = sum(count for (of, _, _), count in counts.items() if of == kind)
        if every > sum(newer.values()):
            text = f"{_number(every - sum(newer.values()), kind)} of formats up to {FORMATS[kind]}"
            if without:
                text += f", {without} of them without a number, by releases up to 0.3.0"
            yield note("items", table, text)


def _items(client: Any, table: str, most: int | None) -> Iterator[dict[str, Any]]:
    """Yields the keys and formats of up to `most` items."""
    names = {"#pk": "pk", "#sk": "sk", "#format": FORMAT}
    left, start = most, dict[str, Any]()
    while left is None or left > 0:
        reply = client.scan(
            TableName=table,
            ProjectionExpression=", ".join(names),
            ExpressionAttributeNames=names,
            Limit=_PAGE if left is None else min(left, _PAGE),
            **start,
        )
        yield from reply["Items"]
        if "LastEvaluatedKey" not in reply:
            return
        start = {"ExclusiveStartKey": reply["LastEvaluatedKey"]}
        left = None if left is None else left - len(reply["Items"])


def _format(item: Mapping[str, Any]) -> int:
    try:
        return format_of(item)
    except (KeyError, TypeError, ValueError):
        return 0  # Something else than a number: no release writes it.


def _number(count: int, kind: str) -> str:
    return f"{count} {kind}{'' if count == 1 else 's'}"
