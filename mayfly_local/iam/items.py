"""The items that a request to DynamoDB writes or reads, one by one."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Protocol

from mayfly_local.iam.requests import TRANSACTED, UNREADABLE, table_name

__all__ = ["WRITES", "Item", "ItemAction", "NoTables", "Tables", "item_actions"]

#: Actions that write an item, or check it in a transaction, as policies name them. Only they, and
#: reads in transactions, can meet a transaction.
WRITES: Final = (
    "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate", "dynamodb:PartiQLDelete",
)  # fmt: skip
#: Operations on one item, each with the argument that has the item's key.
_PLAIN: Final = {"PutItem": "Item", "UpdateItem": "Key", "DeleteItem": "Key"}
#: Operations on several items by statements, each with the argument that has these.
_STATEMENTS: Final = {
    "BatchExecuteStatement": "Statements",
    "ExecuteTransaction": "TransactStatements",
}

#: The name of a table, and a key as text.
Item = tuple[str, str]


class Tables(Protocol):
    """The emulator's tables."""

    def key_names(self, table: str) -> Sequence[str]:
        """Returns the names of a table's key attributes; none if there is no such table."""

    def of_statement(
        self, statement: str, parameters: Sequence[Any]
    ) -> tuple[str, str, Mapping[str, Any]] | None:
        """Returns the verb (`UPDATE`), the table and the key attributes of a PartiQL statement.

        Returns None if it cannot be parsed.
        """

    def is_committed(self, token: str) -> bool:
        """Returns whether a transaction with this token was committed in the last ten minutes."""


class NoTables:
    """The tables of an emulator without any."""

    def key_names(self, table: str) -> Sequence[str]:
        """Returns nothing."""
        return ()

    def of_statement(
        self, statement: str, parameters: Sequence[Any]
    ) -> tuple[str, str, Mapping[str, Any]] | None:
        """Returns None."""
        return None

    def is_committed(self, token: str) -> bool:
        """Returns False."""
        return False


@dataclass(frozen=True)
class ItemAction:
    """An action of a request on one item, as policies name it.

    `item` is None if the request does not name one as it should. The emulator refuses it then.
    """

    action: str
    item: Item | None


def item_actions(operation: str, arguments: Mapping[str, Any], tables: Tables) -> list[ItemAction]:
    """Returns the actions of a request on items, in its order.

    Returns nothing for reads outside of transactions, which never meet one, and for malformed
    requests.
    """
    try:
        return list(_read(operation, arguments, tables))
    except UNREADABLE:
        return []


def _read(operation: str, arguments: Mapping[str, Any], tables: Tables) -> Iterator[ItemAction]:
    if operation in _PLAIN:
        key = arguments.get(_PLAIN[operation])
        yield ItemAction(f"dynamodb:{operation}", _item(arguments.get("TableName"), key, tables))
    elif operation in ("TransactWriteItems", "TransactGetItems"):
        for entry in arguments.get("TransactItems", ()):
            yield from _of_transaction(entry, tables)
    elif operation == "BatchWriteItem":
        for table, entries in arguments.get("RequestItems", {}).items():
            yield from (_of_batch(table, entry, tables) for entry in entries)
    elif operation == "ExecuteStatement":
        yield _of_statement(arguments, tables)
    elif operation in _STATEMENTS:
        for entry in arguments.get(_STATEMENTS[operation], ()):
            yield _of_statement(entry, tables)


def _of_transaction(entry: Mapping[str, Any], tables: Tables) -> Iterator[ItemAction]:
    for kind, one in entry.items():
        key = one.get("Item" if kind == "Put" else "Key")
        item = _item(one.get("TableName"), key, tables)
        yield ItemAction(f"dynamodb:{TRANSACTED.get(kind, kind)}", item)


def _of_batch(table: str, entry: Mapping[str, Any], tables: Tables) -> ItemAction:
    put, delete = entry.get("PutRequest", {}), entry.get("DeleteRequest", {})
    key = put.get("Item") or delete.get("Key")
    return ItemAction("dynamodb:BatchWriteItem", _item(table, key, tables))


def _of_statement(entry: Mapping[str, Any], tables: Tables) -> ItemAction:
    parsed = tables.of_statement(entry.get("Statement", ""), entry.get("Parameters") or ())
    if parsed is None:
        return ItemAction("dynamodb:PartiQLUnknown", None)
    verb, table, key = parsed
    return ItemAction(f"dynamodb:PartiQL{verb.title()}", _item(table, key, tables))


def _item(table: Any, attributes: Any, tables: Tables) -> Item | None:
    """Returns the item that a request names by attributes, among which is its key."""
    names = tables.key_names(table_name(table))
    if not names or any(name not in attributes for name in names):
        return None
    key = {name: _plain(attributes[name]) for name in sorted(names)}
    return table_name(table), json.dumps(key, sort_keys=True)


def _plain(value: Any) -> Any:
    """Returns a value of a key in one form: `1.0` and `1` are the same number."""
    try:
        return {"N": str(Decimal(value["N"]).normalize())} if "N" in value else value
    except InvalidOperation:
        return value
