"""The cost of a batch of ten jobs in calls and units: counts, equal on every machine."""

import json
import os
import runpy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
from mayfly.core.ids import new_id
from mayfly.jobs.authoring.task import Task
from mayfly.jobs.model import Job, Status

from bench.batch import make_stores
from bench.meter import metered
from functions.run_jobs.app import build
from functions.run_jobs.deps import Deps as RunDeps
from functions.run_jobs.deps import from_environ as run_jobs_deps
from mayfly_local.account import REGION
from mayfly_local.iam.credentials import FOREIGN
from mayfly_testing.stack import ROOT, emulator

QUESTION = (
    "how many store calls and units does a batch of ten jobs cost, one increment each, "
    "everything within 1 KB?"
)
BATCH = 10


class Context:
    """Lambda's context, with the parts that handlers use."""

    function_name = "bench"
    memory_limit_in_mb = "512"
    invoked_function_arn = aws_request_id = "bench"

    def get_remaining_time_in_millis(self) -> int:
        """Returns enough time for any batch."""
        return 60_000


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns calls and units of a batch.

    They are by the source of the jobs, and by whether they share a counter.
    """
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, emulator(Path(folder)) as endpoint:
        os.environ.update(
            {
                **FOREIGN.variables,
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "POWERTOOLS_METRICS_DISABLED": "true",
            }
        )
        queue = make_stores(endpoint, Path(folder))
        variables = {
            "JOBS_TABLE": "JobsTable",
            "COUNTERS_TABLE": "CountersTable",
            "IMPORTS_BUCKET": "imports",
            "JOBS_QUEUE_URL": queue,
            "DEFAULT_TENANT": "default",
        }
        with metered() as cost:
            deps = run_jobs_deps(variables)
            add = deps.worker.tasks["counter.add"]
            exclusive = replace(add.declaration, name="bench.exclusive", exclusive=True)
            # A worker only reads its tasks, so the field is a Mapping; it is a dict.
            deps.worker.tasks["bench.exclusive"] = Task(exclusive, add.run)  # type: ignore[index]
            handler = build(deps)
            os.environ |= {
                "IDEMPOTENCY_TABLE": "Idempotency",
                "COUNTERS_TABLE": "CountersTable",
                "POWERTOOLS_SERVICE_NAME": "bench",
            }
            recipe = runpy.run_path(str(ROOT / "mayfly_lab/stock/main.py"))["handler"]
            for way, run, task, is_submitted in (
                ("documented recipe", recipe, "", False),
                ("ours, optimistic, messages", handler, "counter.add", False),
                ("ours, optimistic, submitted", handler, "counter.add", True),
                ("ours, exclusive, messages", handler, "bench.exclusive", False),
                ("ours, exclusive, submitted", handler, "bench.exclusive", True),
            ):
                for counters in ("one counter", "ten counters"):
                    name = f"{way}, {counters}"
                    prefix = name.replace(", ", ".").replace(" ", "-")
                    payloads = [
                        {"name": f"{prefix}-{number if counters == 'ten counters' else 0}"}
                        for number in range(BATCH)
                    ]
                    event = received(
                        queue,
                        [
                            _body(deps, task, payload, is_submitted=is_submitted)
                            for payload in payloads
                        ],
                    )
                    cost.reset()
                    # The context has what the handlers use of Lambda's.
                    reply = run(event, Context())  # type: ignore[arg-type]
                    assert reply == {"batchItemFailures": []}
                    figures |= {
                        f"{name}: calls a batch": sum(cost.calls.values()),
                        f"{name}: write units a job": cost.write_units / BATCH,
                        f"{name}: units a job, reads at a fifth": round(
                            (cost.write_units + cost.read_units / 5) / BATCH, 2
                        ),
                    }
                    calls = (f"{count} {call}" for call, count in sorted(cost.calls.items()))
                    say(f"{name}: {', '.join(calls)}")
                    delete(queue, event)
                    # The jobs did the work that was measured.
                    names = {payload["name"] for payload in payloads}
                    assert sum(_count(counter) for counter in names) == BATCH
    return figures


def _body(
    deps: RunDeps, task: str, payload: Mapping[str, Any], *, is_submitted: bool
) -> Mapping[str, Any]:
    if not is_submitted:
        return {"task": task, "payload": payload}
    fingerprint, now_ms = "0123456789abcdef0123456789abcdef", deps.worker.clock()
    job = Job(new_id(), "default", task, payload, Status.QUEUED, 5, now_ms, fingerprint)
    deps.worker.store.create(job)
    return {"tenant": "default", "id": job.id}


def _count(counter: str) -> int:
    key = {"pk": {"S": f"default/{counter}"}, "sk": {"S": "shard/0"}}
    item = boto3.client("dynamodb").get_item(
        TableName="CountersTable", Key=key, ConsistentRead=True
    )["Item"]
    return int(item["value"]["N"])


def delete(queue: str, event: Mapping[str, Any]) -> None:
    """Deletes an event's messages, as Lambda does when they are done."""
    entries = [
        {"Id": str(index), "ReceiptHandle": record["receiptHandle"]}
        for index, record in enumerate(event["Records"])
    ]
    sqs = boto3.client("sqs")
    # The stubs want a TypedDict, which a comprehension does not make.
    sqs.delete_message_batch(QueueUrl=queue, Entries=entries)  # type: ignore[arg-type]


def received(queue: str, bodies: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns an event with messages that were sent to a queue and received from it."""
    sqs = boto3.client("sqs")
    sqs.send_message_batch(
        QueueUrl=queue,
        Entries=[{"Id": str(i), "MessageBody": json.dumps(body)} for i, body in enumerate(bodies)],
    )
    messages: list[Any] = []
    while len(messages) < len(bodies):
        messages += sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1, AttributeNames=["All"]
        )["Messages"]
    return {
        "Records": [
            {
                "messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"], "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:jobs", "awsRegion": REGION,
            }
            for message in messages
        ]
    }  # fmt: skip
