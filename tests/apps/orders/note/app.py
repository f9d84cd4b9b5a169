"""Queue to table.

Refuses one order, so that a test finds it alone in the dead-letter queue.
"""

import json
import os

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event, context):
    """Notes each order with the size of its batch."""
    failed = []
    for record in event["Records"]:
        order = json.loads(record["body"])
        if order["name"] == "refused":
            failed.append({"itemIdentifier": record["messageId"]})
            continue
        table.put_item(
            Item={
                "id": record["messageId"],
                "kind": "order",
                "batch": len(event["Records"]),
                **order,
            }
        )
    return {"batchItemFailures": failed}
