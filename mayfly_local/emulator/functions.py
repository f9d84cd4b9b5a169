"""The functions of the stack, as the emulator's process knows them: by all their names."""

from collections.abc import Mapping
from typing import Any

from mayfly_local.iam.function_names import FunctionName

__all__ = ["Functions"]


class Functions:
    """The functions that the runtime has handed over.

    Each has its `name`, `arn`, `runtime`, `handler`, `timeout`, `memory` and `qualifiers`: the
    aliases and versions of the template. They all run the one code that there is.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}
        self._by_name: dict[str, str] = {}
        self._is_set = False

    def set(self, functions: Mapping[str, dict[str, Any]]) -> None:
        """Sets all functions, by logical id."""
        self._known, self._is_set = dict(functions), True
        self._by_name = {
            name: logical_id
            for logical_id, facts in functions.items()
            for name in (logical_id, facts["name"])
        }

    def find(self, reference: str, qualifier: str = "") -> str | None:
        """Returns the logical id of a function, or None if the stack does not have it.

        `reference` is a name, an ARN or a partial ARN, each perhaps with a version or an alias.
        After a restart of the emulator, a message may come before the functions are known. Then it
        returns the name in the reference, and the runtime finds the function by it.
        """
        name = FunctionName.parse(reference, qualifier)
        if name is not None and not self._is_set:
            return name.name
        if name is None or (logical_id := self._by_name.get(name.name)) is None:
            return None
        known = ("", "$LATEST", *self._known[logical_id]["qualifiers"])
        return logical_id if name.qualifier in known else None

    def facts(self, logical_id: str) -> dict[str, Any] | None:
        """Returns what is known about a function, or None while nothing is."""
        return self._known.get(logical_id)

    def all(self) -> list[dict[str, Any]]:
        """Returns what is known about all functions."""
        return list(self._known.values())
