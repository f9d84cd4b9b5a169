"""The relay, the sweep and the SQS edge, through `build` on moto."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from mayfly.aws.queue import Queue
from mayfly.core.observability import observer
from mayfly.jobs.errors import LeaseHeld
from mayfly.jobs.routing.outbox import Outbox
from mayfly.jobs.worker.invocation import entrypoint

from functions.relay_jobs.app import build as build_relay
from functions.relay_jobs.deps import Deps as RelayDeps
from mayfly_testing.stack import wait_until
from tests.support.clients import make_client
from tests.support.events import sqs
from tests.support.fakes import Context, FixedClock
from tests.support.stage import VisibleQueue


@pytest.fixture
def queue(aws: None) -> Queue:
    client = make_client("sqs")
    return Queue(client, client.create_queue(QueueName="jobs")["QueueUrl"])


def stream_event(*ids: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "dynamodb": {
                    "SequenceNumber": f"s-{each}",
                    "NewImage": {
                        "sk": {"S": "job"},
                        "status": {"S": "QUEUED"},
                        "tenant": {"S": "acme"},
                        "id": {"S": each},
                        "task": {"S": "t"},
                    },
                }
            }
            for each in ids
        ]
    }


def received(queue: Queue) -> list[dict[str, str]]:
    bodies: list[dict[str, str]] = []
    request = {"QueueUrl": queue._url, "MaxNumberOfMessages": 10}
    while messages := queue._client.call("ReceiveMessage", request).get("Messages"):
        bodies += [json.loads(message["Body"]) for message in messages]
    return bodies


def test_relay_announces_every_queued_job(queue: Queue) -> None:
    ids = [f"j{number}" for number in range(25)]
    reply = build_relay(
        RelayDeps(outbox=Outbox(queue.send, {}), observe=observer("relay"), clock=FixedClock())
    )(stream_event(*ids), Context())
    assert reply == {"batchItemFailures": []}
    assert sorted(message["id"] for message in received(queue)) == sorted(ids)


def test_item_that_cannot_be_read_is_left_out_and_holds_up_no_other(queue: Queue) -> None:
    event = stream_event("j1", "damaged", "j3")
    del event["Records"][1]["dynamodb"]["NewImage"]["task"]
    reply = build_relay(
        RelayDeps(outbox=Outbox(queue.send, {}), observe=observer("relay"), clock=FixedClock())
    )(event, Context())
    assert reply == {"batchItemFailures": []}
    assert sorted(message["id"] for message in received(queue)) == ["j1", "j3"]


def test_message_belongs_to_the_group_of_its_tenant(queue: Queue) -> None:
    assert (
        queue.send({"1": {"tenant": "acme", "id": "j1"}, "2": {"tenant": "other", "id": "j2"}})
        == set()
    )
    request = {
        "QueueUrl": queue._url,
        "MaxNumberOfMessages": 10,
        "MessageSystemAttributeNames": ["MessageGroupId"],
    }
    reply = queue._client.call("ReceiveMessage", request)
    groups = {
        json.loads(message["Body"])["id"]: message["Attributes"]["MessageGroupId"]
        for message in reply["Messages"]
    }
    assert groups == {"j1": "acme", "j2": "other"}


def test_relay_reports_only_records_that_could_not_be_sent() -> None:
    class Half:
        def send(self, bodies: Any, delays: Any) -> set[str]:
            return {name for name in bodies if name.endswith("2")}

    handler = build_relay(
        RelayDeps(outbox=Outbox(Half().send, {}), observe=observer("relay"), clock=FixedClock())
    )
    assert handler(stream_event("1", "2", "3"), Context()) == {
        "batchItemFailures": [{"itemIdentifier": "s-2"}]
    }


class FakeBatch:
    """Work whose records a test runs itself."""

    def __init__(self, records: Any, run: Callable[[Any], None], beats: list[int]) -> None:
        self.records = records
        self.run = run
        self.calls: list[str] = []
        self._beats = beats

    def prepare(self) -> None:
        self.calls.append("prepare")

    def beat(self) -> None:
        self._beats.append(1)

    def begin(self) -> None:
        self.calls.append("begin")

    def has_started(self, record: Any) -> bool:
        return False

    def close(self) -> dict[str, Exception]:
        self.calls.append("close")
        return {}


def handle(
    event: Any,
    run: Callable[[Any], None],
    visible: VisibleQueue,
    *,
    lease: float,
    context: Context,
    beats: list[int],
) -> Any:
    batches: list[FakeBatch] = []

    def open_batch(records: Any, _: Any) -> Any:
        batches.append(FakeBatch(records, run, beats))
        return batches[-1]

    handler = entrypoint(
        open_batch,
        queue=visible,  # type: ignore[arg-type]  # all that is used
        lease_seconds=lease,
        observe=observer("t"),
    )
    reply = handler(event, context)
    assert [batch.calls for batch in batches] == [["prepare", "begin", "close"]]
    return reply


def test_heartbeat_renews_the_whole_batch_and_ends_with_it() -> None:
    beats: list[int] = []
    visible = VisibleQueue()

    def run(record: Any) -> None:
        if record.message_id == "m1":
            wait_until(lambda: len(beats) >= 3, 10)
        if record.message_id == "m0":
            raise LeaseHeld("j", 7)

    handle(sqs("a", "b", "c"), run, visible, lease=0.3, context=Context(), beats=beats)
    assert visible.asked[0] == {"r0": 0.3, "r1": 0.3, "r2": 0.3}
    renewed = visible.asked[1:-1]
    assert len(renewed) == len(beats)
    # A failed record is renewed, too, for as long as it has to wait: its receipt is needed at the
    # end.
    assert all(
        timeouts == {"r0": pytest.approx(7, abs=2), "r1": 0.3, "r2": 0.3} for timeouts in renewed
    )
    assert visible.asked[-1] == {"r0": pytest.approx(7, abs=2)}
    # Counted from the failure, not from the end of the batch.
    assert visible.asked[-1]["r0"] < renewed[0]["r0"] < 7
    assert "heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_messages_that_could_not_be_hidden_are_in_the_log_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Deaf(VisibleQueue):
        def set_visibility(self, seconds_by_receipt: Any) -> int:
            super().set_visibility(seconds_by_receipt)
            return len(seconds_by_receipt)

    beats: list[int] = []
    visible = Deaf()

    def run(record: Any) -> None:
        wait_until(lambda: len(visible.asked) >= 2, 10)
        raise LeaseHeld("j", 7)

    handle(sqs("a"), run, visible, lease=0.3, context=Context(), beats=beats)
    said = [message for message in caplog.messages if "could not be" in message]
    assert said[0].startswith("the visibility timeout of messages could not be reduced")
    assert set(said[1:-1]) == {
        "messages could not be hidden for longer; the next heartbeat tries again"
    }
    assert said[-1].startswith("the time of messages that go back could not be set")


def test_no_record_runs_before_the_batch_is_hidden() -> None:
    """After a crash, the messages return when the lease ends, not after the queue's timeout."""
    is_hidden, hidden_at_run = threading.Event(), []

    class SlowQueue(VisibleQueue):
        def set_visibility(self, seconds_by_receipt: Any) -> int:
            is_hidden.wait(0.3)  # the store answers slowly
            return super().set_visibility(seconds_by_receipt)

    queue = SlowQueue()
    handle(
        sqs("a"),
        lambda record: hidden_at_run.append(len(queue.asked)),
        queue,
        lease=15,
        context=Context(),
        beats=[],
    )
    assert hidden_at_run == [1]


def test_heartbeat_continues_after_an_unforeseen_failure() -> None:
    class Broken(list[int]):
        def append(self, beat: int) -> None:
            super().append(beat)
            raise ZeroDivisionError

    beats = Broken()

    def run(record: Any) -> None:
        wait_until(lambda: len(beats) >= 3, 10)

    handle(sqs("a"), run, VisibleQueue(), lease=0.3, context=Context(), beats=beats)


def test_record_without_time_before_the_deadline_is_returned_immediately() -> None:
    started, visible, context = [], VisibleQueue(), Context(remaining_ms=2_000)

    def run(record: Any) -> None:
        started.append(record.message_id)
        context._remaining_ms = 1_999

    reply = handle(sqs("a", "b", "c"), run, visible, lease=15, context=context, beats=[])
    assert started == ["m0"]
    assert reply == {"batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": "m2"}]}
    assert visible.asked[-1] == {"r1": 0, "r2": 0}


def test_visibility_is_rounded_up_and_limited_to_the_range_of_sqs(aws: None) -> None:
    entries: list[dict[str, Any]] = []

    class Client:
        def change_message_visibility_batch(self, **call: Any) -> dict[str, Any]:
            entries.extend(call["Entries"])
            return {"Failed": [{}]}

    queue = Queue(Client(), "url")
    failed = queue.set_visibility({"a": 0.2, "b": -1, "c": 10**9})
    assert ([entry["VisibilityTimeout"] for entry in entries], failed) == ([1, 0, 43200], 1)


def test_relay_announces_a_scheduled_job_with_the_remaining_delay() -> None:
    sent: list[tuple[Any, Any]] = []

    class Queue:
        def send(self, bodies: Any, delays: Any) -> set[str]:
            sent.append((bodies, delays))
            return set()

    clock = FixedClock()
    event = stream_event("soon", "late", "far")
    for record, seconds in zip(event["Records"], (30, -5, 5000), strict=True):
        record["dynamodb"]["NewImage"]["not_before"] = {"N": str(clock() + seconds * 1000)}
    event["Records"][2]["dynamodb"]["NewImage"]["due"] = {"S": "due"}
    build_relay(RelayDeps(outbox=Outbox(Queue().send, {}), observe=observer("relay"), clock=clock))(
        event, Context()
    )
    assert ([row["id"] for row in sent[0][0].values()], sent[0][1]) == (
        ["soon", "late"],
        {"s-soon": 30.0, "s-late": 0.0},
    )
