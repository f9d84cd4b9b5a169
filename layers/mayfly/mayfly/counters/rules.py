"""Where a counter lives, and which numbers it takes."""

from typing import Final

from mayfly.ids import key

__all__ = ["MAX_STEP", "SHARD", "partition"]

#: The largest step of one increment. DynamoDB numbers are exact to 38 digits; a step of 30 leaves room for 10^8 of them.
MAX_STEP: Final = 10**30
#: Sort key of the item that holds the value of an unsharded counter.
SHARD: Final = key("shard", "0")


def partition(tenant: str, name: str) -> str:
    """The partition key of a counter."""
    return key(tenant, name)
