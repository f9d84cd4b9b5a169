"""A worker function in its own process, for measurements; run as a script.

A command is one line of JSON: `{"batches": n, "counters": [names], "task"}`. The answer has CPU and
wall milliseconds, calls and serial round trips a batch, and failed records.
"""

import json
import os
import runpy
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import botocore.httpsession

__all__ = ["main"]


class _Seam:
    """Counts requests, and the ones that had to wait for others: serial round trips."""

    def __init__(self) -> None:
        self.calls = self.serial = self._flying = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        """Replaces the methods by which boto3 and the lean client send a request.

        They are below all retries.
        """
        session = botocore.httpsession.URLLib3Session
        # The types of both do not expect that a method is replaced.
        # Below all retries, where each request is counted.
        session.send = self._counted(session.send)  # type: ignore[method-assign]
        if os.environ.get("MAYFLY_CLIENT") == "lean":
            from mayfly.aws.connections import Connections

            counted = self._counted(Connections.exchange)
            Connections.exchange = counted  # type: ignore[method-assign]  # below all retries

    def _counted(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def count(*request: Any) -> Any:
            with self._lock:
                self.calls += 1
                self.serial += self._flying == 0
                self._flying += 1
            try:
                return send(*request)
            finally:
                with self._lock:
                    self._flying -= 1

        return count


class _Context:
    function_name = "bench"
    memory_limit_in_mb = "512"
    invoked_function_arn = aws_request_id = "bench"

    def get_remaining_time_in_millis(self) -> int:
        """Returns enough time for any batch."""
        return 60_000


def main() -> None:
    """Serves commands until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # The worker's log must not be read as an answer.
    sys.path.insert(0, os.getcwd())
    handler = runpy.run_module(sys.argv[1])["handler"]
    queue = os.environ["JOBS_QUEUE_URL"]
    sqs = boto3.client("sqs") if os.environ.get("BENCH_REAL_QUEUE") else None
    seam = _Seam()
    seam.install()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        cpu = wall = 0.0
        calls = serial = failed = 0
        for _ in range(command["batches"]):
            event = _event(command, sqs, queue)
            seam.calls = seam.serial = 0
            started, cpu_started = time.perf_counter(), time.process_time()
            reply = handler(event, _Context())
            cpu += time.process_time() - cpu_started
            wall += time.perf_counter() - started
            calls, serial = calls + seam.calls, serial + seam.serial
            # As Lambda does. A redelivered message would be cheaper the second time.
            if sqs is not None:
                receipts = [record["receiptHandle"] for record in event["Records"]]
                sqs.delete_message_batch(
                    QueueUrl=queue,
                    Entries=[
                        {"Id": str(index), "ReceiptHandle": receipt}
                        for index, receipt in enumerate(receipts)
                    ],
                )
            failed += len(reply["batchItemFailures"])
        count = command["batches"]
        print(
            json.dumps(
                {
                    "cpu": cpu / count * 1000,
                    "wall": wall / count * 1000,
                    "calls": calls / count,
                    "serial": serial / count,
                    "failed": failed,
                }
            ),
            file=answers,
            flush=True,
        )


def _event(command: dict[str, Any], sqs: Any, queue: str) -> dict[str, Any]:
    bodies = [
        json.dumps({"task": command["task"], "payload": {"name": name}})
        for name in command["counters"]
    ]
    if sqs is None:
        return {"Records": [_record(uuid.uuid4().hex, uuid.uuid4().hex, body) for body in bodies]}
    sqs.send_message_batch(
        QueueUrl=queue,
        Entries=[{"Id": str(index), "MessageBody": body} for index, body in enumerate(bodies)],
    )
    messages: list[Any] = []
    while len(messages) < len(bodies):
        messages += sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1
        ).get("Messages", [])
    return {
        "Records": [
            _record(message["MessageId"], message["ReceiptHandle"], message["Body"])
            for message in messages
        ]
    }


def _record(message_id: str, receipt: str, body: str) -> dict[str, Any]:
    return {
        "messageId": message_id, "receiptHandle": receipt, "body": body,
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {}, "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:bench", "awsRegion": "us-east-1",
    }  # fmt: skip


if __name__ == "__main__":
    main()
