"""The actions of requests to SNS, EventBridge and Kinesis, by their operations.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsns.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoneventbridge.html
Page list_amazonkinesisdatastreams of
https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mayfly_local.account import ACCOUNT, REGION

__all__ = ["event_actions", "stream_actions"]


def event_actions(
    service: str, operation: str, arguments: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yields the actions of a request, each with the ARN of its topic, bus or rule."""
    if service == "sns":
        topic = arguments.get("TopicArn") or arguments.get("TargetArn") or "*"
        if "SubscriptionArn" in arguments:
            topic = str(arguments["SubscriptionArn"]).rpartition(":")[0]
        yield operation.removesuffix("Batch"), str(topic)
    elif operation == "PutEvents":
        for entry in arguments.get("Entries", ()):
            yield operation, _bus(entry.get("EventBusName"))
    elif (rule := arguments.get("Rule") or arguments.get("Name")) and "Bus" not in operation:
        bus = str(arguments.get("EventBusName") or "default").rpartition("/")[2]
        path = rule if bus == "default" else f"{bus}/{rule}"
        yield operation, f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{path}"
    else:
        yield operation, "*"


def _bus(name: Any) -> str:
    """Returns the ARN of a bus from its name or its ARN; without either it is the default bus."""
    text = str(name or "default").rpartition("/")[2]
    return f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{text}"


def stream_actions(operation: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the action of a request to Kinesis with the ARN of its stream.

    An iterator does not tell its stream here, so a read that names none is allowed.
    """
    if arn := arguments.get("StreamARN"):
        yield operation, str(arn)
    elif name := arguments.get("StreamName"):
        yield operation, f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"
    elif operation != "GetRecords":
        yield operation, "*"
