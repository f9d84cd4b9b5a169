"""Counts calls of this process's AWS clients, and the capacity units that they consume."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import boto3
import botocore.loaders
import botocore.session

__all__ = ["Cost", "metered"]

#: Operations whose reply can contain its capacity.
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
        """Resets the counts."""
        self.calls.clear()
        self.read_units = self.write_units = 0


@cache
def _loader() -> botocore.loaders.Loader:
    """Returns the loader of all sessions: a loader keeps the service models that it has read."""
    return botocore.loaders.create_loader()


@contextmanager
def metered() -> Iterator[Cost]:
    """Counts for all clients that boto3's default session creates within the block."""
    cost = Cost()
    core = botocore.session.get_session()
    core.register_component("data_loader", _loader())
    session = boto3.Session(botocore_session=core)

    def ask(params: dict[str, Any], **_: Any) -> None:
        params["ReturnConsumedCapacity"] = "TOTAL"

    # The emulator does not report read units. A consistent read costs a unit for each 4 KB: of an
    # item, or of all that a query reads.
    def model_batch(params: dict[str, Any], **_: Any) -> None:
        cost.read_units += sum(len(request["Keys"]) for request in params["RequestItems"].values())

    def model_one(params: dict[str, Any], **_: Any) -> None:
        cost.read_units += 1

    def count(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        cost.calls[model.name] += 1
        # A write whose condition fails costs the same. The emulator does not report it.
        cost.write_units += parsed.get("Error", {}).get("Code") == "ConditionalCheckFailedException"
        capacity = parsed.get("ConsumedCapacity", [])
        units = sum(
            entry["CapacityUnits"]
            for entry in (capacity if isinstance(capacity, list) else [capacity])
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
