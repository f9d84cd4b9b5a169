"""The poller of a queue, with a queue that a test writes."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from mayfly_local.application.model import QueueSource
from mayfly_local.compute.invocation import Invocation, Reply
from mayfly_local.emulator.clients import Clients
from mayfly_local.logs import Logs
from mayfly_local.sources.queues import QueuePoller

DEEP = "[" * 200_000


class Queue:
    """A queue with batches of messages, which notes what is deleted."""

    def __init__(self, *batches: list[dict[str, Any]]) -> None:
        self.batches = list(batches)
        self.deleted: list[str] = []
        #: Refusals of the next calls, by operation.
        self.refused: dict[str, int] = {}

    def of(self, function: str) -> "Queue":
        return self

    async def call(self, service: str, operation: str, **asked: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.refused.get(operation):
            self.refused[operation] -= 1
            raise ClientError({"Error": {"Code": "QueueDoesNotExist"}}, operation)
        match operation:
            case "get_queue_url":
                return {"QueueUrl": "q"}
            case "receive_message":
                return {"Messages": self.batches.pop(0) if self.batches else []}
            case "delete_message_batch":
                self.deleted += [entry["ReceiptHandle"] for entry in asked["Entries"]]
        return {}


def message(name: str, body: str = "{}", **attributes: Any) -> dict[str, Any]:
    return {
        "MessageId": name,
        "ReceiptHandle": name,
        "Body": body,
        "MessageAttributes": attributes,
    }


def poll(
    folder: Path,
    queue: Queue,
    invoke: Callable[[Any], Any],
    *,
    deleted: list[str],
    patterns: tuple[Any, ...] = (),
) -> list[dict[str, Any]]:
    """Polls until the messages are deleted; returns the entries of the log."""
    source = QueueSource(
        function="F", queue_arn="arn:aws:sqs:us-east-1:000000000000:q", batch_size=10,
        window_seconds=0, reports_failures=True, concurrency=1, patterns=patterns,
    )  # fmt: skip
    logs = Logs(folder, form="json", out=(out := io.StringIO()))

    async def serve(function: str, invocation: Invocation) -> Reply:
        return Reply(json.dumps(invoke(json.loads(invocation.event))).encode())

    async def run() -> None:
        poller = QueuePoller(source, cast("Clients", queue), serve, logs.of("test"), poll_seconds=0)
        task = asyncio.ensure_future(poller.run())
        async with asyncio.timeout(20):
            while queue.deleted != deleted or (poller.is_busy and queue.batches):
                assert not task.done(), task.exception()
                await asyncio.sleep(0.001)
        poller.stop()
        await task

    asyncio.run(run())
    logs.close()
    return [json.loads(line) for line in out.getvalue().splitlines()]


BATCHES = {
    "binary attribute": message("b", trace={"DataType": "Binary", "BinaryValue": b"\x01\xff"}),
    "lone surrogate": message("b", body='"caf\udce9"'),
    "deep body": message("b", body=DEEP),
}


#: Accepts a body of any form.
ANY_BODY = {"body": [{"exists": True}, {"exists": False}]}


@pytest.mark.parametrize("patterns", [(), (ANY_BODY,)], ids=["all", "filter"])
@pytest.mark.parametrize("odd", BATCHES.values(), ids=BATCHES)
def test_odd_message_reaches_its_function_with_its_neighbours(
    tmp_path: Path, odd: dict[str, Any], patterns: tuple[Any, ...]
) -> None:
    got: list[Any] = []

    def invoke(event: Any) -> Any:
        got.append([record["messageId"] for record in event["Records"]])
        return None

    queue = Queue([message("a"), odd, message("c")])
    log = poll(tmp_path, queue, invoke, deleted=["a", "b", "c"], patterns=patterns)
    assert got == [["a", "b", "c"]]
    assert [entry for entry in log if entry["level"] == "ERROR"] == []


def test_batch_that_fails_in_an_unforeseen_way_is_in_the_log_and_the_next_one_runs(
    tmp_path: Path,
) -> None:
    def invoke(event: Any) -> Any:
        if event["Records"][0]["messageId"] == "a":
            raise ZeroDivisionError("in the runtime")
        return None

    log = poll(tmp_path, Queue([message("a")], [message("b")]), invoke, deleted=["b"])
    failed = [entry for entry in log if entry["level"] == "ERROR"]
    assert [(entry["type"], entry["reason"], entry["function"]) for entry in failed] == [
        ("batch failed", "ZeroDivisionError: in the runtime", "F")
    ]


@pytest.mark.parametrize("operation", ["get_queue_url", "get_queue_attributes", "receive_message"])
def test_refused_call_does_not_end_the_poller(tmp_path: Path, operation: str) -> None:
    queue = Queue([message("a")])
    queue.refused[operation] = 1
    entries = poll(tmp_path, queue, lambda event: None, deleted=["a"])
    assert [entry["type"] for entry in entries] == ["poll failed"]
