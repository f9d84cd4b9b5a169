"""Items in DynamoDB's JSON, and the attributes that not every item has."""

from collections.abc import Mapping
from typing import Any

__all__ = ["Item", "optional_number", "optional_text"]

#: An item or a key in DynamoDB's JSON.
Item = dict[str, Any]


def optional_number(item: Mapping[str, Any], name: str) -> int | None:
    """Returns an attribute that is a whole number, None if the item does not have it."""
    return int(item[name]["N"]) if name in item else None


def optional_text(item: Mapping[str, Any], name: str) -> str | None:
    """Returns an attribute that is a text, None if the item does not have it."""
    return item[name]["S"] if name in item else None
