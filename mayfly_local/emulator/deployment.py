"""Creates the template's state in the emulator, through CloudFormation.

It also sets the properties that the emulator's CloudFormation drops, and verifies that everything
is as the template says.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from mayfly_local.application.build.qualifiers import qualifier_scope
from mayfly_local.application.build.scope import compute_scope
from mayfly_local.application.classes import Report
from mayfly_local.application.intrinsics import references
from mayfly_local.application.outside import outside, undelivered, without_outside_targets
from mayfly_local.application.supported import STATE
from mayfly_local.application.template import UNUSABLE, Template
from mayfly_local.emulator.clients import Clients
from mayfly_local.emulator.lookups import with_dynamic_values
from mayfly_local.emulator.verification import bus_differences, key_differences, topic_differences
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
        self,
        template: Template,
        physical: dict[str, str],
        scope: dict[Attribute, Any],
        ttl: dict[str, str],
        report: Report,
    ) -> None:
        #: The template, with the values of its dynamic references.
        self.template = template
        self.physical = physical
        self.scope = scope
        #: The TTL attribute by table name. Mayfly's own reaper deletes the items, so that its delay
        #: can be set.
        self.ttl = ttl
        #: Has the resources that are not deployed, or not wholly.
        self.report = report


async def deploy(template: Template, clients: Clients) -> Deployment:
    """Creates or updates the stack.

    Raises TemplateError if the emulator refuses a resource, or creates it otherwise than requested.
    """
    try:
        return await _deploy(template, clients)
    except UNUSABLE as problem:
        raise TemplateError(
            template.path, [f"a property has a value that cannot be used: {problem!r}"]
        ) from None


async def _deploy(template: Template, clients: Clients) -> Deployment:
    # Subscriptions, rules and notifications name functions, whose ARNs are known already.
    known = compute_scope(template)
    known |= qualifier_scope(template, known)
    scope = {**known, **_names_only(template)}
    template = await with_dynamic_values(template, clients, scope)
    resolved = {
        name: _plain(template.resolve(resource, scope))
        for name, resource in template.state().items()
    }
    report = Report()
    state = _deployable(resolved, report)
    if not state:
        return Deployment(template, {}, {}, {}, report)
    wanted = sorted(
        (reference for reference in template.wanted_from_state() if reference[0] in state), key=str
    )
    body = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": state,
        "Outputs": {
            f"Out{index}": {"Value": _reference(attribute, state[attribute[0]]["Type"])}
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
    values: dict[Attribute, Any] = {
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
    template = await with_dynamic_values(template, clients, {**known, **values})
    return Deployment(template, physical, values, ttl, report)


def _deployable(resolved: dict[str, Any], report: Report) -> dict[str, Any]:
    """Returns the resources without what belongs to something outside the template."""
    for name, reason in outside(resolved).items():
        report.leave_out(name, reason)
    state = {}
    for name, resource in resolved.items():
        if name not in report.missing:
            state[name], targets = without_outside_targets(resource)
            for target in targets:
                report.absent(name, f"the notification target {target}")
            for receiver in undelivered(resource):
                report.absent(name, receiver)
    return state


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
        await _refuse_replacement(template, clients, json.loads(body)["Resources"])
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


async def _refuse_replacement(template: Template, clients: Clients, wanted: dict[str, Any]) -> None:
    """Raises TemplateError if a table of the saved state would be replaced by an empty one.

    CloudFormation replaces a table whose keys or local indexes change, or whose attributes get
    another type. The emulator would even delete the old one, which AWS can retain.
    Page aws-resource-dynamodb-table of
    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/
    """
    reply = await clients.call(
        "cloudformation", "describe_stack_resources", StackName=template.name
    )
    problems = []
    for resource in reply["StackResources"]:
        name = resource["LogicalResourceId"]
        if wanted.get(name, {}).get("Type") != "AWS::DynamoDB::Table":
            continue
        table = (
            await clients.call(
                "dynamodb", "describe_table", TableName=resource["PhysicalResourceId"]
            )
        )["Table"]
        properties = wanted[name].get("Properties") or {}
        problems += [
            f"resource {name}: {what} cannot change from {old} to {new}, since CloudFormation "
            "would replace the table by an empty one; take back the change, or start with another "
            "folder of --state"
            for what, old, new in _replacing(table, properties)
        ]
    if problems:
        raise TemplateError(template.path, problems)


def _replacing(
    table: dict[str, Any], properties: dict[str, Any]
) -> Iterator[tuple[str, object, object]]:
    """Yields changes of a table that would replace it: a property, its value and the new one."""
    old_types, new_types = (
        {each["AttributeName"]: each["AttributeType"] for each in of["AttributeDefinitions"]}
        for of in (table, properties)
    )
    for attribute in sorted(old_types.keys() & new_types.keys()):
        if old_types[attribute] != new_types[attribute]:
            yield f"the type of {attribute}", old_types[attribute], new_types[attribute]
    if table["KeySchema"] != properties["KeySchema"]:
        yield "its KeySchema", table["KeySchema"], properties["KeySchema"]
    old, new = (
        {each["IndexName"]: each["KeySchema"] for each in of.get("LocalSecondaryIndexes") or ()}
        for of in (table, properties)
    )
    if old != new:
        yield "its LocalSecondaryIndexes", old, new


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
    try:
        wanted, actual = await _states(clients, resource, physical[name])
    except (ClientError, BotoCoreError) as problem:
        return [f"resource {name}: the emulator does not have it as it should: {problem}"]
    return [
        f"resource {name}: {key} is {actual.get(key)!r} in the emulator, and {value!r} in the "
        "template"
        for key, value in wanted.items()
        # Only the emulator knows values that refer to the state.
        if actual.get(key) != value and not any(references(value))
    ]


async def _states(
    clients: Clients, resource: dict[str, Any], physical: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the settings that the template wants, and those that the emulator has."""
    properties = resource.get("Properties", {})
    actual: dict[str, Any] = {}
    wanted: dict[str, Any] = {}
    if resource["Type"] == "AWS::DynamoDB::Table":
        wanted, actual = await _table(clients, physical, properties)
    elif resource["Type"] == "AWS::SQS::Queue":
        wanted, actual = await _queue(clients, physical, properties)
    elif resource["Type"] == "AWS::S3::Bucket":
        await clients.call("s3", "head_bucket", Bucket=physical)
    elif resource["Type"] == "AWS::Kinesis::Stream":
        await clients.call("kinesis", "describe_stream_summary", StreamName=physical)
    elif resource["Type"].startswith("AWS::SNS::"):
        wanted, actual = await topic_differences(clients, resource, physical)
    elif resource["Type"].startswith("AWS::Events::"):
        wanted, actual = await bus_differences(clients, resource, physical)
    elif resource["Type"].startswith("AWS::KMS::"):
        wanted, actual = await key_differences(clients, resource, physical)
    elif resource["Type"] == "AWS::SSM::Parameter":
        reply = await clients.call("ssm", "get_parameter", Name=physical)
        value = properties.get("Value")
        wanted = {"Value": value if isinstance(value, dict) else _attribute_text(value)}
        actual = reply["Parameter"]
    elif "SecretString" in properties:
        wanted = {"SecretString": properties["SecretString"]}
        actual = await clients.call("secretsmanager", "get_secret_value", SecretId=physical)
    else:  # It may have no value.
        await clients.call("secretsmanager", "describe_secret", SecretId=physical)
    return wanted, actual


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
        scope[name, None] = _reference((name, None), template.resources[name]["Type"])
        for attribute in (
            "Arn", "Id", "KeyId", "Name", "QueueName", "QueueUrl", "StreamArn", "TopicArn",
            "TopicName", "Type", "Value",
        ):  # fmt: skip
            scope[name, attribute] = {"Fn::GetAtt": [name, attribute]}
    return scope


def _plain(resource: dict[str, Any]) -> dict[str, Any]:
    """Returns a resource as the emulator gets it.

    TTL is disabled, because Mayfly's own reaper deletes expired items.
    DeletionProtectionEnabled and Enabled become booleans.
    """
    known = STATE[resource["Type"]] - {"TimeToLiveSpecification"}
    properties = {
        key: value for key, value in (resource.get("Properties") or {}).items() if key in known
    }
    properties.pop("ScheduleExpression", None)  # The runtime keeps the times of rules.
    for name in ("DeletionProtectionEnabled", "Enabled"):
        if name in properties:
            properties[name] = _is_true(properties[name])
    return {"Type": resource["Type"], "Properties": properties}


def _reference(attribute: Attribute, kind: str) -> dict[str, Any]:
    name, part = attribute
    # AWS's Ref of a secret is its ARN; the emulator's is its name.
    if kind == "AWS::SecretsManager::Secret" and part is None:
        part = "Arn"
    return {"Ref": name} if part is None else {"Fn::GetAtt": [name, part]}


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


def _attribute_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
