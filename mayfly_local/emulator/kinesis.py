"""Streams of Kinesis in the emulator: their records are in memory, and their settings are stored.

A journal has no rows for these records, so they end with the emulator's process.
"""

import copy
import time
from collections.abc import Callable
from typing import Any, Final

from ministack.services import kinesis

__all__ = ["hook_kinesis", "settings_of_kinesis"]

#: Seconds between two searches for iterators that have expired.
_PRUNE_SECONDS: Final = 60.0


def hook_kinesis() -> None:
    """Makes ministack forget iterators that have expired: each read makes another one."""
    kinesis._get_records = _pruning(kinesis._get_records)


def settings_of_kinesis() -> dict[str, Any]:
    """Returns ministack's state of Kinesis without records and iterators."""
    streams = kinesis.AccountRegionScopedDict()
    for scope, stream in kinesis._streams.all_items():
        shards = {name: {**shard, "records": []} for name, shard in stream["shards"].items()}
        streams.set_scoped(*scope, {**stream, "shards": shards})
    return {
        "streams": streams,
        "consumers": copy.deepcopy(kinesis._consumers),
        "resource_policies": copy.deepcopy(kinesis._resource_policies),
    }


def _pruning(get: Callable[[Any], Any]) -> Callable[[Any], Any]:
    pruned_at = time.monotonic()

    def got(data: Any) -> Any:
        nonlocal pruned_at
        if time.monotonic() - pruned_at > _PRUNE_SECONDS:
            pruned_at = time.monotonic()
            before = time.time() - kinesis.ITERATOR_EXPIRY_SECONDS
            for scope, iterator in list(kinesis._shard_iterators.all_items()):
                if iterator["created_at"] < before:
                    kinesis._shard_iterators.pop_scoped(*scope)
        return get(data)

    return got
