"""Schedule to table: notes the time of each tick."""

import os

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event, context):
    """Writes the current time."""
    table.put_item(
        Item={"id": "tick", "kind": "tick", "at": event["time"], "source": event["source"]}
    )
