"""A function that reads its settings, and calls what an event names."""

import json
import os

import boto3
from botocore.exceptions import ClientError


def handler(event, context):
    """Returns what a call answers, or its error."""
    secrets = boto3.client("secretsmanager")
    calls = {
        "variables": lambda: dict(os.environ),
        "secret": lambda: secrets.get_secret_value(SecretId=os.environ["SECRET"])["SecretString"],
        "other secret": lambda: secrets.get_secret_value(SecretId=os.environ["OTHER"]),
        "parameter": lambda: boto3.client("ssm").get_parameter(Name=os.environ["PARAMETER"])[
            "Parameter"
        ]["Value"],
        "flow": lambda: boto3.client("stepfunctions").start_execution(
            stateMachineArn=os.environ["FLOW"]
        ),
        "socket": lambda: boto3.client("apigatewaymanagementapi").post_to_connection(
            ConnectionId="a", Data=b"hello"
        ),
        "bedrock": lambda: boto3.client("bedrock").list_foundation_models(),
        "instances": lambda: boto3.client("ec2").describe_instances(),
    }
    try:
        return json.loads(json.dumps(calls[event["call"]](), default=str))
    except ClientError as refused:
        error = refused.response["Error"]
        return {"code": error["Code"], "message": error["Message"]}
