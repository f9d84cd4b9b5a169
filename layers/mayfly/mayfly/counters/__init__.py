"""Counters in DynamoDB: exact, and shared by all processes."""

from mayfly.counters.model import Count, Step
from mayfly.counters.rules import MAX_SHARDS, MAX_STEP
from mayfly.counters.service import create_sharded, delete, increment, read, read_many
from mayfly.counters.store import CounterStore

__all__ = [
    "MAX_SHARDS",
    "MAX_STEP",
    "Count",
    "CounterStore",
    "Step",
    "create_sharded",
    "delete",
    "increment",
    "read",
    "read_many",
]
