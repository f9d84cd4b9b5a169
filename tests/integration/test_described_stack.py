"""DescribeStacks and its neighbours tell users' tests and functions about the running stack."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError

from mayfly_testing.stack import MAYFLY, ROOT, Stack, running

TEMPLATE = ROOT / "tests" / "apps" / "described" / "template.yaml"
NAME = "app-described"
ARN = re.compile(r"arn:aws:(\w+):us-east-1:000000000000:(.+)")
#: A user's test as the starters of `sam init` have it: it knows only the name of the stack.
USERS_TEST = """
import os

import boto3
import pytest
import requests


@pytest.fixture
def url():
    client = boto3.client("cloudformation")
    reply = client.describe_stacks(StackName=os.environ["AWS_SAM_STACK_NAME"])
    outputs = reply["Stacks"][0]["Outputs"]
    return next(one["OutputValue"] for one in outputs if one["OutputKey"] == "HelloApi")


def test_page_answers(url):
    reply = requests.get(url)
    assert (reply.status_code, reply.json()) == (200, {"message": "hello"})
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("described"), template=TEMPLATE) as found:
        yield found


@pytest.fixture
def client(stack: Stack) -> Any:
    return stack.client("cloudformation")


def outputs(described: dict[str, Any]) -> dict[str, str]:
    return {one["OutputKey"]: one["OutputValue"] for one in described["Outputs"]}


def called(stack: Stack, function: str) -> Any:
    reply = stack.client("lambda").invoke(FunctionName=function, Payload=b"{}")
    return json.loads(reply["Payload"].read())


def test_users_test_finds_the_api_with_the_variables_of_mayfly_env(
    stack: Stack, tmp_path: Path
) -> None:
    printed = subprocess.run(
        [str(MAYFLY), "env", "--work", str(stack.work), "--json"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (tmp_path / "test_page.py").write_text(USERS_TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"],
        cwd=tmp_path, env={"PATH": os.defpath, **json.loads(printed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


def test_stack_is_described_as_its_template_says(stack: Stack, client: Any) -> None:
    (described,) = client.describe_stacks(StackName=NAME)["Stacks"]
    values = outputs(described)
    assert requests.get(values.pop("HelloApi"), timeout=30).json() == {"message": "hello"}
    table = stack.facts["resources"]["Items"]
    login = stack.client("secretsmanager").list_secrets()["SecretList"][0]["ARN"]
    assert values == {
        "HelloFunction": "arn:aws:lambda:us-east-1:000000000000:function:Hello",
        "ItemsTable": table, "Login": login,
    }  # fmt: skip
    assert (described["StackName"], described["StackStatus"]) == (NAME, "CREATE_COMPLETE")
    assert described["Description"].startswith("An application whose tests")
    by_key = {one["OutputKey"]: one for one in described["Outputs"]}
    assert by_key["HelloApi"]["Description"] == "The address of the page"
    assert by_key["ItemsTable"]["ExportName"] == f"{NAME}-items"
    assert "ExportName" not in by_key["HelloApi"]


def test_stack_is_found_by_its_id_and_without_a_name(client: Any) -> None:
    (named,) = client.describe_stacks(StackName=NAME)["Stacks"]
    assert client.describe_stacks(StackName=named["StackId"])["Stacks"] == [named]
    assert client.describe_stacks()["Stacks"] == [named]
    assert [one["StackId"] for one in client.list_stacks()["StackSummaries"]] == [named["StackId"]]


def test_resources_have_their_types_and_ids(stack: Stack, client: Any) -> None:
    found = {
        one["LogicalResourceId"]: (one["ResourceType"], one["PhysicalResourceId"])
        for one in client.describe_stack_resources(StackName=NAME)["StackResources"]
    }
    wanted = {
        "Hello": ("AWS::Lambda::Function", "Hello"),
        "HelloRole": ("AWS::IAM::Role", "HelloRole"),
        "Items": ("AWS::DynamoDB::Table", stack.facts["resources"]["Items"]),
    }
    assert {name: found[name] for name in wanted} == wanted
    for name, service in {"Login": "secretsmanager", "Flow": "states"}.items():
        match = ARN.fullmatch(found[name][1])
        assert match is not None
        assert match[1] == service
    assert found["ServerlessRestApi"][0] == "AWS::ApiGateway::RestApi"
    listed = client.list_stack_resources(StackName=NAME)["StackResourceSummaries"]
    assert {one["LogicalResourceId"] for one in listed} == set(found)
    one = client.describe_stack_resource(StackName=NAME, LogicalResourceId="Items")
    assert one["StackResourceDetail"]["PhysicalResourceId"] == found["Items"][1]


def test_resources_are_found_by_the_id_of_one_of_them(stack: Stack, client: Any) -> None:
    wanted = client.describe_stack_resources(StackName=NAME)["StackResources"]
    for physical in (stack.facts["resources"]["Items"], "Hello"):
        found = client.describe_stack_resources(PhysicalResourceId=physical)["StackResources"]
        assert found == wanted
    with pytest.raises(ClientError, match="Stack for no-such-id does not exist") as refused:
        client.describe_stack_resources(PhysicalResourceId="no-such-id")
    assert refused.value.response["Error"]["Code"] == "ValidationError"


def test_function_reads_the_outputs_if_its_role_allows_it(stack: Stack, client: Any) -> None:
    (described,) = client.describe_stacks(StackName=NAME)["Stacks"]
    assert called(stack, "Reader") == outputs(described)
    assert called(stack, "Stranger") == {"code": "AccessDenied"}


def test_template_and_events_are_those_of_the_state(client: Any) -> None:
    (described,) = client.describe_stacks(StackName=NAME)["Stacks"]
    assert "Parameters" not in described or described["Parameters"] == []
    template = client.get_template(StackName=NAME)["TemplateBody"]
    events = client.describe_stack_events(StackName=NAME)["StackEvents"]
    assert set(template["Resources"]) == {"Items", "Login"}
    assert {one["LogicalResourceId"] for one in events} == {"Items", "Login", NAME}
    assert client.list_exports()["Exports"] == []


def test_other_name_is_answered_with_the_name_of_this_stack(client: Any) -> None:
    for operation in ("describe_stacks", "describe_stack_resources", "list_stack_resources"):
        with pytest.raises(ClientError, match=f"sam-app does not exist; {NAME} runs") as refused:
            getattr(client, operation)(StackName="sam-app")
        assert refused.value.response["Error"]["Code"] == "ValidationError"
