"""Reports on records that the relay could not send: from their bucket to the dead letters."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from mayfly import schedules
from mayfly.aws.bucket import Bucket
from mayfly.aws.queue import Queue
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.errors import NotForwarded
from mayfly.jobs.routing.reports import PREFIX, Reports, as_message
from mayfly.jobs.wire import read_stream_gap
from mayfly.schedules.model import Definition

from functions.sweep_jobs.app import build as build_sweep
from functions.sweep_jobs.deps import Deps as SweepDeps
from tests.support.clients import make_client
from tests.support.fakes import Context, FixedClock, Names
from tests.support.faults import Faults, Killed
from tests.support.stage import Counting
from tests.support.stranded import TO, Bury, report
from tests.unit.functions.test_jobs_api import JobsApi
from tests.unit.functions.test_queues import received

MINUTE_MS = 60_000

pytestmark = pytest.mark.usefixtures("streamed")


class Stored:
    """A bucket with reports, as Lambda stores them, and the queue that takes them."""

    def __init__(self) -> None:
        self.client = make_client("s3")
        self.client.create_bucket(Bucket="reports")
        sqs = make_client("sqs")
        self.queue = Queue(sqs, sqs.create_queue(QueueName="failures")["QueueUrl"])
        self.send: Callable[[Mapping[str, str]], set[str]] = self.queue.send_texts
        self.names = Names("report")

    def store(self, text: str | bytes, prefix: str = f"{PREFIX}mapping/shard/") -> None:
        """Stores an object as Lambda does."""
        self.client.put_object(Bucket="reports", Key=prefix + self.names(), Body=text)

    def reports(self) -> Reports:
        """Returns the reports as the sweep has them."""
        return Reports(Bucket(self.client, "reports"), self._send, threads=1)

    def _send(self, texts: Mapping[str, str]) -> set[str]:
        return self.send(texts)

    def left(self) -> int:
        """Returns the number of objects in the bucket."""
        return len(self.client.list_objects_v2(Bucket="reports").get("Contents", []))


@pytest.fixture
def stored(tables: dict[str, str]) -> Stored:
    return Stored()


def with_records(text: str) -> str:
    """Returns a report as a bucket gets it: with the records."""
    return json.dumps({**json.loads(text), "payload": json.dumps({"Records": ["x" * 300_000]})})


def never() -> bool:
    return False


def test_report_in_the_bucket_is_sent_to_the_dead_letters_without_its_records(
    stored: Stored,
) -> None:
    for _ in range(3):
        stored.store(with_records(report()))
    assert stored.reports().forward(is_over=never) == 3
    messages = received(stored.queue)
    assert messages == [json.loads(report())] * 3
    assert stored.left() == 0
    assert stored.reports().forward(is_over=never) == 0


def test_job_whose_announcement_was_given_up_is_resent_through_the_bucket(stored: Stored) -> None:
    bury = Bury(make_client("dynamodb"))
    bury.submit("lost")
    stored.store(with_records(report()))
    stored.reports().forward(is_over=never)
    (message,) = received(stored.queue)
    bury.receive_until_settled(json.dumps(message))
    assert bury.resent() == ["lost"]


def test_report_stays_in_the_bucket_while_sqs_is_down(stored: Stored) -> None:
    stored.store(report())
    stored.send = set
    with pytest.raises(StoreUnavailable, match="forward a report"):
        stored.reports().forward(is_over=never)
    assert (stored.left(), received(stored.queue)) == (1, [])
    stored.send = stored.queue.send_texts
    assert (stored.reports().forward(is_over=never), stored.left()) == (1, 0)


def test_report_is_sent_again_after_a_crash_between_message_and_deletion(stored: Stored) -> None:
    stored.store(report())

    def send_and_die(texts: Mapping[str, str]) -> set[str]:
        stored.queue.send_texts(texts)
        raise Killed

    stored.send = send_and_die
    with pytest.raises(Killed):
        stored.reports().forward(is_over=never)
    stored.send = stored.queue.send_texts
    stored.reports().forward(is_over=never)
    assert len(received(stored.queue)) == 2


def test_deadline_ends_the_passing_on_of_reports_and_the_next_sweep_continues(
    stored: Stored,
) -> None:
    for _ in range(4):
        stored.store(report())
    calls = iter([False, False, False, True])
    assert stored.reports().forward(is_over=lambda: next(calls, True)) == 2
    assert stored.left() == 2


def test_objects_of_others_are_left_alone(stored: Stored) -> None:
    stored.store(report(), prefix="mine/")
    assert (stored.reports().forward(is_over=never), stored.left()) == (0, 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"not JSON",
        b"[1]",
        b"x" * 200_000,
        b'{"a": "' + b"y" * 200_000 + b'"}',
        b"a\x00b\x1b[0m",
        b"\x00" * 200_000,
        "\uffff".encode() * 50_000,
        b'{"a": "\\u0000\\ud800"}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=[
        "empty",
        "binary",
        "text",
        "a list",
        "a long text",
        "a long object",
        "control characters",
        "long and only control characters",
        "no characters",
        "an object with escaped control characters",
        "an object that is nested too deeply",
    ],
)
def test_object_that_is_not_a_report_becomes_a_text_that_a_message_holds(content: bytes) -> None:
    text = as_message(content)
    assert 0 < len(text.encode()) <= 256 * 1024
    assert is_sendable(text)


def is_sendable(text: str) -> bool:
    """Returns whether SQS takes a text, by the list of its API reference."""
    return all(
        ord(c) in (0x9, 0xA, 0xD)
        or 0x20 <= ord(c) <= 0xD7FF
        or 0xE000 <= ord(c) <= 0xFFFD
        or ord(c) >= 0x10000
        for c in text
    )


def test_report_that_the_queue_refuses_holds_up_no_other_one(stored: Stored) -> None:
    for text in ("refused", report(), report(), "refused", report()):
        stored.store(text)

    def send(texts: Mapping[str, str]) -> set[str]:
        return set(texts) if "refused" in texts.values() else stored.queue.send_texts(texts)

    stored.send = send
    with pytest.raises(NotForwarded, match="2 errors") as refused:
        stored.reports().forward(is_over=never)
    assert (refused.value.forwarded, stored.left(), len(received(stored.queue))) == (3, 2, 3)
    sweep = Sweep(stored)
    stored.store(report())
    sweep.run()
    assert (stored.left(), sweep.counted.count("RelayReports")) == (2, 1)


def test_two_sweeps_at_once_forward_each_report(stored: Stored) -> None:
    for _ in range(3):
        stored.store(report())
    others: list[int] = []

    def send_during_another(texts: Mapping[str, str]) -> set[str]:
        stored.send = stored.queue.send_texts
        others.append(stored.reports().forward(is_over=never))
        return stored.queue.send_texts(texts)

    stored.send = send_during_another
    assert stored.reports().forward(is_over=never) == 1  # two of its keys are gone
    assert (others, stored.left(), len(received(stored.queue))) == ([3], 0, 4)


@pytest.mark.parametrize(("remaining_ms", "left"), [(20_000, 1), (20_001, 0)])
def test_sweep_begins_no_report_without_time_for_it(
    stored: Stored, remaining_ms: int, left: int
) -> None:
    stored.store(report())
    Sweep(stored).run(remaining_ms=remaining_ms)
    assert stored.left() == left


@pytest.mark.parametrize(
    ("partition", "handed_out"),
    [("due/0", True), ("schedules/0", False)],
    ids=["release", "schedules"],
)
def test_sweep_does_its_other_steps_if_the_store_refuses_one(
    stored: Stored, partition: str, handed_out: bool
) -> None:
    client = make_client("dynamodb")
    faults = Faults(client)
    sweep = Sweep(stored, client)
    stored.store(report())
    definition = Definition("t", {}, None, None, 60, "UTC")
    schedules.define(sweep.api.schedules, "s", definition, tenant="acme")
    sweep.api.clock.advance(600)
    before = sweep.jobs()
    faults.on("Query", "throttle", times=3, text=partition)
    with pytest.raises(StoreUnavailable):
        sweep.run()
    assert stored.left() == 0
    assert sweep.counted.count("SweepFailed") == 1
    assert (sweep.jobs() > before) is handed_out


@pytest.mark.parametrize("has_times", [True, False])
def test_report_says_the_same_with_and_without_its_records(has_times: bool) -> None:
    text = report() if has_times else report(None, None, reported_ms=TO)
    passed_on = as_message(with_records(text).encode())
    assert read_stream_gap(passed_on) == read_stream_gap(text)


class Sweep:
    """A sweep with a bucket of reports."""

    def __init__(self, stored: Stored, client: Any = None) -> None:
        api = self.api = JobsApi(client or make_client("dynamodb"))
        self.counted: list[str] = []
        self.clock = FixedClock()
        self._handler = build_sweep(
            SweepDeps(
                operations=api.operations,
                schedules=api.schedules,
                observe=Counting(self.counted),
                clock=self.clock,
                reports=stored.reports,
            )
        )

    def run(
        self, event: dict[str, Any] | None = None, *, remaining_ms: int = 60_000
    ) -> dict[str, int]:
        """Runs the sweep."""
        return self._handler(event or {}, Context(remaining_ms))

    def jobs(self) -> int:
        """Returns the number of jobs, with those of schedules."""
        items = self.api.client.scan(TableName="JobsTable")["Items"]
        return sum(item["sk"]["S"] == "job" for item in items)


def test_sweep_looks_for_reports_once_in_ten_minutes(stored: Stored) -> None:
    stored.store(report())
    sweep, left = Sweep(stored), []
    assert sweep.clock() // MINUTE_MS % 10 == 0
    sweep.clock.advance(60)
    for _ in range(10):
        sweep.run()
        left.append(stored.left())
        sweep.clock.advance(60)
    assert left == [1] * 9 + [0]
    assert sweep.counted.count("RelayReports") == 1


def test_operator_can_have_reports_passed_on_now(stored: Stored) -> None:
    stored.store(report())
    sweep = Sweep(stored)
    sweep.clock.advance(60)
    sweep.run({"reports": True})
    assert stored.left() == 0


def test_sweep_succeeds_although_the_reports_cannot_be_passed_on(stored: Stored) -> None:
    stored.store(report())
    stored.send = set
    assert Sweep(stored).run() == {"handed_out": 0, "released": 0}
    stored.client.delete_object(Bucket="reports", Key=f"{PREFIX}mapping/shard/report1")
    stored.client.delete_bucket(Bucket="reports")
    assert Sweep(stored).run() == {"handed_out": 0, "released": 0}
