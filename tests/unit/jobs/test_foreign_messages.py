"""Messages of other systems on the jobs queue: stored, with what they are and the way out."""

import base64
import json
from typing import Any

import pytest
from mayfly.core.errors import InvalidRequest
from mayfly.jobs.model import Submission, Wake
from mayfly.jobs.wire import read_message

from tests.support.events import sqs
from tests.support.stage import Stage
from tests.unit.core.test_envelopes import CELERY, EXAMPLES

WAYS_OUT = {
    "sns": "this is a notification of SNS: turn on raw message delivery of the subscription",
    "s3 by sns": "this is a notification of SNS: turn on raw message delivery of the subscription",
    "sns confirmation": "this is a confirmation that SNS asks for: subscribe the queue by the",
    "eventbridge": "this is an event of EventBridge: give the target of the rule an input tr",
    "s3": "this is a notification of S3: send it to the uploads queue",
    "s3 test": "this is the test event that S3 sends when notifications are set up: nothing is",
    "lambda destination": "this is a record of an invocation that a Lambda destination sends: use",
    "celery": "this is a message of Celery (Kombu): Celery's tasks do not run here; send",
    "dramatiq": "this is a message of Dramatiq: Dramatiq's actors do not run here; send",
}


def test_each_envelope_has_a_way_out() -> None:
    assert WAYS_OUT.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", WAYS_OUT)
def test_message_of_another_system_is_named_with_the_way_out(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_message(json.dumps(EXAMPLES[name][0]))
    assert str(refused.value).startswith(f"task: is missing; {WAYS_OUT[name]}")


def test_message_that_celery_encodes_as_a_whole_is_named() -> None:
    """Kombu sends base64 to SQS, so that the body is not JSON."""
    with pytest.raises(InvalidRequest, match="this is a message of Celery"):
        read_message(base64.b64encode(json.dumps(CELERY).encode()).decode())


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, 'task: is missing; send {"task": ..., "payload": ...}'),
        ({"payload": 1}, 'task: is missing; send {"task": ..., "payload": ...}'),
        ({"id": "j1"}, 'task: is missing; send {"task": ..., "payload": ...}'),
        ({"tenant": "acme"}, "id: is missing"),
        ({"tenant": "acme", "id": ".."}, "id: must match"),
        ([], "body: must be a JSON object, not an array"),
        ("x", "body: must be a JSON object, not a text"),
        (None, "body: must be a JSON object, not null"),
    ],
    ids=["empty", "payload", "id", "tenant", "dots", "array", "text", "null"],
)
def test_message_without_a_task_says_what_to_send(body: Any, problem: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_message(json.dumps(body))
    assert str(refused.value).startswith(problem)


def test_text_that_is_not_json_says_so() -> None:
    with pytest.raises(InvalidRequest, match="body: not valid JSON"):
        read_message("hello")


def test_messages_of_mayfly_and_of_producers_are_read_as_before() -> None:
    assert read_message('{"tenant": "acme", "id": "j1"}') == Wake("acme", "j1")
    assert read_message('{"task": "t", "payload": {"Records": []}}') == Submission(
        "t", {"Records": []}
    )


def test_foreign_message_is_stored_with_its_name_and_its_neighbour_runs(stage: Stage) -> None:
    stage.submit()
    report = stage.handle(json.dumps(EXAMPLES["sns"][0]), Wake("acme", "j1"))
    assert report["batchItemFailures"] == []
    (stored,) = stage.operations.unreadable(now_ms=stage.clock())
    assert "this is a notification of SNS: turn on raw message delivery" in stored.problem
    assert (json.loads(stored.body), stage.count()) == (EXAMPLES["sns"][0], 1)


def test_message_with_attributes_of_every_type_runs_its_job(stage: Stage) -> None:
    """Producers may send them, and SNS with raw delivery passes its own on."""
    (record,) = sqs(json.dumps({"task": "t"}))["Records"]
    lists: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    record["messageAttributes"] = {
        "trace": {"binaryValue": "Af8=", "dataType": "Binary", **lists},
        "n": {"stringValue": "1", "dataType": "Number.int", **lists},
        "AWSTraceHeader": {"stringValue": "x", "dataType": "String", **lists},
    }
    assert stage.handle_records([record])["batchItemFailures"] == []
    assert stage.count() == 1
