"""Deliveries of the emulator's services to queues, by SQS's own rules for a message that is sent.

So a FIFO queue numbers and deduplicates them, and a limit of size holds for them.
"""

import logging
from typing import Any, Final

from ministack.services import sqs

__all__ = ["queue_exists", "send_to_queue"]

_LOG: Final = logging.getLogger("mayfly.deliveries")


def queue_exists(arn: str) -> bool:
    """Returns whether a queue has this ARN."""
    return sqs._queue_by_arn(arn) is not None


def send_to_queue(
    arn: str,
    body: str,
    *,
    attributes: dict[str, Any] | None = None,
    group: str = "",
    deduplication: str = "",
) -> bool:
    """Sends a message to a queue that exists, and returns whether the queue took it.

    A standard queue ignores `deduplication`. A refusal is logged, as the sender on AWS would see
    it in a metric only.
    """
    queue = sqs._queue_by_arn(arn)
    message: dict[str, Any] = {"QueueUrl": queue["url"], "MessageBody": body}
    if attributes:
        message["MessageAttributes"] = attributes
    if group:
        message["MessageGroupId"] = group
    if deduplication and queue["is_fifo"]:
        message["MessageDeduplicationId"] = deduplication
    try:
        sqs._HANDLERS["SendMessage"](message, queue["url"])
    except sqs._Err as refusal:
        _LOG.warning("a message was not delivered to %s: %s", arn, refusal)
        return False
    return True
