"""The partitions of the index `due`: jobs for later, and active schedules.

A value of its partition key takes a thousand writes a second, so jobs and schedules are spread over
shards:

::

    jobs, by their time            due        due/0 ... due/7
    schedules, by their next tick  schedules  schedules/0 ... schedules/7
                                   |          |
                                   |          written if DUE_SHARDS is 2 to 8
                                   written if it is 1, and by releases up to 0.3.0

Readers read all of them, whatever the setting is. So it may be changed at any time.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["SHARDS", "Due", "partition", "partitions"]

#: The most shards of a kind. Eight take 8,000 writes a second, which is more than a sweep makes.
#: Each costs every sweep a read of half a unit, also if it is empty. Once a release has written to
#: a shard, no later one may read less of them.
SHARDS: Final = 8


@dataclass(frozen=True)
class Due:
    """An item that the index has: its primary key, and its partition when it was read."""

    key: Mapping[str, Any]
    partition: str


def partition(kind: str, key: Mapping[str, Any], shards: int) -> str:
    """Returns the partition of the index for an item of a kind, by the item's primary key.

    With 1 shard it is that of the releases before shards. The same item is always in the same one
    of a number of shards.
    """
    if shards == 1:
        return kind
    name = f"{key['pk']['S']} {key['sk']['S']}"
    return f"{kind}/{zlib.crc32(name.encode()) % shards}"


def partitions(kind: str) -> list[str]:
    """Returns all partitions in which an item of a kind may be."""
    return [kind, *(f"{kind}/{shard}" for shard in range(SHARDS))]
