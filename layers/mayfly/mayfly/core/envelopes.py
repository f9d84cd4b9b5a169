"""Messages that other systems put on a queue, in an envelope of their own.

Mayfly reads none of them, but names them: a stored message should say what it is and what to do.
"""

import base64
import json
from enum import StrEnum
from typing import Any

__all__ = ["Envelope", "encoded_envelope", "envelope"]


class Envelope(StrEnum):
    """The form of a message of another system, as a sentence names it."""

    SNS = "a notification of SNS"
    SNS_SUBSCRIPTION = "a confirmation that SNS asks for"
    EVENTBRIDGE = "an event of EventBridge"
    S3 = "a notification of S3"
    S3_TEST = "the test event that S3 sends when notifications are set up"
    LAMBDA = "a record of an invocation that a Lambda destination sends"
    CELERY = "a message of Celery (Kombu)"
    DRAMATIQ = "a message of Dramatiq"


#: The members that a message of each form has.
#: https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
#: https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
#: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
#: https://docs.celeryq.dev/en/stable/internals/protocol.html
_MEMBERS = {
    Envelope.SNS: {"Type", "TopicArn", "Message"},
    Envelope.EVENTBRIDGE: {"detail-type", "source", "detail"},
    Envelope.S3_TEST: {"Service", "Event", "Bucket"},
    Envelope.LAMBDA: {"requestContext", "requestPayload"},
    Envelope.CELERY: {"body", "headers", "properties", "content-type"},
    Envelope.DRAMATIQ: {"actor_name", "args", "kwargs"},
}


def envelope(message: Any) -> Envelope | None:
    """Returns the form of a message of another system, None if it has none that is known here."""
    if not isinstance(message, dict):
        return None
    records = message.get("Records")
    if isinstance(records, list) and records and isinstance(records[0], dict):
        return Envelope.S3 if records[0].get("eventSource") == "aws:s3" else None
    for form, members in _MEMBERS.items():
        if members <= message.keys():
            is_request = form is Envelope.SNS and message["Type"] != "Notification"
            return Envelope.SNS_SUBSCRIPTION if is_request else form
    return None


def encoded_envelope(body: str) -> Envelope | None:
    """Returns the form of a message whose whole body is base64, as Kombu sends it to SQS."""
    try:
        return envelope(json.loads(base64.b64decode(body, validate=True)))
    except (ValueError, RecursionError):
        return None
