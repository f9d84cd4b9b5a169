"""The work that waits in the emulator, now and later: `mayfly_local.advance` steps by it."""

from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["of_queue"]


def of_queue(queue: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Returns what waits in a queue.

    `visible` is the number of messages that can be received. `held` are the receipts of those that
    were received and are not deleted. `next` is the time at which the next message becomes visible,
    None if there is none.
    """
    later = [message for message in queue["messages"] if message["visible_at"] > now]
    held = [message for message in later if message.get("receive_count")]
    # In a FIFO queue, a message waits for those of its group that were received before.
    closed: Collection[Any] = {message["group_id"] for message in held} if queue["is_fifo"] else ()
    return {
        "visible": sum(
            message["visible_at"] <= now and message.get("group_id") not in closed
            for message in queue["messages"]
        ),
        "held": [message["receipt_handle"] for message in held],
        "next": min((message["visible_at"] for message in later), default=None),
    }
