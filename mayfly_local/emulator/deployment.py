"""Creates the template's state in the store through CloudFormation, sets what the store's
CloudFormation drops, and then looks whether everything is as the template says."""

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
    """Deployed state: physical ids by logical id, and the values of the attributes that compute
    asked for.
    """

    def __init__(
        self, physical: dict[str, str], scope: dict[Attribute, Any], ttl: dict[str, str]
    ) -> None:
        self.physical = physical
        self.scope = scope
        #: Table name to the attribute that TTL goes by. Our own reaper deletes, so that its delay
        #: can be set.
        self.ttl = ttl


async def deploy(template: Template, clients: Clients) -> Deployment:
    """Creates or updates the stack.

    Raises TemplateError for what the store refuses or does otherwise than asked.
    """
    state = {
        name: _plain(template.resolve(each, _names_only(template)))
        for name, each in template.state().items()
    }
    if not state:
        return Deployment({}, {}, {})
    wanted = sorted(template.wanted_from_state(), key=str)
    body = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": state,
        "Outputs": {
            f"Out{index}": {"Value": _reference(each)} for index, each in enumerate(wanted)
        },
    }
    await _create_or_update(template, clients, json.dumps(body))
    described = (await clients.call("cloudformation", "describe_stacks", StackName=template.name))[
        "Stacks"
    ][0]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", [])}
    scope: dict[Attribute, Any] = {
        each: outputs[f"Out{index}"] for index, each in enumerate(wanted)
    }
    resources = await clients.call(
        "cloudformation", "describe_stack_resources", StackName=template.name
    )
    physical = {
        each["LogicalResourceId"]: each["PhysicalResourceId"]
        for each in resources["StackResources"]
    }
    checks = [_settle(clients, name, each, physical) for name, each in state.items()]
    problems = [problem for found in await asyncio.gather(*checks) for problem in found]
    if problems:
        raise TemplateError(template.path, problems)
    ttl = {
        physical[name]: each["Properties"]["TimeToLiveSpecification"]["AttributeName"]
        for name, each in template.state().items()
        if each.get("Properties", {}).get("TimeToLiveSpecification", {}).get("Enabled")
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
                template.path, [f"the store refused the stack: {refusal}"]
            ) from None
        try:
            await clients.call(
                "cloudformation", "update_stack", StackName=template.name, TemplateBody=body
            )
        except ClientError as unchanged:
            if "No updates" in str(unchanged):
                return
            raise TemplateError(
                template.path, [f"the store refused the update of its kept state: {unchanged}"]
            ) from None
        waiter = "stack_update_complete"
    try:
        poll = {"Delay": 0.05, "MaxAttempts": 400}
        await clients.run(
            clients.get("cloudformation").get_waiter(waiter).wait,
            StackName=template.name,
            WaiterConfig=poll,
        )
    except WaiterError:
        raise TemplateError(template.path, await _reasons(template, clients)) from None


async def _reasons(template: Template, clients: Clients) -> list[str]:
    events = await clients.call("cloudformation", "describe_stack_events", StackName=template.name)
    failed = [each for each in events["StackEvents"] if each["ResourceStatus"].endswith("FAILED")]
    return [
        f"resource {each['LogicalResourceId']}: {each.get('ResourceStatusReason', 'failed')}"
        for each in failed
    ]


async def _settle(
    clients: Clients, name: str, resource: dict[str, Any], physical: dict[str, str]
) -> list[str]:
    """Sets and verifies one resource; returns what is not as asked."""
    if name not in physical:
        return [f"resource {name}: the store did not create it"]
    properties = resource.get("Properties", {})
    found: dict[str, Any] = {}
    wanted: dict[str, Any] = {}
    if resource["Type"] == "AWS::DynamoDB::Table":
        wanted, found = await _table(clients, physical[name], properties)
    elif resource["Type"] == "AWS::SQS::Queue":
        wanted, found = await _queue(clients, physical[name], properties)
    else:
        await clients.call("s3", "head_bucket", Bucket=physical[name])
    return [
        f"resource {name}: the store has {key} {found.get(key)!r} where the template says {value!r}"
        for key, value in wanted.items()
        if found.get(key) != value
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
        each["IndexName"]: each["KeySchema"]
        for each in properties.get("GlobalSecondaryIndexes", [])
    }
    stream = properties.get("StreamSpecification", {}).get("StreamViewType")
    wanted = {
        "KeySchema": properties.get("KeySchema"),
        "GlobalSecondaryIndexes": indexes,
        "LocalSecondaryIndexes": {
            each["IndexName"]: each["KeySchema"]
            for each in properties.get("LocalSecondaryIndexes", [])
        },
        "StreamViewType": stream,
        "PointInTimeRecovery": "ENABLED" if recovers else "DISABLED",
        "DeletionProtectionEnabled": _is_true(properties.get("DeletionProtectionEnabled")),
    }
    found = {
        "KeySchema": described["KeySchema"],
        "GlobalSecondaryIndexes": {
            each["IndexName"]: each["KeySchema"]
            for each in described.get("GlobalSecondaryIndexes", [])
        },
        "LocalSecondaryIndexes": {
            each["IndexName"]: each["KeySchema"]
            for each in described.get("LocalSecondaryIndexes", [])
        },
        "StreamViewType": described.get("StreamSpecification", {}).get("StreamViewType"),
        "PointInTimeRecovery": recovery,
        "DeletionProtectionEnabled": described.get("DeletionProtectionEnabled", False),
    }
    return wanted, found


async def _queue(
    clients: Clients, url: str, properties: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    found = (
        await clients.call("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=["All"])
    )["Attributes"]
    wanted: dict[str, Any] = {
        str(key): _attribute_text(properties[key]) for key in _QUEUE_ATTRIBUTES if key in properties
    }
    if "RedrivePolicy" in properties:
        redrive = json.loads(found.get("RedrivePolicy", "{}"))
        found["maxReceiveCount"] = str(redrive.get("maxReceiveCount"))
        wanted["maxReceiveCount"] = str(properties["RedrivePolicy"].get("maxReceiveCount"))
        found["has a dead-letter queue"] = "deadLetterTargetArn" in redrive
        wanted["has a dead-letter queue"] = True
    return wanted, found


async def wait_until_streams(clients: Clients, arn: str) -> list[str]:
    """The shards of a stream, as soon as there are any."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        description = (await clients.call("dynamodbstreams", "describe_stream", StreamArn=arn))[
            "StreamDescription"
        ]
        if shards := [each["ShardId"] for each in description.get("Shards", [])]:
            return shards
        await asyncio.sleep(0.05)
    raise LocalError(f"the stream {arn} has no shards")


def _names_only(template: Template) -> dict[Attribute, Any]:
    """State refers to state: left for the store's CloudFormation to resolve."""
    scope: dict[Attribute, Any] = {}
    for name in template.state():
        scope[name, None] = {"Ref": name}
        for attribute in ("Arn", "StreamArn", "QueueName", "QueueUrl"):
            scope[name, attribute] = {"Fn::GetAtt": [name, attribute]}
    return scope


def _plain(resource: dict[str, Any]) -> dict[str, Any]:
    """Without what CloudFormation alone needs, and what our own reaper does: TTL stays off in the
    store.
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
