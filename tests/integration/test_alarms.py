"""Every alarm of the template fires by its cause, on a whole stack, and is quiet before it.

CloudWatch's part is played by `tests.support.alarms`, in shorter periods than 300 s.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pytest
import requests
from mayfly.core.clock import system_clock
from mayfly.jobs.items import new_items
from mayfly.jobs.model import Status
from mayfly.schedules.items import schedule_item
from mayfly.schedules.model import Definition, Schedule

from mayfly_testing.stack import Stack, running, wait_until
from tests.contract.test_alarms import ALARMS
from tests.support.alarms import Period, Readings, state
from tests.support.stranded import job_in_window, report

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

ROUNDS: Final = 3
#: The seconds for which the functions receive nothing.
STILL: Final = 8.0
#: Attributes by which a sweep finds a job.
DUE: Final = ("due", "attention", "attention_at")
#: The functions of the queues, and a message for each that its function can handle.
QUEUES: Final = {
    "JobsQueue": "RunJobs", "WebhooksQueue": "DeliverWebhooks",
    "UploadsQueue": "StartImports", "RelayFailures": "BuryJobs",
}  # fmt: skip
#: Alarms whose cause the local stack does not have: their metrics are injected.
INJECTED: Final[dict[str, tuple[tuple[str, str, str, float], ...]]] = {
    "ApiThrottled": (("AWS/Lambda", "Throttles", "Jobs", 1),),
    "WorkersThrottled": (("AWS/Lambda", "Throttles", "RunJobs", 1),),
    "GatewayFailing": (("AWS/ApiGateway", "5xx", "Api", 11),),
    "RelayLate": (("AWS/Lambda", "IteratorAge", "RelayJobs", 300_001),),
    "DeadLettersStuck": (("AWS/SQS", "ApproximateAgeOfOldestMessage", "JobsDeadLetters", 3601),),
    **{
        f"{name}Late": (
            ("AWS/SQS", "ApproximateAgeOfOldestMessage", queue, 3601),
            ("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue, 1),
        )
        for name, queue in (
            ("Jobs", "JobsQueue"), ("Webhooks", "WebhooksQueue"), ("Uploads", "UploadsQueue"),
            ("RelayFailures", "RelayFailures"),
        )
    },
}  # fmt: skip


@dataclass
class Scene:
    """A stack, what was measured of it, and the periods of each phase."""

    stack: Stack
    readings: Readings = field(default_factory=Readings)
    periods: dict[str, list[Period]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def period(self, phase: str) -> Iterator[None]:
        """Makes a period of what is done in it."""
        start = now()
        yield
        self.periods[phase].append((start, now()))

    def state(self, alarm: str, phase: str) -> str:
        """Returns the state of an alarm at the end of a phase."""
        return state(ALARMS[alarm], self.readings, self.periods[phase])

    # ------------------------------------------------------------ causes

    def fail_next(self, function: str, action: str, kind: str, times: int, text: str = "") -> None:
        """Makes the next calls of a function fail."""
        fault = {"function": function, "action": action, "kind": kind, "times": times}
        assert self.stack.control("faults", fault | ({"containing": text} if text else {})).ok

    def clear(self) -> int:
        """Ends all faults; returns how many have not struck."""
        return int(self.stack.control("clear-faults", {}).json()["cleared"])

    def send(self, queue: str, body: str) -> None:
        """Sends a message to a queue by its logical id."""
        url = self.stack.facts["resources"][queue]
        self.stack.client("sqs").send_message(QueueUrl=url, MessageBody=body)

    def sweep(self) -> None:
        """Runs a sweep that looks for reports; it may fail."""
        self.stack.client("lambda").invoke(FunctionName="SweepJobs", Payload=b'{"reports": true}')

    def put(self, table: str, item: dict[str, Any]) -> None:
        """Writes an item by hand."""
        name = self.stack.facts["resources"][table]
        self.stack.client("dynamodb").put_item(TableName=name, Item=item)


def stranded(number: int) -> dict[str, Any]:
    """Returns the item of a job that waits for its next attempt, and has no message."""
    job = job_in_window(
        id=f"stranded-{number}", tenant="default", task="counter.add", payload={"name": "s"},
        status=Status.RETRY, created_at_ms=1, not_before_ms=1,
    )  # fmt: skip
    (item,) = new_items(job)
    return {key: value for key, value in item.items() if key not in DUE}


def damaged(number: int) -> dict[str, Any]:
    """Returns the item of a queued job without its task."""
    (item,) = new_items(job_in_window(id=f"damaged-{number}"))
    del item["task"]
    return item


def schedule_of_no_zone(number: int) -> dict[str, Any]:
    """Returns the item of a schedule that is due, in a time zone that no longer exists."""
    definition = Definition("counter.add", {}, None, "* * * * *", None, "Nowhere/Gone")
    schedule = Schedule("default", f"s{number}", definition, "e", 1, next_ms=1)
    return schedule_item(schedule)


def answer_with_errors(scene: Scene) -> None:
    """503 to callers, a page without its limit, functions that die, jobs not announced."""
    stack = scene.stack
    scene.fail_next("Counters", "dynamodb:*", "refuse", 100)
    for _ in range(11):
        reply = requests.get(f"{stack.url}/counters/x", headers=stack.headers, timeout=60)
        assert reply.status_code == 503
    scene.clear()
    scene.fail_next("Hello", "dynamodb:*", "refuse", 3, "page")
    requests.get(stack.url, timeout=60)
    scene.fail_next("Sessions", "dynamodb:*", "kill", 1)
    requests.post(f"{stack.url}/sessions", json={}, headers=stack.headers, timeout=60)
    scene.fail_next("RelayJobs", "sqs:SendMessage", "refuse", 6)
    scene.fail_next("RunJobs", "dynamodb:*", "kill", 1)
    stack.submit("counter.add", {"name": "x"})


def fail_jobs(scene: Scene) -> None:
    """Jobs that die or meet conflicts, invalid messages, damaged items, a report."""
    stack = scene.stack
    scene.fail_next("RunJobs", "dynamodb:UpdateItem", "conflict", 2000, '"COMPLETED"')
    for _ in range(11):
        stack.submit("counter.add", {"name": "contended"})
    for _ in range(11):
        stack.submit("fail", {"times": 1, "permanent": True})
    scene.send("JobsQueue", "not a job")
    scene.send("JobsDeadLetters", json.dumps({"task": "counter.add", "payload": {"name": "x"}}))
    number = round(now())
    scene.put("JobsTable", damaged(number))
    scene.put("JobsTable", schedule_of_no_zone(number))
    scene.put("JobsTable", stranded(number))
    stack.client("s3").put_object(
        Bucket=stack.facts["resources"]["RelayReports"],
        Key=f"aws/lambda/{number}",
        Body=report(None, None, reported_ms=number * 1000, batchSize=0),
    )
    scene.sweep()


def throttle(scene: Scene) -> None:
    """Throttles of a table, which are counted by what the emulator has refused."""
    scene.fail_next("SweepJobs", "dynamodb:Query", "throttle", 1000)
    scene.sweep()
    struck = 1000 - scene.clear()
    scene.readings.add("AWS/DynamoDB", "ReadThrottleEvents", "JobsTable", struck, now())


def refuse_keys(scene: Scene) -> None:
    """Sends 501 keys that are not valid."""

    def send(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return requests.get(f"{scene.stack.url}/jobs/x", headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(send, [f"mf_{number}" for number in range(501)])) == {401}


def stand_still(scene: Scene) -> None:
    """Messages that no function receives; the queues are looked at until the end."""
    for function in QUEUES.values():
        scene.fail_next(function, "sqs:ReceiveMessage", "refuse", 100_000)
    for queue in QUEUES:
        for _ in range(3):
            scene.send(queue, "{}")


def look(scene: Scene) -> float:
    """Measures the queues as SQS does, and returns the time in seconds."""
    client = scene.stack.client("sqs")
    for queue in QUEUES:
        url = scene.stack.facts["resources"][queue]
        name = "ApproximateNumberOfMessages"
        found = client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"]
        scene.readings.add("AWS/SQS", f"{name}Visible", queue, float(found[name]), now())
    return now()


def now() -> float:
    """Returns the time in seconds."""
    return system_clock() / 1000


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A stack that works, then fails in all ways, then stands still."""
    folder = tmp_path_factory.mktemp("alarms")
    with running(folder, "--parameter", "PageLimit=600") as stack:
        scene = Scene(stack)
        with scene.period("healthy"):
            stack.job(stack.submit("counter.add", {"name": "x"})["id"], wait=20)
        for number in range(ROUNDS):
            with scene.period("failing"):
                answer_with_errors(scene)
                throttle(scene)
                fail_jobs(scene)
                if number == ROUNDS - 1:
                    refuse_keys(scene)
        scene.clear()
        stand_still(scene)
        for _ in range(2):
            with scene.period("standing still"):
                until = now() + STILL
                wait_until(partial(has_come, scene, until), 5 * STILL, interval=0.5)
        scene.readings.read(stack)
        yield scene


def has_come(scene: Scene, at: float) -> bool:
    """Measures the queues, and returns whether a time has come."""
    return look(scene) > at


def phase_of(alarm: str) -> str:
    return "standing still" if alarm.endswith("Stuck") else "failing"


@pytest.mark.parametrize("alarm", sorted(set(ALARMS) - set(INJECTED) - {"SweepsMissed"}))
def test_alarm_fires_by_its_cause_and_not_before(scene: Scene, alarm: str) -> None:
    assert scene.state(alarm, "healthy") == "OK"
    assert scene.state(alarm, phase_of(alarm)) == "ALARM"


@pytest.mark.parametrize("alarm", INJECTED)
def test_alarm_fires_by_an_injected_metric_and_not_without_it(alarm: str) -> None:
    readings = Readings()
    periods = [(0.0, 300.0), (300.0, 600.0), (600.0, 900.0)]
    assert state(ALARMS[alarm], readings, periods) == "OK"
    for namespace, name, of, value in INJECTED[alarm]:
        for start, _ in periods:
            readings.add(namespace, name, of, value, start + 1)
    assert state(ALARMS[alarm], readings, periods) == "ALARM"


def test_alarm_fires_if_sweeps_are_missed_and_not_while_they_come() -> None:
    """Five sweeps in each of its periods, then none."""
    readings = Readings()
    for minute in range(10):
        readings.add("AWS/Lambda", "Invocations", "SweepJobs", 1, minute * 60)
    assert state(ALARMS["SweepsMissed"], readings, [(0, 300), (300, 600)]) == "OK"
    assert state(ALARMS["SweepsMissed"], readings, [(600, 900), (900, 1200)]) == "ALARM"
