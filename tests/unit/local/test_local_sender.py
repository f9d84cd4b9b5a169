"""Messages that the runtime sends to queues, topics, functions and buses, and who sends them."""

import asyncio
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from mayfly_local.application.model import Schedule
from mayfly_local.application.schedule_times import ScheduleTimes
from mayfly_local.compute.invocation import Failure
from mayfly_local.emulator.clients import Clients
from mayfly_local.logs import Log, Logs
from mayfly_local.processes.clock import Clock
from mayfly_local.sources.destinations import Destinations, Outcome
from mayfly_local.sources.schedules import Scheduler
from mayfly_local.sources.sender import Message, Sender

QUEUE = "arn:aws:sqs:us-east-1:000000000000:work"
TOPIC = "arn:aws:sns:us-east-1:000000000000:news"
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:F"
BUS = "arn:aws:events:us-east-1:000000000000:event-bus/own"


class Emulator:
    """Notes calls with the role that made them; the first ones may fail."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.role = ""
        self.calls: list[tuple[str, str, dict[str, Any]]] = []

    def of(self, function: str) -> "Emulator":
        """Returns clients under a function's role, with the same calls."""
        found = Emulator()
        found.role, found.failures, found.calls = function, self.failures, self.calls
        return found

    async def call(self, service: str, operation: str, **arguments: Any) -> Any:
        """Notes a call, or fails."""
        if self.failures:
            raise self.failures.pop(0)
        self.calls.append((self.role, f"{service}.{operation}", arguments))
        return (
            {"QueueUrl": f"http://q/{arguments['QueueName']}"} if "QueueName" in arguments else {}
        )

    @property
    def sender(self) -> Sender:
        """A sender to this emulator that does not pause."""
        return Sender(cast(Clients, self), pause_seconds=0)


SILENT = EndpointConnectionError(endpoint_url="http://store")
REFUSED = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "SendMessage")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    logs = Logs(tmp_path, form="json", out=io.StringIO())
    yield logs.of("mayfly")
    logs.close()


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "mayfly.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("arn", "calls"),
    [
        (QUEUE, [
            ("", "sqs.get_queue_url", {"QueueName": "work"}),
            ("F", "sqs.send_message", {
                "QueueUrl": "http://q/work", "MessageBody": "{}", "MessageAttributes": {"A": 1}}),
        ]),
        (TOPIC, [("F", "sns.publish", {
            "TopicArn": TOPIC, "Message": "{}", "MessageAttributes": {"A": 1}})]),
        (FUNCTION, [("F", "lambda.invoke", {
            "FunctionName": FUNCTION, "InvocationType": "Event", "Payload": "{}"})]),
        (BUS, [("F", "events.put_events", {"Entries": [{
            "EventBusName": BUS, "Source": "s", "DetailType": "d", "Detail": "{}",
            "Resources": ["r"]}]})]),
    ],
)  # fmt: skip
def test_message_is_sent_by_the_service_of_the_arn_under_the_functions_role(
    arn: str, calls: Any
) -> None:
    emulator = Emulator()
    message = Message("{}", {"A": 1}, source="s", detail_type="d", resources=("r",))
    asyncio.run(emulator.sender.send(arn, message, function="F"))
    assert emulator.calls == calls


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Due(Schedule):
    """A schedule that is due now, and at no other time."""

    def after(self, moment: datetime) -> datetime | None:
        """Returns a moment of the past, and None after it."""
        return LONG_AGO if moment > LONG_AGO else None


def schedule(arn: str) -> Schedule:
    return Due("S", "arn:s", None, arn, ScheduleTimes(every=timedelta(days=1)), {"a": 1})


async def nothing(function: str, event: Any) -> None:
    raise AssertionError(function)


@pytest.mark.parametrize("arn", [QUEUE, TOPIC, BUS])
def test_message_of_a_schedule_outlives_a_restart_of_the_emulator(log: Log, arn: str) -> None:
    emulator = Emulator(SILENT, SILENT, ConnectionResetError())
    asyncio.run(Scheduler(schedule(arn), nothing, emulator.sender, log, clock=Clock()).run())
    (sent,) = [call for call in emulator.calls if call[1] != "sqs.get_queue_url"]
    assert '{"a": 1}' in json.dumps(sent).replace("\\", "")


def test_refused_message_of_a_schedule_is_logged(tmp_path: Path, log: Log) -> None:
    emulator = Emulator(REFUSED)
    asyncio.run(Scheduler(schedule(TOPIC), nothing, emulator.sender, log, clock=Clock()).run())
    (entry,) = logged(tmp_path)
    assert (entry["type"], entry["schedule"], entry["target"]) == ("schedule failed", "S", TOPIC)
    assert "AccessDenied" in entry["reason"]
    assert emulator.calls == []


OUTCOME = Outcome(FUNCTION, "r", '{"n": 1}', tries=0).after(Failure("ValueError", "no"))


@pytest.mark.parametrize("is_dead_letter", [False, True])
def test_outcome_outlives_a_restart_of_the_emulator(log: Log, is_dead_letter: bool) -> None:
    emulator = Emulator(SILENT)
    destinations = Destinations(emulator.sender, log)
    send = destinations.bury if is_dead_letter else destinations.send
    asyncio.run(send("F", QUEUE, OUTCOME))
    role, _, arguments = emulator.calls[-1]
    assert role == "F"
    body = json.loads(arguments["MessageBody"])
    assert (body if is_dead_letter else body["requestPayload"]) == {"n": 1}
    assert ("MessageAttributes" in arguments) == is_dead_letter


def test_refused_outcome_is_logged(tmp_path: Path, log: Log) -> None:
    asyncio.run(Destinations(Emulator(REFUSED).sender, log).send("F", TOPIC, OUTCOME))
    (entry,) = logged(tmp_path)
    assert (entry["type"], entry["destination"]) == ("destination refused", TOPIC)
