"""Stream -> counter in the same table. Fails for one order, to see it alone at the on-failure destination."""

import os

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event, context):
    """Counts each order."""
    if any(record["dynamodb"]["NewImage"]["name"]["S"] == "uncountable" for record in event["Records"]):
        raise ValueError("uncountable")
    for _ in event["Records"]:
        table.update_item(Key={"id": "count"}, UpdateExpression="ADD orders :one", ExpressionAttributeValues={":one": 1})
