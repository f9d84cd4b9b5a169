"""The number of jobs a second that are received, run and committed."""

import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mayfly_testing.stack import Stack, running, wait_until

QUESTION = (
    "how many jobs a second does the local stack complete, from the first submit to the "
    "last commit, in batches of 10?"
)
JOBS = 400


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns jobs a second by HTTP and by queue."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stack:
        _by_http(stack, "warm", 40)
        _by_queue(stack, "warm-too", 40)
        figures = {
            "jobs/s by HTTP (4 clients)": round(JOBS / _by_http(stack, "http", JOBS), 1),
            "jobs/s by queue": round(JOBS / _by_queue(stack, "queue", JOBS), 1),
        }
    say(f"{JOBS} jobs each way, one increment each, all on one counter")
    return figures


def _by_http(stack: Stack, name: str, count: int) -> float:
    started = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: stack.submit("counter.add", {"name": name}), range(count)))
    return _until_counted(stack, name, count, started)


def _by_queue(stack: Stack, name: str, count: int) -> float:
    sqs, url = stack.client("sqs"), stack.facts["outputs"]["JobsQueueUrl"]
    body = json.dumps({"task": "counter.add", "payload": {"name": name}})
    started = time.monotonic()
    for start in range(0, count, 10):
        sqs.send_message_batch(
            QueueUrl=url,
            Entries=[
                {"Id": str(index), "MessageBody": body} for index in range(min(10, count - start))
            ],
        )
    return _until_counted(stack, name, count, started)


def _until_counted(stack: Stack, name: str, count: int, started: float) -> float:
    client, table = stack.client("dynamodb"), stack.facts["resources"]["CountersTable"]
    key = {"pk": {"S": f"default/{name}"}, "sk": {"S": "shard/0"}}

    def value() -> int:
        return int(
            client.get_item(TableName=table, Key=key, ConsistentRead=True)
            .get("Item", {})
            .get("value", {"N": "0"})["N"]
        )

    wait_until(lambda: value() >= count, 300, interval=0.05)
    taken = time.monotonic() - started
    assert value() == count
    return taken
