"""Pure functions that convert a message or a record to the event for a function."""

import base64
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.model import Schedule

__all__ = [
    "schedule_event",
    "sqs_record",
    "stream_record",
]


def sqs_record(message: Mapping[str, Any], queue_arn: str) -> dict[str, Any]:
    """Returns a received message as a record of an event.

    https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
    """
    # Lambda sends both lists with every attribute, and they are always empty.
    attributes = {
        name: {
            "stringListValues": [],
            "binaryListValues": [],
            **{_lower_first(key): _encodable(value) for key, value in spec.items()},
        }
        for name, spec in message.get("MessageAttributes", {}).items()
    }
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
        "messageAttributes": attributes,
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": REGION,
    }


def stream_record(record: Mapping[str, Any], stream_arn: str) -> dict[str, Any]:
    """Returns a record of a table's stream, as boto3 reads it, as a record of an event.

    https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html
    """
    change = dict(record["dynamodb"])
    if isinstance(created := change.get("ApproximateCreationDateTime"), datetime):
        change["ApproximateCreationDateTime"] = created.timestamp()
    event_record = {
        "eventID": record["eventID"],
        "eventName": record["eventName"],
        "eventVersion": record.get("eventVersion", "1.1"),
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": _encodable(change),
        "eventSourceARN": stream_arn,
    }
    return (
        {**event_record, "userIdentity": record["userIdentity"]}
        if record.get("userIdentity")
        else event_record
    )


def schedule_event(schedule: Schedule, at: datetime) -> Any:
    """Returns the schedule's own input, or the event that a rule sends.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html
    """
    if schedule.event is not None:
        # A rule has none of these attributes.
        is_scheduler = schedule.arn.split(":")[2:3] == ["scheduler"]
        return _with_attributes(schedule, at) if is_scheduler else schedule.event
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": REGION,
        "resources": [schedule.arn],
        "detail": {},
    }


def _with_attributes(schedule: Schedule, at: datetime) -> Any:
    """Returns the input of a schedule of EventBridge Scheduler with its context attributes.

    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
    """
    attributes = {
        "schedule-arn": schedule.arn,
        "scheduled-time": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "execution-id": str(uuid.uuid4()),
        "attempt-number": "1",
    }
    text = json.dumps(schedule.event)
    for name, own in attributes.items():
        text = text.replace(f"<aws.scheduler.{name}>", own)
    return json.loads(text)


def _encodable(value: Any) -> Any:
    """Returns a value with DynamoDB's binary values as the base64 that events carry."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _encodable(member) for name, member in value.items()}
    return [_encodable(member) for member in value] if isinstance(value, list) else value


def _lower_first(name: str) -> str:
    return name[0].lower() + name[1:]
