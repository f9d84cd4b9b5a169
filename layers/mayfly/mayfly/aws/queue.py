"""One SQS queue: sends messages, and hides messages that were received."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from mayfly.core.json_input import canonical_json

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

__all__ = ["Queue"]

#: Entries of one SQS batch call.
_BATCH = 10
#: The longest visibility timeout that SQS takes, in seconds.
_LONGEST_VISIBILITY = 12 * 3600


class Queue:
    """One SQS queue."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self._client = client
        self._url = url

    def send(
        self, bodies: Mapping[str, Mapping[str, str]], delays: Mapping[str, float] | None = None
    ) -> set[str]:
        """Sends JSON bodies, by any name that tells them apart, and returns the names of those that
        were not sent.

        `delays` gives some of them seconds to wait, at most 900. A body's tenant is its message
        group: where one tenant's messages pile up, SQS hands out the others' first (fair queues,
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html).
        """
        unsent: set[str] = set()
        for names in _chunks(bodies):
            entries = [
                {
                    "Id": str(index),
                    "MessageBody": canonical_json(bodies[name]),
                    "DelaySeconds": min(_whole((delays or {}).get(name, 0)), 900),
                    "MessageGroupId": bodies[name]["tenant"],
                }
                for index, name in enumerate(names)
            ]
            try:
                # Typed dicts.
                reply = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)  # type: ignore[arg-type]
                unsent |= {names[int(failed["Id"])] for failed in reply.get("Failed", [])}
            except (BotoCoreError, ClientError):
                unsent |= set(names)
        return unsent

    def set_visibility(self, seconds_by_receipt: Mapping[str, float]) -> int:
        """Hides messages that this invocation received for some seconds from now. Returns how many
        could not be changed.

        Those come back by the visibility they have: later, never lost.
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
                reply = self._client.change_message_visibility_batch(
                    QueueUrl=self._url,
                    Entries=entries,  # type: ignore[arg-type]
                )  # typed dicts
                failed += len(reply.get("Failed", []))
            except (BotoCoreError, ClientError):
                failed += len(receipts)
        return failed


def _whole(seconds: float) -> int:
    return min(math.ceil(max(seconds, 0)), _LONGEST_VISIBILITY)


def _chunks(names: Iterable[str]) -> list[list[str]]:
    listed = list(names)
    return [listed[start : start + _BATCH] for start in range(0, len(listed), _BATCH)]
