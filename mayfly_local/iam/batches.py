"""Batches of writes of which some meet a transaction. The others are written, as on AWS.

A batch of statements names the error of each (`BatchStatementError`). AWS's pages do not say what
an entry of BatchWriteItem gets, but the operation has no error for a conflict: such an entry is
left unprocessed here.
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchStatementError.html
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
"""

from collections.abc import Container, Iterable, Mapping
from typing import Any, Final

from mayfly_local.iam.responses import CONFLICT_MESSAGE

__all__ = ["BATCHES", "answer", "others"]

#: The operations, with the arguments that have their entries.
BATCHES: Final = {"BatchExecuteStatement": "Statements", "BatchWriteItem": "RequestItems"}


def others(
    operation: str, arguments: Mapping[str, Any], met: Container[int]
) -> dict[str, Any] | None:
    """Returns the request without the entries at the places `met`; None if nothing is left."""
    name = BATCHES[operation]
    if operation == "BatchExecuteStatement":
        left: Any = [entry for place, entry in enumerate(arguments[name]) if place not in met]
    else:
        left = _by_table(pair for place, pair in enumerate(_writes(arguments)) if place not in met)
    return {**arguments, name: left} if left else None


def answer(
    operation: str, arguments: Mapping[str, Any], met: Container[int], reply: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the answer to the whole request; `reply` is the answer to its other entries."""
    if operation == "BatchExecuteStatement":
        replies = iter(reply.get("Responses", ()))
        error = {"Error": {"Code": "TransactionConflict", "Message": CONFLICT_MESSAGE}}
        places = range(len(arguments["Statements"]))
        responses = [error if place in met else next(replies) for place in places]
        return {**reply, "Responses": responses}
    left = [pair for place, pair in enumerate(_writes(arguments)) if place in met]
    left += _writes({"RequestItems": reply.get("UnprocessedItems", {})})
    return {**reply, "UnprocessedItems": _by_table(left)}


def _writes(arguments: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns the entries of a BatchWriteItem in their order, each with its table."""
    return [
        (table, entry) for table, entries in arguments["RequestItems"].items() for entry in entries
    ]


def _by_table(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    tables: dict[str, list[Any]] = {}
    for table, entry in pairs:
        tables.setdefault(table, []).append(entry)
    return tables
