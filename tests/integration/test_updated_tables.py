"""Tables of a saved state under a changed template: what is added, and what is refused."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mayfly_testing.stack import MAYFLY, Stack, await_start, launch, unused_port

PK = {"AttributeName": "pk", "AttributeType": "S"}
OF = {"AttributeName": "of", "AttributeType": "S"}
BEFORE: dict[str, Any] = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [PK],
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
}
INDEX = {
    "IndexName": "by-of",
    "KeySchema": [{"AttributeName": "of", "KeyType": "HASH"}],
    "Projection": {"ProjectionType": "ALL"},
}
WITH_INDEX = {
    **BEFORE,
    "AttributeDefinitions": [PK, OF],
    "GlobalSecondaryIndexes": [INDEX],
    "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
    "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
}


class Application:
    """An application of one table, with a state that stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.template = folder / "app" / "template.yaml"
        self.template.parent.mkdir()
        self.port = unused_port()

    def write(self, table: dict[str, Any]) -> None:
        resource = {"Type": "AWS::DynamoDB::Table", "Properties": table}
        template = {"Resources": {"Orders": resource}}
        self.template.write_text(json.dumps(template))

    @contextmanager
    def running(self) -> Iterator[Stack]:
        stack = launch(
            [str(MAYFLY)], self.folder, "--state", str(self.folder / "state"),
            template=self.template, port=self.port,
        )  # fmt: skip
        try:
            await_start(stack)
            yield stack
            assert stack.stop() == 0
        finally:
            if stack.process.poll() is None:
                stack.process.kill()
                stack.process.wait(30)

    def refused(self) -> str:
        done = subprocess.run(
            [MAYFLY, "up", "--template", self.template, "--port", str(self.port),
             "--state", self.folder / "state", "--work", self.folder / "work"],
            cwd=self.folder, capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip
        assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
        return done.stdout + done.stderr


def item(stack: Stack) -> Any:
    table = stack.facts["resources"]["Orders"]
    return stack.client("dynamodb").get_item(TableName=table, Key={"pk": {"S": "1"}}).get("Item")


@pytest.fixture
def application(tmp_path: Path) -> Application:
    made = Application(tmp_path)
    made.write(BEFORE)
    with made.running() as stack:
        stack.client("dynamodb").put_item(
            TableName=stack.facts["resources"]["Orders"],
            Item={"pk": {"S": "1"}, "of": {"S": "ada"}},
        )
    return made


def test_index_stream_and_ttl_are_added_to_a_table_with_items(application: Application) -> None:
    application.write(WITH_INDEX)
    with application.running() as stack:
        client, table = stack.client("dynamodb"), stack.facts["resources"]["Orders"]
        found = client.query(
            TableName=table,
            IndexName="by-of",
            KeyConditionExpression="#of = :of",
            ExpressionAttributeNames={"#of": "of"},
            ExpressionAttributeValues={":of": {"S": "ada"}},
        )["Items"]
        assert found == [item(stack)] != [None]
        described = client.describe_table(TableName=table)["Table"]
        assert described["StreamSpecification"]["StreamViewType"] == "NEW_IMAGE"
        assert described["LatestStreamArn"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {
                "AttributeDefinitions": [PK, OF],
                "KeySchema": [*BEFORE["KeySchema"], {"AttributeName": "of", "KeyType": "RANGE"}],
            },
            "its KeySchema cannot change from",
        ),
        (
            {"AttributeDefinitions": [{**PK, "AttributeType": "N"}]},
            "the type of pk cannot change from S to N",
        ),
    ],
    ids=["keys", "type of a key"],
)
def test_change_that_would_replace_a_table_is_refused_and_its_items_stay(
    application: Application, change: dict[str, Any], said: str
) -> None:
    application.write({**BEFORE, **change})
    output = application.refused()
    assert "resource Orders: " in output
    assert said in output
    assert "would replace the table by an empty one" in output
    application.write(BEFORE)
    with application.running() as stack:
        assert item(stack) == {"pk": {"S": "1"}, "of": {"S": "ada"}}
