"""POST /orders/{name}: puts an order on the queue."""

import json
import os

import boto3

sqs = boto3.client("sqs")


def handler(event, context):
    """Answers 202 with the shop's name."""
    order = {"name": event["pathParameters"]["name"], "note": event.get("body")}
    sqs.send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps(order))
    return {"statusCode": 202, "body": os.environ["SHOP"]}
