"""Tables on moto, and the settings of functions, for unit tests."""

import os
from collections.abc import Iterator
from types import SimpleNamespace

import boto3
import pytest
from moto import mock_aws

# Before any client is made: no test may use a real account.
os.environ.update(
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_REGION="us-east-1",
    AWS_DEFAULT_REGION="us-east-1",
    COUNTERS_TABLE="counters",
    JOBS_TABLE="jobs",
    JOBS_QUEUE_URL="https://queue",
    DEFAULT_TENANT="default",
    MAYFLY_TASKS="{{cookiecutter.project_name}}.tasks",
    POWERTOOLS_METRICS_NAMESPACE="{{cookiecutter.project_name}}",
)


@pytest.fixture
def tables() -> Iterator[dict[str, str]]:
    """Makes the tables on moto; returns the settings that name them."""
    names = {"COUNTERS_TABLE": "counters", "JOBS_TABLE": "jobs"}
    keys = [("pk", "HASH"), ("sk", "RANGE")]
    with mock_aws():
        for table in names.values():
            boto3.client("dynamodb").create_table(
                TableName=table,
                KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
                AttributeDefinitions=[
                    {"AttributeName": name, "AttributeType": "S"} for name, _ in keys
                ],
                BillingMode="PAY_PER_REQUEST",
            )
        yield names


@pytest.fixture
def context() -> SimpleNamespace:
    """Returns the second argument of a handler."""
    return SimpleNamespace(
        get_remaining_time_in_millis=lambda: 10_000,
        function_name="test",
        memory_limit_in_mb=512,
        invoked_function_arn="",
        aws_request_id="1",
    )
