"""Messages of other systems are named for what they are."""

import base64
import json
from typing import Any

import pytest
from mayfly.core.envelopes import Envelope, encoded_envelope, envelope

CELERY = {
    "body": base64.b64encode(b'[[1], {}, {"callbacks": null}]').decode(),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"lang": "py", "task": "add", "id": "1"},
    "properties": {"correlation_id": "1", "delivery_mode": 2, "body_encoding": "base64"},
}
SNS = {
    "Type": "Notification",
    "MessageId": "1",
    "TopicArn": "arn:aws:sns:us-east-1:1:t",
    "Message": "x",
    "Timestamp": "2026-01-01T00:00:00.000Z",
}
S3 = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {}}]}
EXAMPLES: dict[str, tuple[Any, Envelope]] = {
    "sns": (SNS, Envelope.SNS),
    "s3 by sns": (SNS | {"Message": json.dumps(S3)}, Envelope.SNS),
    "sns confirmation": (
        SNS | {"Type": "SubscriptionConfirmation", "Token": "x", "SubscribeURL": "https://x"},
        Envelope.SNS_SUBSCRIPTION,
    ),
    "eventbridge": (
        {
            "version": "0",
            "id": "1",
            "detail-type": "order",
            "source": "shop",
            "detail": {"task": "counter.add"},
            "time": "2026-01-01T00:00:00Z",
        },
        Envelope.EVENTBRIDGE,
    ),
    "s3": (S3, Envelope.S3),
    "s3 test": (
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b", "Time": "t"},
        Envelope.S3_TEST,
    ),
    "lambda destination": (
        {"version": "1.0", "requestContext": {}, "requestPayload": {}, "responsePayload": {}},
        Envelope.LAMBDA,
    ),
    "celery": (CELERY, Envelope.CELERY),
    "dramatiq": (
        {"queue_name": "q", "actor_name": "add", "args": [1], "kwargs": {}, "options": {}},
        Envelope.DRAMATIQ,
    ),
}
NONE = {
    "empty object": {},
    "task": {"task": "t", "payload": {"Type": "Notification"}},
    "wake": {"tenant": "acme", "id": "j1"},
    "array": [SNS],
    "text": "Notification",
    "null": None,
    "records of another source": {"Records": [{"eventSource": "aws:dynamodb"}]},
    "no records": {"Records": []},
    "records of texts": {"Records": ["aws:s3"]},
    "records in an object": {"Records": {"eventSource": "aws:s3"}},
    "part of sns": {"Type": "Notification", "Message": "x"},
}


@pytest.mark.parametrize(("message", "form"), EXAMPLES.values(), ids=EXAMPLES)
def test_message_of_another_system_is_recognised(message: Any, form: Envelope) -> None:
    assert envelope(message) is form
    assert encoded_envelope(base64.b64encode(json.dumps(message).encode()).decode()) is form


@pytest.mark.parametrize("message", NONE.values(), ids=NONE)
def test_other_messages_are_not(message: Any) -> None:
    assert envelope(message) is None


@pytest.mark.parametrize(
    "body",
    ["", "x", "{}", "\ud800", "====", "bm90IGpzb24=", base64.b64encode(b"[" * 200_000).decode()],
    ids=["empty", "letter", "json", "surrogate", "padding", "not json", "deep"],
)
def test_text_that_is_not_base64_of_an_envelope_has_no_form(body: str) -> None:
    assert encoded_envelope(body) is None
