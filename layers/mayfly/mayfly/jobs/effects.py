"""The unit of work of one job: what it will have changed, if it succeeds.

A task describes its effects and writes nothing. They are applied with the job's completion in one transaction, which only
the job's current owner can make (`JobStore.commit`).
"""

from dataclasses import dataclass
from typing import Any, Final

from mayfly.counters.rules import MAX_STEP, SHARD, partition
from mayfly.errors import InvalidRequest, TooManyEffects
from mayfly.fields import NAME

__all__ = ["EFFECT_LIMIT", "Effect", "Effects"]

#: Items of one transaction, less the job's own.
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
EFFECT_LIMIT: Final = 99


@dataclass(frozen=True)
class Effect:
    """One write of the transaction, with the name that an error gives it."""

    name: str
    write: dict[str, Any]


class Effects:
    """Collects the effects of one attempt. Increments of one counter add up to one write."""

    def __init__(self, tenant: str, *, counters_table: str) -> None:
        self._tenant = tenant
        self._counters_table = counters_table
        self._increments: dict[str, int] = {}

    def increment(self, counter: str, by: int = 1) -> None:
        """Adds `by` to a counter of the job's tenant. Raises InvalidRequest for a name or a step that no counter takes."""
        if not NAME.fullmatch(counter):
            raise InvalidRequest("counter", f"must match {NAME.pattern}")
        if not -MAX_STEP <= by <= MAX_STEP:
            raise InvalidRequest("by", f"must be from -{MAX_STEP} to {MAX_STEP}")
        self._increments[counter] = self._increments.get(counter, 0) + by

    def collected(self) -> list[Effect]:
        """The writes to make. Raises TooManyEffects when they do not fit into one transaction."""
        if len(self._increments) > EFFECT_LIMIT:
            raise TooManyEffects(len(self._increments), EFFECT_LIMIT)
        return [Effect(f"increment {name!r}", self._increment(name, by)) for name, by in self._increments.items()]

    def _increment(self, name: str, by: int) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": self._counters_table,
                "Key": {"pk": {"S": partition(self._tenant, name)}, "sk": {"S": SHARD}},
                "UpdateExpression": "ADD #value :by",
                "ExpressionAttributeNames": {"#value": "value"},
                "ExpressionAttributeValues": {":by": {"N": str(by)}},
            }
        }
