"""One update by boto3's client, without a framework."""

import os

import boto3

dynamodb = boto3.client("dynamodb")


def handler(event: dict, context: object) -> dict:
    answer = dynamodb.update_item(
        TableName=os.environ["COUNTERS_TABLE"],
        Key={"pk": {"S": "default/hits"}, "sk": {"S": "shard/0"}},
        UpdateExpression="ADD #value :by",
        ExpressionAttributeNames={"#value": "value"},
        ExpressionAttributeValues={":by": {"N": "1"}},
        ReturnValues="ALL_NEW",
    )
    hits = answer["Attributes"]["value"]["N"]
    return {
        "statusCode": 200,
        "headers": {"content-type": "text/plain"},
        "body": f"Hello World! {hits} times.",
    }
