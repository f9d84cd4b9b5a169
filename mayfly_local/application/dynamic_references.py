"""Dynamic references: `{{resolve:ssm:NAME}}` and `{{resolve:secretsmanager:ID:SecretString:KEY}}`.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["DynamicReference", "dynamic_references"]

_REFERENCE: Final = re.compile(r"\{\{resolve:(ssm|ssm-secure|secretsmanager):([^{}]+)\}\}")


@dataclass(frozen=True)
class DynamicReference:
    """A reference with its text, its service, and the name or ARN of a parameter or a secret.

    `key` is the key in the JSON of a secret, or empty.
    """

    text: str
    service: str
    name: str
    key: str = ""

    @property
    def option(self) -> str:
        """The name under which `--parameter` gives its value."""
        return self.text.strip("{}")

    @property
    def placeholder(self) -> str:
        """A value in place of the missing one: the last word of the reference."""
        if "/ami" in self.name:
            return "ami-0abcdef1234567890"
        return self.key or self.name.rpartition("/")[2] or self.name

    def value_in(self, secret: str) -> str | None:
        """Returns the value in the text of a parameter or a secret, None if it has no such key."""
        if not self.key:
            return secret
        try:
            value = json.loads(secret)[self.key]
        except (ValueError, KeyError, TypeError):
            return None
        return value if isinstance(value, str) else json.dumps(value)


def dynamic_references(value: Any) -> list[DynamicReference]:
    """Returns every dynamic reference in the texts of a value, once."""
    found: dict[str, DynamicReference] = {}
    if isinstance(value, str):
        for match in _REFERENCE.finditer(value):
            found[match[0]] = _parsed(*match.group(0, 1, 2))
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            found |= {reference.text: reference for reference in dynamic_references(member)}
    return list(found.values())


def _parsed(text: str, service: str, rest: str) -> DynamicReference:
    if service != "secretsmanager":
        return DynamicReference(text, service, re.sub(r":\d+$", "", rest))
    # An ARN has six colons of its own.
    parts = rest.split(":")
    own = 7 if rest.startswith("arn:") else 1
    name, more = ":".join(parts[:own]), parts[own:]
    return DynamicReference(text, service, name, more[1] if len(more) > 1 else "")
