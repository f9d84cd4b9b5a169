"""Tables of the emulator: their keys, the items of PartiQL statements, and committed tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from ministack.services import dynamodb

from mayfly_local.account import ACCOUNT, REGION

__all__ = ["EmulatorTables"]

for _name in ("_tables", "_parse_partiql", "_txn_token_lookup"):
    getattr(dynamodb, _name)  # A missing name ends the start.


class EmulatorTables:
    """The tables as the emulator has them at the moment of a call."""

    def key_names(self, table: str) -> Sequence[str]:
        """Returns the names of a table's key attributes; none if there is no such table."""
        found = dynamodb._tables.get_scoped(ACCOUNT, REGION, table)
        names = () if found is None else (found["pk_name"], found["sk_name"])
        return [name for name in names if name]

    def of_statement(
        self, statement: str, parameters: Sequence[Any]
    ) -> tuple[str, str, Mapping[str, Any]] | None:
        """Returns the verb (`UPDATE`), the table and the key attributes of a PartiQL statement.

        Returns None if it cannot be parsed. The key of an INSERT is among all its attributes, and
        that of another statement among the attributes that its WHERE compares.
        """
        try:
            parsed = dynamodb._parse_partiql(statement, list(parameters))
        except ValueError:
            return None
        if parsed["op"] == "INSERT":
            item = parsed.get("item") or {}
            return (
                "INSERT",
                str(parsed["table"]),
                item.get("M", item) if set(item) == {"M"} else item,
            )
        named = parsed["select"] if parsed["op"] == "EXISTS" else parsed
        conditions = named.get("conditions") or ()
        key = {name: value for name, comparison, value in conditions if comparison == "="}
        return str(parsed["op"]), str(named["table"]), key

    def is_committed(self, token: str) -> bool:
        """Returns whether a transaction with this token was committed in the last ten minutes."""
        return dynamodb._txn_token_lookup(token) is not None
