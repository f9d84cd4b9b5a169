"""Stream to counters, by name, in the same table.

Fails for one order, so that a test finds it alone at the on-failure destination.
"""

import os

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event, context):
    """Counts each order."""
    if any(
        record["dynamodb"]["NewImage"]["name"]["S"] == "uncountable" for record in event["Records"]
    ):
        raise ValueError("uncountable")
    for record in event["Records"]:
        name = record["dynamodb"]["NewImage"]["name"]["S"]
        table.update_item(
            Key={"id": f"count of {name}"},
            UpdateExpression="ADD orders :one",
            ExpressionAttributeValues={":one": 1},
        )
