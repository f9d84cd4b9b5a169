"""Counts what AWS clients of this process do: calls, and the capacity units that the store says
they cost.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import boto3

__all__ = ["Cost", "metered"]

#: Operations whose reply can name its capacity.
_METERED: Final = (
    "BatchExecuteStatement", "BatchGetItem", "DeleteItem", "GetItem", "PutItem", "Query",
    "TransactWriteItems", "UpdateItem",
)  # fmt: skip
_READS: Final = {"BatchGetItem", "GetItem", "Query"}


@dataclass
class Cost:
    """Calls by operation, and read and write units."""

    calls: Counter[str] = field(default_factory=Counter)
    read_units: float = 0
    write_units: float = 0

    def reset(self) -> None:
        """Forgets what was counted."""
        self.calls.clear()
        self.read_units = self.write_units = 0


@contextmanager
def metered() -> Iterator[Cost]:
    """Counts for all clients that are made within the block, by boto3's default session."""
    cost = Cost()
    session = boto3.Session()

    def ask(params: dict[str, Any], **_: Any) -> None:
        params["ReturnConsumedCapacity"] = "TOTAL"

    # The embedded store does not say. A consistent read costs a unit for each 4 KB: of an item, or
    # of all that a query reads.
    def model_batch(params: dict[str, Any], **_: Any) -> None:
        cost.read_units += sum(len(each["Keys"]) for each in params["RequestItems"].values())

    def model_one(params: dict[str, Any], **_: Any) -> None:
        cost.read_units += 1

    def count(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        cost.calls[model.name] += 1
        # A write that its condition refuses costs what it would have; the embedded store does not
        # say so.
        cost.write_units += parsed.get("Error", {}).get("Code") == "ConditionalCheckFailedException"
        found = parsed.get("ConsumedCapacity", [])
        units = sum(
            each["CapacityUnits"] for each in (found if isinstance(found, list) else [found])
        )
        if model.name not in _READS:
            cost.write_units += units

    for operation in _METERED:
        session.events.register(f"provide-client-params.dynamodb.{operation}", ask)
    session.events.register("provide-client-params.dynamodb.BatchGetItem", model_batch)
    session.events.register("provide-client-params.dynamodb.GetItem", model_one)
    session.events.register("provide-client-params.dynamodb.Query", model_one)
    session.events.register("after-call", count)
    before, boto3.DEFAULT_SESSION = boto3.DEFAULT_SESSION, session
    try:
        yield cost
    finally:
        boto3.DEFAULT_SESSION = before
