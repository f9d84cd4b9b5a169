"""Items in DynamoDB's JSON, their formats, and the attributes that not every item has.

The format of an item is a number that grows when earlier releases could not read the item. Each
kind of item counts its own. A release that begins to write a format reads it already, and so does
the release before, since both may run side by side (docs/upgrade.md).
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

from mayfly.aws.errors import NewerFormat

__all__ = [
    "FORMAT",
    "FORMATS",
    "UNREADABLE",
    "Item",
    "binary",
    "check_format",
    "format_of",
    "optional_number",
    "optional_text",
    "stamp",
]

#: The attribute with the format of an item. The name is short, since each write pays for it.
FORMAT: Final = "v"
#: The newest format of each kind of item that this release reads, which is the one that it writes.
FORMATS: Final[Mapping[str, int]] = {"job": 1, "schedule": 1, "session": 1, "API key": 1}

#: Errors of reading an item that does not have the form that its reader expects.
UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError, RecursionError)

#: An item or a key in DynamoDB's JSON.
Item = dict[str, Any]


def binary(item: Mapping[str, Any], name: str) -> bytes:
    """Returns an attribute that is binary, also from the base64 in which it was sent.

    boto3 decodes an answer by its model of DynamoDB. The lean client has none.
    """
    value = item[name]["B"]
    return base64.b64decode(value) if isinstance(value, str) else bytes(value)


def stamp(kind: str) -> Item:
    """Returns the attribute with the format of a new item of a kind: 3 bytes."""
    return {FORMAT: {"N": str(FORMATS[kind])}}


def format_of(item: Mapping[str, Any]) -> int:
    """Returns the format of an item. It is 1 if the item has none, as up to release 0.3.0."""
    return int(item[FORMAT]["N"]) if FORMAT in item else 1


def check_format(kind: str, item: Mapping[str, Any]) -> None:
    """Raises NewerFormat if an item has a later format than this release reads."""
    if format_of(item) > FORMATS[kind]:
        raise NewerFormat(kind, format_of(item), FORMATS[kind])


def optional_number(item: Mapping[str, Any], name: str) -> int | None:
    """Returns an attribute that is a whole number, None if the item does not have it."""
    return int(item[name]["N"]) if name in item else None


def optional_text(item: Mapping[str, Any], name: str) -> str | None:
    """Returns an attribute that is a text, None if the item does not have it."""
    return item[name]["S"] if name in item else None
