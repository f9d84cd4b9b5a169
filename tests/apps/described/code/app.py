"""Handlers: one answers a request, the other one reads the stack's outputs."""

import json
import os
from typing import Any

import boto3
from botocore.exceptions import ClientError


def hello(event: Any, context: Any) -> dict[str, Any]:
    """Answers each request with the same message."""
    return {"statusCode": 200, "body": json.dumps({"message": "hello"})}


def read(event: Any, context: Any) -> dict[str, Any]:
    """Returns the outputs of the stack, or the code of the error."""
    client = boto3.client("cloudformation")
    try:
        (stack,) = client.describe_stacks(StackName=os.environ["STACK"])["Stacks"]
    except ClientError as refused:
        return {"code": refused.response["Error"]["Code"]}
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
