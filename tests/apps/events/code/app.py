"""Handlers that note what they are called with, fail, and call others."""

import json
import os
import time
from typing import Any

import boto3
from botocore.exceptions import ClientError


def note(event: Any, context: Any) -> dict[str, Any]:
    """Notes its event in a table, under its request id."""
    item = {"id": {"S": context.aws_request_id}, "event": {"S": json.dumps(event)}}
    item["function"] = {"S": context.function_name}
    if context.client_context is not None:
        item["custom"] = {"S": json.dumps(context.client_context.custom)}
    boto3.client("dynamodb").put_item(TableName=os.environ["SEEN"], Item=item)
    print("noted")
    if isinstance(event, dict) and event.get("raises"):
        raise ValueError("asked to fail")
    if isinstance(event, dict) and event.get("dies"):
        os._exit(3)
    if isinstance(event, dict) and event.get("waits"):
        time.sleep(event["waits"])
    return {"noted": True}


def fail(event: Any, context: Any) -> None:
    """Counts its tries, and fails."""
    boto3.client("dynamodb").update_item(
        TableName=os.environ["SEEN"],
        Key={"id": {"S": context.aws_request_id}},
        UpdateExpression="ADD tries :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )
    if event.get("dies"):
        os._exit(3)
    raise RuntimeError(f"cannot do {event['what']}")


def ask(event: dict[str, Any], context: Any) -> Any:
    """Calls an operation of a service, and returns its answer or its error."""
    client = boto3.client(event["service"])
    arguments = event["arguments"]
    try:
        answer = getattr(client, event["operation"])(**arguments)
    except ClientError as refusal:
        return {"error": refusal.response["Error"], "status": refusal.response["ResponseMetadata"]}
    answer.pop("ResponseMetadata", None)
    if "Payload" in answer:
        answer["Payload"] = json.loads(answer["Payload"].read() or b"null")
    return answer
