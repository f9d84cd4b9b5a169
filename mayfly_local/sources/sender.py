"""Messages that the runtime sends in a service's place: to queues, topics, functions and buses."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from mayfly_local.emulator.clients import Clients

__all__ = ["UNSENT", "Message", "Sender"]

#: Errors of a message that was not sent.
UNSENT: Final = (ClientError, BotoCoreError, OSError)
#: Seconds between two tries to send while the emulator does not answer.
_PAUSE: Final = 1.0


@dataclass(frozen=True)
class Message:
    """A message for a target of any kind.

    `attributes` are for queues and topics, in the form of their APIs. `source`, `detail_type` and
    `resources` are for event buses.
    """

    text: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    detail_type: str = ""
    resources: tuple[str, ...] = ()


class Sender:
    """Sends messages to ARNs, under the role of a function or as the runtime itself."""

    def __init__(self, clients: Clients, *, pause_seconds: float = _PAUSE) -> None:
        self._clients = clients
        self._pause_seconds = pause_seconds

    async def deliver(self, arn: str, message: Message, *, function: str | None = None) -> None:
        """Sends a message; repeats that while the emulator does not answer, as at its restart.

        A target may therefore get a message twice, as on AWS. Raises ClientError if it refuses it.
        """
        while True:
            try:
                await self.send(arn, message, function=function)
            except ClientError:
                raise
            except UNSENT:
                await asyncio.sleep(self._pause_seconds)
            else:
                return

    async def send(self, arn: str, message: Message, *, function: str | None = None) -> None:
        """Sends a message once, under the role of `function` if it is given. Raises `UNSENT`."""
        clients = self._clients if function is None else self._clients.of(function)
        attributes = {"MessageAttributes": message.attributes} if message.attributes else {}
        match arn.split(":")[2]:
            case "sqs":
                # Lambda needs no permission for the URL of a queue.
                found = await self._clients.call(
                    "sqs", "get_queue_url", QueueName=arn.rpartition(":")[2]
                )
                await clients.call(
                    "sqs", "send_message",
                    QueueUrl=found["QueueUrl"], MessageBody=message.text, **attributes,
                )  # fmt: skip
            case "sns":
                await clients.call(
                    "sns", "publish", TopicArn=arn, Message=message.text, **attributes
                )
            case "lambda":
                await clients.call(
                    "lambda", "invoke",
                    FunctionName=arn, InvocationType="Event", Payload=message.text,
                )  # fmt: skip
            case _:
                entry = {
                    "EventBusName": arn,
                    "Source": message.source,
                    "DetailType": message.detail_type,
                    "Detail": message.text,
                    "Resources": list(message.resources),
                }
                await clients.call("events", "put_events", Entries=[entry])
