"""What a batch of ten jobs costs, in calls and in units: counts, the same on every machine."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
from mayfly import wiring
from mayfly.jobs.model import Job, Status

from bench.meter import metered
from functions.run_jobs import tasks
from functions.run_jobs.app import build
from local.clients import CREDENTIALS
from local.harness import ROOT, embedded_store
from local.template import REGION, load

QUESTION = "how many store calls and units does a batch of ten jobs cost, one increment each, everything within 1 KB?"
BATCH = 10


class _Context:
    function_name = "bench"
    memory_limit_in_mb = "512"
    invoked_function_arn = aws_request_id = "bench"

    def get_remaining_time_in_millis(self) -> int:
        """Plenty."""
        return 60_000


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Calls and units a batch, by where the jobs come from and whether they share a counter."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, embedded_store(Path(folder)) as endpoint:
        os.environ.update(
            {
                **CREDENTIALS,
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "POWERTOOLS_METRICS_DISABLED": "true",
            }
        )
        queue = _make_stores(Path(folder))
        variables = {"JOBS_TABLE": "JobsTable", "COUNTERS_TABLE": "CountersTable", "JOBS_QUEUE_URL": queue, "DEFAULT_TENANT": "default"}
        with metered() as cost:
            deps = wiring.run_jobs(variables, tasks)
            handler = build(deps)
            for source, counters in (("wakes", "one"), ("wakes", "ten"), ("messages", "one"), ("messages", "ten")):
                bodies = [_body(deps, source, f"{source}-{counters}", number, counters == "ten") for number in range(BATCH)]
                event = _received(queue, bodies)
                cost.reset()
                assert handler(event, _Context()) == {"batchItemFailures": []}  # type: ignore[arg-type]  # plays it
                name = f"{'submitted jobs' if source == 'wakes' else 'jobs from the queue'}, {counters} counter{'s' * (counters == 'ten')}"
                figures[f"{name}: calls a batch"] = sum(cost.calls.values())
                figures[f"{name}: write units a job"] = cost.write_units / BATCH
                figures[f"{name}: read units a job"] = cost.read_units / BATCH
                say(f"{name}: {', '.join(f'{count} {call}' for call, count in cost.calls.items())}")
    return figures


def _make_stores(work: Path) -> str:
    client = boto3.client("dynamodb")
    for name, table in load(ROOT / "template.yaml", cache=work).of_type("AWS::DynamoDB::Table").items():
        wanted = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
        client.create_table(TableName=name, **{key: value for key, value in table.items() if key in wanted})
    return str(boto3.client("sqs").create_queue(QueueName="jobs")["QueueUrl"])


def _body(deps: wiring.RunDeps, source: str, name: str, number: int, own_counter: bool) -> Mapping[str, Any]:
    payload = {"name": f"{name}-{number}" if own_counter else name}
    if source == "messages":
        return {"task": "counter.add", "payload": payload}
    job = Job(f"{name}-{number}", "default", "counter.add", payload, Status.QUEUED, 5, deps.worker.clock(), "f")
    deps.worker.store.create(job)
    return {"tenant": "default", "id": job.id}


def _received(queue: str, bodies: list[Mapping[str, Any]]) -> dict[str, Any]:
    sqs = boto3.client("sqs")
    sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": str(i), "MessageBody": json.dumps(each)} for i, each in enumerate(bodies)])
    messages: list[Any] = []
    while len(messages) < len(bodies):
        messages += sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1, AttributeNames=["All"])["Messages"]
    return {
        "Records": [
            {
                "messageId": each["MessageId"], "receiptHandle": each["ReceiptHandle"], "body": each["Body"],
                "attributes": each["Attributes"], "messageAttributes": {}, "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:jobs", "awsRegion": REGION,
            }
            for each in messages
        ]
    }  # fmt: skip
