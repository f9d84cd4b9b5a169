"""The deployed stack that has Mayfly's resources: an application may nest it in its own."""

from collections.abc import Iterator
from typing import Any, Final

__all__ = ["ANY_STACK_HAS", "own_stack", "stack_name", "stack_resources"]

#: A resource that each stack with a part of Mayfly has.
ANY_STACK_HAS: Final = "TenantsTable"


def own_stack(cloudformation: Any, name: str) -> str:
    """Returns the name of a stack, or the id of the stack within it that has Mayfly's resources.

    Returns the name as well if there is none. Raises ClientError.
    """
    resources = list(stack_resources(cloudformation, name))
    if _has_part(resources):
        return name
    for resource in resources:
        if resource["ResourceType"] == "AWS::CloudFormation::Stack":
            nested = str(resource["PhysicalResourceId"])
            if _has_part(stack_resources(cloudformation, nested)):
                return nested
    return name


def stack_name(stack: str) -> str:
    """Returns the name in the id of a stack: `arn:...:stack/NAME/ID`. A name is its own."""
    return stack.split("/")[1] if "/" in stack else stack


def stack_resources(cloudformation: Any, stack: str) -> Iterator[dict[str, Any]]:
    """Yields the resources of a stack, without those of stacks within it. Raises ClientError."""
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack):
        yield from page["StackResourceSummaries"]


def _has_part(resources: Any) -> bool:
    return any(resource["LogicalResourceId"] == ANY_STACK_HAS for resource in resources)
