"""Schedule -> table: notes the time of the tick."""

import os

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event, context):
    """Writes what the clock says."""
    table.put_item(
        Item={"id": "tick", "kind": "tick", "at": event["time"], "source": event["source"]}
    )
