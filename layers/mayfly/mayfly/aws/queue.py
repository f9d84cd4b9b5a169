"""One SQS queue: sends messages, and hides messages that were received.

The tenant of a message is its message group. If one tenant has a backlog, SQS delivers the messages
of the others first (fair queues):
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mayfly.aws.client import as_client
from mayfly.aws.errors import Refused, Unanswered
from mayfly.core.json_input import canonical_json

__all__ = ["Queue"]

#: The most entries of one SQS batch call.
_BATCH = 10
#: The longest visibility timeout that SQS accepts, in seconds.
_LONGEST_VISIBILITY = 12 * 3600


class Queue:
    """One SQS queue, by boto3's client or the lean one."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = as_client(client)
        self._url = url

    def send(
        self, bodies: Mapping[str, Mapping[str, str]], delays: Mapping[str, float] | None = None
    ) -> set[str]:
        """Sends JSON bodies, and returns the names of those that were not sent.

        `bodies` has each body under a unique name. `delays` has seconds by name, at most 900.
        """
        return self._send(
            {
                name: {
                    "MessageBody": canonical_json(body),
                    "DelaySeconds": min(_whole((delays or {}).get(name, 0)), 900),
                    "MessageGroupId": body["tenant"],
                }
                for name, body in bodies.items()
            }
        )

    def send_texts(self, texts: Mapping[str, str]) -> set[str]:
        """Sends texts of no tenant, and returns the names of those that were not sent."""
        return self._send({name: {"MessageBody": text} for name, text in texts.items()})

    def _send(self, messages: Mapping[str, Mapping[str, Any]]) -> set[str]:
        unsent: set[str] = set()
        for names in _chunks(messages):
            entries = [{"Id": str(index), **messages[name]} for index, name in enumerate(names)]
            try:
                reply = self._client.call(
                    "SendMessageBatch", {"QueueUrl": self._url, "Entries": entries}
                )
                unsent |= {names[int(failed["Id"])] for failed in reply.get("Failed", [])}
            except (Refused, Unanswered):
                unsent |= set(names)
        return unsent

    def set_visibility(self, seconds_by_receipt: Mapping[str, float]) -> int:
        """Hides messages that this invocation received, each for some seconds from now.

        Returns the number of messages that could not be changed. They are not lost: they come back
        when their present visibility timeout is over.
        """
        failed = 0
        for receipts in _chunks(seconds_by_receipt):
            entries = [
                {
                    "Id": str(index),
                    "ReceiptHandle": receipt,
                    "VisibilityTimeout": _whole(seconds_by_receipt[receipt]),
                }
                for index, receipt in enumerate(receipts)
            ]
            try:
                reply = self._client.call(
                    "ChangeMessageVisibilityBatch",
                    {"QueueUrl": self._url, "Entries": entries},
                )
                failed += len(reply.get("Failed", []))
            except (Refused, Unanswered):
                failed += len(receipts)
        return failed


def _whole(seconds: float) -> int:
    return min(math.ceil(max(seconds, 0)), _LONGEST_VISIBILITY)


def _chunks(names: Iterable[str]) -> list[list[str]]:
    listed = list(names)
    return [listed[start : start + _BATCH] for start in range(0, len(listed), _BATCH)]
