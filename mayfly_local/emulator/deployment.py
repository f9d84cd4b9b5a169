"""Creates the template's state in the emulator, through CloudFormation.

It also sets the properties that the emulator's CloudFormation drops, and verifies that everything
is as the template says.
"""

import asyncio
import json
import time
from typing import Any, Final

from botocore.exceptions import ClientError, WaiterError

from mayfly_local.application.template import Template
from mayfly_local.emulator.clients import Clients
from mayfly_local.errors import LocalError, TemplateError

__all__ = ["Deployment", "deploy"]

Attribute = tuple[str, str | None]
_QUEUE_ATTRIBUTES: Final = (
    "VisibilityTimeout", "DelaySeconds", "MaximumMessageSize", "MessageRetentionPeriod",
    "ReceiveMessageWaitTimeSeconds",
    "FifoQueue", "ContentBasedDeduplication",
)  # fmt: skip


class Deployment:
    """Deployed state: physical ids by logical id, and the values of referenced attributes."""

    def __init__(
        self, physical: dict[str, str], scope: dict[Attribute, Any], ttl: dict[str, str]
    ) -> None:
        self.physical = physical
        self.scope = scope
        #: The TTL attribute by table name. Mayfly's own reaper deletes the items, so that its delay
        #: can be set.
        self.ttl = ttl


async def deploy(template: Template, clients: Clients) -> Deployment:
    """Creates or updates the stack.

    Raises TemplateError if the emulator refuses a resource, or creates it otherwise than requested.
    """
    state = {
        name: _plain(template.resolve(resource, _names_only(template)))
        for name, resource in template.state().items()
    }
    if not state:
        return Deployment({}, {}, {})
    wanted = sorted(template.wanted_from_state(), key=str)
    body = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": state,
        "Outputs": {
            f"Out{index}": {"Value": _reference(attribute)}
            for index, attribute in enumerate(wanted)
        },
    }
    await _create_or_update(template, clients, json.dumps(body))
    reply, resources = await asyncio.gather(
        clients.call("cloudformation", "describe_stacks", StackName=template.name),
        clients.call("cloudformation", "describe_stack_resources", StackName=template.name),
    )
    described = reply["Stacks"][0].get("Outputs", [])
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described}
    scope: dict[Attribute, Any] = {
        attribute: outputs[f"Out{index}"] for index, attribute in enumerate(wanted)
    }
    physical = {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for resource in resources["StackResources"]
    }
    checks = [_settle(clients, name, resource, physical) for name, resource in state.items()]
    problems = [problem for differences in await asyncio.gather(*checks) for problem in differences]
    if problems:
        raise TemplateError(template.path, problems)
    ttl = {
        physical[name]: resource["Properties"]["TimeToLiveSpecification"]["AttributeName"]
        for name, resource in template.state().items()
        if resource.get("Properties", {}).get("TimeToLiveSpecification", {}).get("Enabled")
    }
    return Deployment(physical, scope, ttl)


async def _create_or_update(template: Template, clients: Clients, body: str) -> None:
    try:
        await clients.call(
            "cloudformation", "create_stack", StackName=template.name, TemplateBody=body
        )
        waiter = "stack_create_complete"
    except ClientError as refusal:
        if refusal.response["Error"]["Code"] != "AlreadyExistsException":
            raise TemplateError(
                template.path, [f"the emulator refused the stack: {refusal}"]
            ) from None
        try:
            await clients.call(
                "cloudformation", "update_stack", StackName=template.name, TemplateBody=body
            )
        except ClientError as unchanged:
            if "No updates" in str(unchanged):
                return
            raise TemplateError(
                template.path, [f"the emulator refused to update its saved state: {unchanged}"]
            ) from None
        waiter = "stack_update_complete"
    try:
        poll = {"Delay": 0.01, "MaxAttempts": 2000}
        await clients.run(
            clients.get("cloudformation").get_waiter(waiter).wait,
            StackName=template.name,
            WaiterConfig=poll,
        )
    except WaiterError:
        raise TemplateError(template.path, await _reasons(template, clients)) from None


async def _reasons(template: Template, clients: Clients) -> list[str]:
    events = await clients.call("cloudformation", "describe_stack_events", StackName=template.name)
    failed = [
        event for event in events["StackEvents"] if event["ResourceStatus"].endswith("FAILED")
    ]
    return [
        f"resource {event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'failed')}"
        for event in failed
    ]


async def _settle(
    clients: Clients, name: str, resource: dict[str, Any], physical: dict[str, str]
) -> list[str]:
    """Sets and verifies one resource; returns the differences from the template."""
    if name not in physical:
        return [f"resource {name}: the emulator did not create it"]
    properties = resource.get("Properties", {})
    actual: dict[str, Any] = {}
    wanted: dict[str, Any] = {}
    if resource["Type"] == "AWS::DynamoDB::Table":
        wanted, actual = await _table(clients, physical[name], properties)
    elif resource["Type"] == "AWS::SQS::Queue":
        wanted, actual = await _queue(clients, physical[name], properties)
    else:
        await clients.call("s3", "head_bucket", Bucket=physical[name])
    return [
        f"resource {name}: {key} is {actual.get(key)!r} in the emulator, and {value!r} in the "
        "template"
        for key, value in wanted.items()
        if actual.get(key) != value
    ]


async def _table(
    clients: Clients, table: str, properties: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    recovers = _is_true(
        properties.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled")
    )
    if recovers:
        specification = {"PointInTimeRecoveryEnabled": True}
        await clients.call(
            "dynamodb",
            "update_continuous_backups",
            TableName=table,
            PointInTimeRecoverySpecification=specification,
        )
    described = (await clients.call("dynamodb", "describe_table", TableName=table))["Table"]
    backups = (await clients.call("dynamodb", "describe_continuous_backups", TableName=table))[
        "ContinuousBackupsDescription"
    ]
    recovery = backups.get("PointInTimeRecoveryDescription", {}).get(
        "PointInTimeRecoveryStatus", "DISABLED"
    )
    indexes = {
        index["IndexName"]: index["KeySchema"]
        for index in properties.get("GlobalSecondaryIndexes", [])
    }
    stream = properties.get("StreamSpecification", {}).get("StreamViewType")
    wanted = {
        "KeySchema": properties.get("KeySchema"),
        "GlobalSecondaryIndexes": indexes,
        "LocalSecondaryIndexes": {
            index["IndexName"]: index["KeySchema"]
            for index in properties.get("LocalSecondaryIndexes", [])
        },
        "StreamViewType": stream,
        "PointInTimeRecovery": "ENABLED" if recovers else "DISABLED",
        "DeletionProtectionEnabled": _is_true(properties.get("DeletionProtectionEnabled")),
    }
    actual = {
        "KeySchema": described["KeySchema"],
        "GlobalSecondaryIndexes": {
            index["IndexName"]: index["KeySchema"]
            for index in described.get("GlobalSecondaryIndexes", [])
        },
        "LocalSecondaryIndexes": {
            index["IndexName"]: index["KeySchema"]
            for index in described.get("LocalSecondaryIndexes", [])
        },
        "StreamViewType": described.get("StreamSpecification", {}).get("StreamViewType"),
        "PointInTimeRecovery": recovery,
        "DeletionProtectionEnabled": described.get("DeletionProtectionEnabled", False),
    }
    return wanted, actual


async def _queue(
    clients: Clients, url: str, properties: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    actual = (
        await clients.call("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=["All"])
    )["Attributes"]
    wanted: dict[str, Any] = {
        str(key): _attribute_text(properties[key]) for key in _QUEUE_ATTRIBUTES if key in properties
    }
    if "RedrivePolicy" in properties:
        redrive = json.loads(actual.get("RedrivePolicy", "{}"))
        actual["maxReceiveCount"] = str(redrive.get("maxReceiveCount"))
        wanted["maxReceiveCount"] = str(properties["RedrivePolicy"].get("maxReceiveCount"))
        actual["has a dead-letter queue"] = "deadLetterTargetArn" in redrive
        wanted["has a dead-letter queue"] = True
    return wanted, actual


async def wait_until_streams(clients: Clients, arn: str) -> list[str]:
    """Returns the shards of a stream as soon as it has some.

    Raises LocalError after ten seconds.
    """
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        reply = await clients.call("dynamodbstreams", "describe_stream", StreamArn=arn)
        shards = [shard["ShardId"] for shard in reply["StreamDescription"].get("Shards", [])]
        if shards:
            return shards
        await asyncio.sleep(0.05)
    raise LocalError(f"the stream {arn} has no shards")


def _names_only(template: Template) -> dict[Attribute, Any]:
    """Returns the references within the state, for the emulator's CloudFormation to resolve."""
    scope: dict[Attribute, Any] = {}
    for name in template.state():
        scope[name, None] = {"Ref": name}
        for attribute in ("Arn", "StreamArn", "QueueName", "QueueUrl"):
            scope[name, attribute] = {"Fn::GetAtt": [name, attribute]}
    return scope


def _plain(resource: dict[str, Any]) -> dict[str, Any]:
    """Returns a resource as the emulator gets it.

    TTL is disabled, because Mayfly's own reaper deletes expired items.
    DeletionProtectionEnabled becomes a boolean.
    """
    properties = dict(resource.get("Properties", {}))
    properties.pop("TimeToLiveSpecification", None)
    if "DeletionProtectionEnabled" in properties:
        properties["DeletionProtectionEnabled"] = _is_true(properties["DeletionProtectionEnabled"])
    return {"Type": resource["Type"], "Properties": properties}


def _reference(attribute: Attribute) -> dict[str, Any]:
    name, part = attribute
    return {"Ref": name} if part is None else {"Fn::GetAtt": [name, part]}


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


def _attribute_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
