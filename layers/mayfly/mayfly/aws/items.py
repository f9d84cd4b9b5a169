"""Items in DynamoDB's JSON, and the attributes that not every item has."""

import base64
from collections.abc import Mapping
from typing import Any

__all__ = ["Item", "binary", "optional_number", "optional_text"]

#: An item or a key in DynamoDB's JSON.
Item = dict[str, Any]


def binary(item: Mapping[str, Any], name: str) -> bytes:
    """Returns an attribute that is binary, also from the base64 in which it was sent.

    boto3 decodes an answer by its model of DynamoDB. The lean client has none.
    """
    value = item[name]["B"]
    return base64.b64decode(value) if isinstance(value, str) else bytes(value)


def optional_number(item: Mapping[str, Any], name: str) -> int | None:
    """Returns an attribute that is a whole number, None if the item does not have it."""
    return int(item[name]["N"]) if name in item else None


def optional_text(item: Mapping[str, Any], name: str) -> str | None:
    """Returns an attribute that is a text, None if the item does not have it."""
    return item[name]["S"] if name in item else None
