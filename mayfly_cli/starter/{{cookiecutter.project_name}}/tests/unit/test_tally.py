"""An order is counted once, however often its message comes."""

import json
from types import SimpleNamespace

from mayfly import counters, resources


def message(body: object) -> dict[str, object]:
    """Returns the event of one message, as SQS delivers it."""
    record = {
        "messageId": "m1",
        "receiptHandle": "m1",
        "body": json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:1:jobs",
    }
    return {"Records": [record]}


def test_order_is_counted_once(tables: dict[str, str], context: SimpleNamespace) -> None:
    from mayfly_functions.run_jobs.main import handler

    event = message({"task": "orders.tally", "payload": {"items": 3}})
    for _ in range(3):
        assert handler(event, context) == {"batchItemFailures": []}
    store = resources.counter_store(tables)
    assert counters.read(store, "orders", tenant="default").value == 1
    assert counters.read(store, "items", tenant="default").value == 3
