"""The pure functions of the local runtime: inputs and outputs."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mayfly_local.application.intrinsics import Unresolvable, references, resolve
from mayfly_local.application.model import Schedule
from mayfly_local.application.patterns import check_pattern, matches
from mayfly_local.application.schedule_times import ScheduleTimes
from mayfly_local.compute.invocation import Failure, Reply
from mayfly_local.sources.payloads import schedule_event, sqs_record, stream_record
from mayfly_local.sources.queues import failed_ids
from tests.support.patterns import MALFORMED, PATTERNS

# ---------------------------------------------------------------- filter patterns


@pytest.mark.parametrize(("pattern", "event", "expected"), PATTERNS)
def test_pattern_matches_the_events_that_it_names(
    pattern: dict[str, Any], event: Any, expected: bool
) -> None:
    check_pattern(pattern)
    assert matches(pattern, event) is expected


@pytest.mark.parametrize("pattern", MALFORMED)
def test_unsupported_pattern_is_rejected(pattern: Any) -> None:
    with pytest.raises(ValueError, match=r"list|object|rule"):
        check_pattern(pattern)


# ---------------------------------------------------------------- schedules


@pytest.mark.parametrize(
    ("expression", "zone", "now", "due"),
    [
        ("rate(1 minute)", "UTC", "2026-01-01T00:00:30", "2026-01-01T00:01:30"),
        ("rate(5 hours)", "UTC", "2026-01-01T00:00:00", "2026-01-01T05:00:00"),
        ("cron(0 12 * * ? *)", "UTC", "2026-01-01T12:00:00", "2026-01-02T12:00:00"),
        ("cron(0 12 ? * MON-FRI *)", "UTC", "2026-01-02T13:00:00", "2026-01-05T12:00:00"),
        ("cron(0 12 ? * 1 *)", "UTC", "2026-01-01T00:00:00", "2026-01-04T12:00:00"),
        ("cron(0 12 ? * 2-6 *)", "UTC", "2026-01-03T00:00:00", "2026-01-05T12:00:00"),
        ("cron(0 12 ? * 6L *)", "UTC", "2026-01-01T00:00:00", "2026-01-30T12:00:00"),
        ("cron(0 12 ? * 2#1 *)", "UTC", "2026-01-01T00:00:00", "2026-01-05T12:00:00"),
        ("cron(0 12 L * ? *)", "UTC", "2026-02-01T00:00:00", "2026-02-28T12:00:00"),
        ("cron(30 8 * * ? *)", "Europe/Berlin", "2026-01-01T00:00:00", "2026-01-01T07:30:00"),
        # Clocks are set forward at 02:45 and at 02:00: skipped. Back: once, before the change.
        ("cron(*/15 3 * * ? *)", "Pacific/Chatham", "2026-09-26T13:59:00", "2026-09-26T14:00:00"),
        ("cron(15 3 * * ? *)", "Pacific/Chatham", "2026-09-26T00:00:00", "2026-09-27T13:30:00"),
        ("cron(*/15 3 * * ? *)", "Pacific/Chatham", "2026-04-04T13:45:00", "2026-04-04T15:00:00"),
        ("cron(30 2 * * ? *)", "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-30T00:30:00"),
        ("cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24T12:00:00", "2026-10-25T00:30:00"),
        ("cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-25T00:30:00", "2026-10-26T01:30:00"),
        # As a published pattern of AWS writes it.
        ("cron(5, 0, 1, *, ?, *)", "UTC", "2026-01-01T00:05:00", "2026-02-01T00:05:00"),
        ("cron(0 12 1 1 ? 2030)", "UTC", "2026-01-01T00:00:00", "2030-01-01T12:00:00"),
        ("cron(0 12 1 1 ? 2024)", "UTC", "2026-01-01T00:00:00", None),
        ("cron(0 12 1 1 ? 2026-2027)", "UTC", "2026-01-01T12:00:00", "2027-01-01T12:00:00"),
        ("cron(0 12 1 1 ? 2020/5)", "UTC", "2026-01-01T12:00:00", "2030-01-01T12:00:00"),
        ("cron(0 12 29 2 ? 2026,2028)", "UTC", "2026-01-01T00:00:00", "2028-02-29T12:00:00"),
        ("cron(0 0 1 1 ? 2027)", "Asia/Tokyo", "2026-01-01T00:00:00", "2026-12-31T15:00:00"),
        ("at(2026-01-01T10:00:00)", "UTC", "2026-01-01T00:00:00", "2026-01-01T10:00:00"),
        ("at(2026-01-01T10:00:00)", "UTC", "2026-01-02T00:00:00", None),
    ],
)
def test_schedule_fires_at_the_times_of_eventbridge(
    expression: str, zone: str, now: str, due: str | None
) -> None:
    fires = ScheduleTimes.parse(expression, zone).after(
        datetime.fromisoformat(now).replace(tzinfo=UTC)
    )
    assert (fires and fires.astimezone(UTC)) == (
        due and datetime.fromisoformat(due).replace(tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "expression",
    ["", "rate(0 minutes)", "rate(1 minutes)", "rate(5 minute)", "rate(5 seconds)",
    "cron(* * * * *)", "cron(0 12 * * * *)", "cron(0 12 15W * ? *)", "cron(0 25 * * ? *)",
    "cron(0 12 * * ? 1969)", "cron(0 12 * * ? soon)", "at(x)"],
)  # fmt: skip
def test_expression_that_eventbridge_or_this_runtime_rejects_is_named(expression: str) -> None:
    with pytest.raises(ValueError, match="the schedule"):
        ScheduleTimes.parse(expression)


@pytest.mark.parametrize(
    ("expression", "now", "due"),
    [
        ("rate(1 hour)", "2026-01-01T00:00:00", "2026-02-01T00:30:00"),
        ("cron(0 * * * ? *)", "2026-01-01T00:00:00", "2026-02-01T01:00:00"),
        ("cron(30 0 * * ? *)", "2026-01-01T00:00:00", "2026-02-01T00:30:00"),
        ("cron(0 * * * ? *)", "2026-02-15T00:00:00", "2026-02-15T01:00:00"),
        ("cron(0 * * * ? *)", "2026-03-01T00:00:00", None),
        ("rate(1 day)", "2026-02-28T12:00:00", None),
    ],
)
def test_schedule_fires_between_its_start_and_its_end(
    expression: str, now: str, due: str | None
) -> None:
    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    schedule = Schedule(
        "S", "arn", "F", None, ScheduleTimes.parse(expression), None,
        starts=moment("2026-02-01T00:30:00"), ends=moment("2026-03-01T00:00:00"),
    )  # fmt: skip
    assert schedule.after(moment(now)) == (due and moment(due))


INPUT = {
    "arn": "<aws.scheduler.schedule-arn>",
    "keys": ["order-<aws.scheduler.scheduled-time>", "<aws.scheduler.attempt-number>"],
    "other": "<aws.scheduler.else>",
}


def test_input_of_a_schedule_has_its_context_attributes() -> None:
    arn = "arn:aws:scheduler:us-east-1:1:schedule/default/S"
    schedule = Schedule("S", arn, "F", None, ScheduleTimes.parse("rate(1 hour)"), INPUT)
    at = datetime(2026, 2, 1, 6, 0, 30, tzinfo=UTC)
    assert schedule_event(schedule, at) == {
        "arn": arn,
        "keys": ["order-2026-02-01T06:00:30Z", "1"],
        "other": "<aws.scheduler.else>",
    }
    named = replace(schedule, event="<aws.scheduler.execution-id>")
    assert schedule_event(named, at) != schedule_event(named, at)


def test_input_of_a_rule_has_no_attributes() -> None:
    arn = "arn:aws:events:us-east-1:1:rule/S"
    schedule = Schedule("S", arn, "F", None, ScheduleTimes.parse("rate(1 hour)"), INPUT)
    assert schedule_event(schedule, datetime(2026, 2, 1, tzinfo=UTC)) == INPUT


def test_unknown_time_zone_is_named() -> None:
    with pytest.raises(ValueError, match="'Mars/Olympus' is not a time zone"):
        ScheduleTimes.parse("rate(1 minute)", "Mars/Olympus")


# ---------------------------------------------------------------- intrinsic functions


SCOPE = {
    ("Table", None): "t-1",
    ("Table", "Arn"): "arn:t-1",
    ("Stage", None): "dev",
    ("AWS::Region", None): "us-east-1",
}
CONDITIONS = {
    "IsDev": {"Fn::Equals": [{"Ref": "Stage"}, "dev"]},
    "IsProd": {"Fn::Not": [{"Condition": "IsDev"}]},
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "Table"}, "t-1"),
        ({"Fn::GetAtt": ["Table", "Arn"]}, "arn:t-1"),
        ({"Fn::GetAtt": "Table.Arn"}, "arn:t-1"),
        ({"Fn::Sub": "${Table}/${Table.Arn}/${!literal}"}, "t-1/arn:t-1/${literal}"),
        ({"Fn::Sub": ["${x}-${Stage}", {"x": {"Ref": "Table"}}]}, "t-1-dev"),
        ({"Fn::Join": ["-", ["a", {"Ref": "Stage"}, 1]]}, "a-dev-1"),
        ({"Fn::Select": ["1", {"Fn::Split": [",", "a,b,c"]}]}, "b"),
        ({"Fn::If": ["IsDev", "yes", "no"]}, "yes"),
        ({"Fn::If": ["IsProd", "yes", "no"]}, "no"),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [1, {"Ref": "AWS::NoValue"}]}, {"b": [1]}),
        (
            {
                "Fn::And": [
                    {"Condition": "IsDev"},
                    {"Fn::Or": [{"Condition": "IsProd"}, {"Condition": "IsDev"}]},
                ]
            },
            True,
        ),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "Stage"}, "memory"]}, 128),
        ({"Fn::Base64": "x"}, "eA=="),
        ({"Statement": {"Condition": {"Bool": "x"}}}, {"Statement": {"Condition": {"Bool": "x"}}}),
    ],
)
def test_intrinsic_function_returns_its_value(value: Any, expected: Any) -> None:
    assert (
        resolve(value, SCOPE, conditions=CONDITIONS, mappings={"Sizes": {"dev": {"memory": 128}}})
        == expected
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [({"Ref": "Gone"}, "Gone has no value"), ({"Fn::GetAtt": ["Table", "X"]},
    r"Table\.X has no value"), ({"Fn::Sum": "x"}, "Fn::Sum is not supported"),
    ({"Fn::If": ["No", 1, 2]}, "no condition No")],
)  # fmt: skip
def test_expression_without_a_value_is_named(value: Any, problem: str) -> None:
    with pytest.raises(Unresolvable, match=problem):
        resolve(value, SCOPE, conditions={}, mappings={})


def test_references_are_found_at_any_depth() -> None:
    value = [
        {"a": {"Ref": "A"}},
        {"Fn::Sub": "${B.Arn} ${!C} ${D}"},
        {"Fn::Sub": ["${x} ${E}", {"x": {"Fn::GetAtt": ["F", "Arn"]}}]},
    ]
    assert set(references(value)) == {
        ("A", None),
        ("B", "Arn"),
        ("D", None),
        ("F", "Arn"),
        ("E", None),
    }


# ---------------------------------------------------------------- records and reports


def test_message_is_converted_to_a_record() -> None:
    message = {
        "MessageId": "m",
        "ReceiptHandle": "r",
        "Body": "b",
        "MD5OfBody": "x",
        "Attributes": {"SentTimestamp": "1"},
        "MessageAttributes": {"k": {"StringValue": "v", "DataType": "String"}},
    }
    converted = sqs_record(message, "arn:q")
    assert (
        converted["messageId"],
        converted["receiptHandle"],
        converted["body"],
        converted["eventSourceARN"],
    ) == (
        "m",
        "r",
        "b",
        "arn:q",
    )
    assert converted["messageAttributes"] == {
        "k": {
            "stringValue": "v",
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "String",
        }
    }


def test_binary_attribute_of_a_message_is_base64_as_on_aws() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html"""
    message = {
        "MessageId": "m",
        "ReceiptHandle": "r",
        "Body": "{}",
        "MessageAttributes": {
            "trace": {"DataType": "Binary", "BinaryValue": b"\x01\xff"},
            "png": {"DataType": "Binary.png", "BinaryValue": b""},
            "n": {"DataType": "Number", "StringValue": "1"},
        },
    }
    attributes = json.loads(json.dumps(sqs_record(message, "arn:q")))["messageAttributes"]
    lists: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    assert attributes == {
        "trace": {"binaryValue": "Af8=", "dataType": "Binary", **lists},
        "png": {"binaryValue": "", "dataType": "Binary.png", **lists},
        "n": {"stringValue": "1", "dataType": "Number", **lists},
    }


def test_stream_record_is_json() -> None:
    record = {
        "eventID": "1",
        "eventName": "INSERT",
        "dynamodb": {
            "SequenceNumber": "5",
            "NewImage": {"b": {"B": b"\xff"}},
            "ApproximateCreationDateTime": datetime.fromtimestamp(5, UTC),
        },
    }
    converted = json.loads(json.dumps(stream_record(record, "arn:s")))
    assert converted["dynamodb"]["NewImage"] == {"b": {"B": "/w=="}}
    assert converted["dynamodb"]["ApproximateCreationDateTime"] == 5


@pytest.mark.parametrize(
    ("payload", "failed"),
    [
        ({"batchItemFailures": [{"itemIdentifier": "b"}]}, {"b"}),
        ({"batchItemFailures": []}, set()),
        ({"batchItemFailures": None}, set()),
        ({}, set()),
        (None, set()),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": "unknown"}]}, {"a", "b"}),
        ({"batchItemFailures": [{"wrong": "a"}]}, {"a", "b"}),
        ({"batchItemFailures": "a"}, {"a", "b"}),
        ("text", {"a", "b"}),
    ],
)
def test_report_of_failures_is_read_as_lambda_reads_it(payload: Any, failed: set[str]) -> None:
    assert failed_ids(Reply(json.dumps(payload).encode()), ["a", "b"], reports=True) == failed


def test_failed_function_fails_its_batch_and_one_without_a_report_completes_it() -> None:
    assert failed_ids(Failure("X", "x"), ["a", "b"], reports=True) == {"a", "b"}
    assert (
        failed_ids(
            Reply(b'{"batchItemFailures": [{"itemIdentifier": "a"}]}'), ["a", "b"], reports=False
        )
        == set()
    )
