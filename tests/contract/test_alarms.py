"""Alarms of the template: whatever can break is watched, and every alarm reaches a person."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from mayfly_local.application.template import load
from mayfly_testing.stack import ROOT

TEMPLATE: Final = load(ROOT / "template.yaml", cache=ROOT / ".mayfly" / "cache")
ALARMS: Final = TEMPLATE.of_type("AWS::CloudWatch::Alarm")
FUNCTIONS: Final = TEMPLATE.of_type("AWS::Lambda::Function")
QUEUES: Final = TEMPLATE.of_type("AWS::SQS::Queue")
TABLES: Final = TEMPLATE.of_type("AWS::DynamoDB::Table")

#: Metrics that no alarm watches, with the reason.
UNWATCHED: Final = dict.fromkeys(
    (
        "Hits", "ImportRepeated", "ImportStarted", "JobCancelled", "JobContinued", "JobRedriven",
        "JobReplayed", "JobRested", "JobSubmitted", "JobSucceeded", "LimitAdmitted",
        "SessionCreated", "SessionEnded", "SessionRotated", "SubjectSessionsEnded",
        "TickHandedOut",
    ),
    "ordinary work",
) | {
    "JobRetried": "a retry is ordinary; a job whose retries are used up is dead, which is watched",
    "LimitRefused": "a limit that refuses does what it is for",
}  # fmt: skip
#: Queues of messages that were received too often. A message there is counted when it is received.
DEAD_LETTERS: Final = {name for name in QUEUES if name.endswith("DeadLetters")}


def stats(alarm: str) -> list[dict[str, Any]]:
    """Returns the metrics that an alarm reads, each with `Namespace` and so on."""
    return [
        query["MetricStat"]["Metric"] for query in ALARMS[alarm]["Metrics"] if "MetricStat" in query
    ]


def watched(namespace: str, metric: str, dimension: str) -> set[str]:
    """Returns the resources, or the services, of which any alarm reads a metric."""
    return {
        name_of(each["Value"])
        for alarm in ALARMS
        for found in stats(alarm)
        if (found["Namespace"], found["MetricName"]) == (namespace, metric)
        for each in found["Dimensions"]
        if each["Name"] == dimension
    }


def name_of(value: Any) -> str:
    """Returns the logical id that a value refers to, or the text itself."""
    if isinstance(value, str):
        return value
    ((_, found),) = value.items()
    return str(found if isinstance(found, str) else found[0])


def counted() -> Iterator[tuple[str, Path]]:
    """Yields the metrics that the code counts, each with its file."""
    for folder in ("functions", "layers/mayfly/mayfly"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(func=ast.Attribute(attr="count") as called, args=[name, *_]):
                        if ast.unparse(called).endswith("observe.count"):
                            for text in ast.walk(name):
                                if isinstance(text, ast.Constant):
                                    yield str(text.value), path


@pytest.mark.parametrize("metric", ["Errors", "Throttles"])
def test_every_function_has_an_alarm(metric: str) -> None:
    assert watched("AWS/Lambda", metric, "FunctionName") == set(FUNCTIONS)


def test_every_queue_has_an_alarm_for_its_age_and_for_standing_still() -> None:
    aged = watched("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName")
    assert aged == set(QUEUES)
    received = watched("AWS/SQS", "NumberOfMessagesReceived", "QueueName")
    assert received == set(QUEUES) - DEAD_LETTERS


def test_every_table_has_an_alarm() -> None:
    for kind in ("ReadThrottleEvents", "WriteThrottleEvents"):
        assert watched("AWS/DynamoDB", kind, "TableName") == set(TABLES)


def test_every_metric_of_the_code_has_an_alarm_or_a_reason() -> None:
    of_alarms = {
        found["MetricName"]
        for alarm in ALARMS
        for found in stats(alarm)
        if found["Namespace"] == "Mayfly"
    }
    names = {name for name, _ in counted()}
    assert of_alarms | set(UNWATCHED) == names
    assert of_alarms.isdisjoint(UNWATCHED)


@pytest.mark.parametrize("alarm", ALARMS)
def test_alarm_and_its_end_reach_the_topic(alarm: str) -> None:
    properties = ALARMS[alarm]
    topic = [{"Ref": "AlarmTopic"}]
    assert (properties["AlarmActions"], properties["OKActions"]) == (topic, topic)
    assert properties["AlarmDescription"].endswith(".")


@pytest.mark.parametrize("alarm", ALARMS)
def test_alarm_reads_at_most_ten_metrics_with_ids_of_their_own(alarm: str) -> None:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-limits.html"""
    queries = ALARMS[alarm]["Metrics"]
    assert 1 <= len(stats(alarm)) <= 10
    assert len({query["Id"] for query in queries}) == len(queries)
    assert [query["Id"] for query in queries if query.get("ReturnData", True)] == ["value"]


@pytest.mark.parametrize("alarm", ALARMS)
def test_alarm_reads_metrics_of_this_stack_that_functions_write(alarm: str) -> None:
    services = {re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower() for name in FUNCTIONS}
    for found in stats(alarm):
        dimensions = {each["Name"]: each["Value"] for each in found["Dimensions"]}
        if found["Namespace"] == "Mayfly":
            assert set(dimensions) == {"service", "stack"}
            assert dimensions["service"] in services
            assert dimensions["stack"] == {"Ref": "AWS::StackName"}
        else:
            assert name_of(*dimensions.values()) in TEMPLATE.resources


def test_sections_of_the_runbook_are_the_alarms() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    (part,) = re.findall(r"(?ms)^## Alarms$(.*?)(?=^## |\Z)", page)
    assert re.findall(r"(?m)^### (\w+)$", part) == list(ALARMS)
