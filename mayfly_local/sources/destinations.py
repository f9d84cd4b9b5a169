"""Destinations of asynchronous invocations: queues, topics, functions and event buses.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""

import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from mayfly_local.compute.invocation import Failure, Reply
from mayfly_local.logs import Log
from mayfly_local.sources.sender import Message, Sender

__all__ = ["Destinations", "Outcome"]

#: Most characters of the error message among the attributes of a dead letter.
_MESSAGE_LIMIT: Final = 1024


@dataclass(frozen=True)
class Outcome:
    """The last try of an event. `tries` is the number of tries, and `condition` is AWS's word."""

    function_arn: str
    request_id: str
    event: str
    tries: int
    condition: str = ""
    result: Reply | Failure | None = None

    def after(self, result: Reply | Failure) -> "Outcome":
        """Returns the outcome after one more try."""
        condition = "Success" if isinstance(result, Reply) else "RetriesExhausted"
        return replace(self, tries=self.tries + 1, condition=condition, result=result)

    def discarded(self, condition: str) -> "Outcome":
        """Returns the outcome of an event that is discarded without a further try."""
        return replace(self, condition=condition)

    @property
    def reason(self) -> str:
        """The reason of a failure, for people."""
        if isinstance(self.result, Failure):
            return self.result.message
        return {
            "EventAgeExceeded": "the event is older than the function's MaximumEventAgeInSeconds",
            "ZeroReservedConcurrency": "the function's ReservedConcurrentExecutions are 0",
        }.get(self.condition, self.condition)

    def record(self) -> dict[str, Any]:
        """Returns the invocation record that a destination gets."""
        record: dict[str, Any] = {
            "version": "1.0",
            "timestamp": datetime.fromtimestamp(time.time(), UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "requestContext": {
                "requestId": self.request_id,
                "functionArn": f"{self.function_arn}:$LATEST",
                "condition": self.condition,
                "approximateInvokeCount": self.tries,
            },
            "requestPayload": json.loads(self.event),
        }
        if self.result is not None:
            record["responseContext"] = {"statusCode": 200, "executedVersion": "$LATEST"}
            if isinstance(self.result, Failure):
                record["responseContext"]["functionError"] = "Unhandled"
            record["responsePayload"] = json.loads(self.result.payload or b"null")
        return record


class Destinations:
    """Sends the outcomes of invocations, under the role of their function as Lambda does."""

    def __init__(self, sender: Sender, log: Log) -> None:
        self._sender = sender
        self._log = log

    async def send(self, function: str, arn: str, outcome: Outcome) -> None:
        """Sends an invocation record to a destination.

        A destination that refuses it gets a line in the log, as it only gets a metric on AWS.
        """
        result = "Success" if outcome.condition == "Success" else "Failure"
        message = Message(
            json.dumps(outcome.record()),
            source="lambda",
            detail_type=f"Lambda Function Invocation Result - {result}",
            resources=(arn, f"{outcome.function_arn}:$LATEST"),
        )
        await self._deliver(function, arn, message)

    async def bury(self, function: str, arn: str, outcome: Outcome) -> None:
        """Sends an event to a function's dead-letter queue or topic: the event, as it was.

        https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
        """
        facts = {"RequestID": outcome.request_id, "ErrorMessage": outcome.reason[:_MESSAGE_LIMIT]}
        attributes = {
            name: {"DataType": "String", "StringValue": value or "-"}
            for name, value in facts.items()
        }
        attributes["ErrorCode"] = {"DataType": "Number", "StringValue": "200"}
        await self._deliver(function, arn, Message(outcome.event, attributes))

    async def _deliver(self, function: str, arn: str, message: Message) -> None:
        try:
            await self._sender.deliver(arn, message, function=function)
        except ClientError as refusal:
            self._log.event(
                "destination refused", "ERROR",
                target=function, destination=arn, reason=str(refusal),
            )  # fmt: skip
