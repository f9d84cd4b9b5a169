"""The stack that an operator's command works on, if another stack nests Mayfly's part."""

from collections.abc import Iterator
from typing import Any

import pytest

from mayfly_cli.nested_stack import own_stack, stack_name
from mayfly_local.stack_file import StackFile

STACK = "AWS::CloudFormation::Stack"
PART = "arn:aws:cloudformation:eu-west-1:1:stack/shop-Backend-1X/5f-6"
OTHER = "arn:aws:cloudformation:eu-west-1:1:stack/shop-Other-2Y/7a-8"


class CloudFormation:
    """A client that knows the resources of stacks, one on each page."""

    def __init__(self, **stacks: dict[str, str]) -> None:
        self.stacks: dict[str, dict[str, str]] = stacks
        self.stacks |= {PART: {"TenantsTable": "t-1", "JobsTable": "j-1"}, OTHER: {"Table": "x"}}

    def get_paginator(self, operation: str) -> "CloudFormation":
        assert operation == "list_stack_resources"
        return self

    def paginate(self, *, StackName: str) -> Iterator[dict[str, Any]]:  # noqa: N803 - boto3's
        for logical, physical in self.stacks[StackName].items():
            kind = STACK if physical.startswith("arn:aws:cloudformation") else "AWS::Other"
            resource = {
                "LogicalResourceId": logical, "PhysicalResourceId": physical, "ResourceType": kind,
            }  # fmt: skip
            yield {"StackResourceSummaries": [resource]}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"TenantsTable": "t", "CountersTable": "c"}, "shop"),
        ({"Other": OTHER, "Backend": PART, "CountersTable": "own"}, PART),
        ({"TenantsTable": "t", "Backend": PART}, "shop"),
        ({"Other": OTHER}, "shop"),
        ({}, "shop"),
    ],
    ids=["not nested", "nested", "an application that nests another", "without Mayfly", "empty"],
)
def test_deployed_stack_with_the_part_is_found(resources: dict[str, str], expected: str) -> None:
    assert own_stack(CloudFormation(shop=resources), "shop") == expected


def test_name_of_a_nested_stack_is_in_its_id() -> None:
    assert stack_name(PART) == "shop-Backend-1X"
    assert stack_name("shop") == "shop"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["TenantsTable", "CountersTable"], ""),
        (["MayflyTenantsTable", "MayflyCountersTable", "CountersTable"], "Mayfly"),
        (["TenantsTable", "BackendTenantsTable"], ""),
        (["Orders"], ""),
    ],
    ids=["not nested", "nested", "an application that nests another", "without Mayfly"],
)
def test_local_stack_knows_what_the_names_of_its_part_begin_with(
    names: list[str], expected: str
) -> None:
    file = StackFile(
        1, "shop", "template.yaml", "http://127.0.0.1:1", "http://127.0.0.1:2", "us-east-1", {},
        dict.fromkeys(names, "x"), {}, {},
    )  # fmt: skip
    assert file.nesting("TenantsTable") == expected
