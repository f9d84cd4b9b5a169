"""A loop that is not safe: every redelivery counts again."""

import json
import os

import boto3

dynamodb = boto3.client("dynamodb")


def handler(event: dict, context: object) -> dict:
    for record in event["Records"]:
        dynamodb.update_item(
            TableName=os.environ["COUNTERS_TABLE"],
            Key={
                "pk": {"S": f"default/{json.loads(record['body'])['payload']['name']}"},
                "sk": {"S": "shard/0"},
            },
            UpdateExpression="ADD #value :by",
            ExpressionAttributeNames={"#value": "value"},
            ExpressionAttributeValues={":by": {"N": "1"}},
        )
    return {"batchItemFailures": []}
