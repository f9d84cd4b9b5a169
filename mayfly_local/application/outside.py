"""Parts of the state that name a topic, a bus, a key or a target outside the template.

The emulator would refuse them, or hold something that never gets a message.
"""

from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.account import ACCOUNT, REGION

__all__ = ["outside", "undelivered", "without_outside_targets"]

#: Services that rules deliver to.
_TARGETS: Final = ("events", "lambda", "sns", "sqs")
_NOTIFIED: Final = {
    "LambdaConfigurations": "Function",
    "QueueConfigurations": "Queue",
    "TopicConfigurations": "Topic",
}


def outside(state: Mapping[str, Any]) -> dict[str, str]:
    """Returns the resources that belong to something outside the template, with the reason.

    Properties are resolved, except for references within the state, which are still objects.
    """
    topics = _names(state, "AWS::SNS::Topic", "TopicName")
    buses = _names(state, "AWS::Events::EventBus", "Name") | {"default"}
    found = {}
    for name, resource in state.items():
        properties = resource.get("Properties") or {}
        topic, bus = properties.get("TopicArn"), properties.get("EventBusName")
        if resource["Type"] == "AWS::SNS::Subscription" and isinstance(topic, str):
            if not (_is_own(topic) and topic.rpartition(":")[2] in topics):
                found[name] = f"the topic {topic} is not in this template"
        elif resource["Type"] == "AWS::Events::Rule" and isinstance(bus, str):
            is_foreign = bus.startswith("arn:") and not _is_own(bus)
            if is_foreign or bus.rpartition("/")[2] not in buses:
                found[name] = f"the event bus {bus} is not in this template"
        elif resource["Type"] == "AWS::KMS::Alias" and isinstance(
            key := properties.get("TargetKeyId"), str
        ):
            # KMS draws the ids of keys, so a text cannot name a key of this stack.
            found[name] = f"the key {key} is not on this machine"
    return found


def undelivered(resource: Mapping[str, Any]) -> list[str]:
    """Returns the receivers that get nothing from a subscription or a rule here.

    Targets that are still references are in the state: queues, topics and buses, which get it.
    """
    properties = resource.get("Properties") or {}
    if resource["Type"] == "AWS::SNS::Subscription":
        protocol = properties.get("Protocol")
        return [] if protocol in ("lambda", "sqs") else [f"the protocol {protocol}"]
    if resource["Type"] == "AWS::SNS::Topic":
        return [
            f"the subscription of the protocol {entry.get('Protocol')}"
            for entry in properties.get("Subscription") or []
            if entry.get("Protocol") not in ("lambda", "sqs")
        ]
    if resource["Type"] == "AWS::Events::Rule":
        arns = [target.get("Arn") for target in properties.get("Targets") or []]
        return [
            f"the target {arn}"
            for arn in arns
            if isinstance(arn, str) and (not _is_own(arn) or arn.split(":")[2] not in _TARGETS)
        ]
    return []


def without_outside_targets(resource: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Returns a bucket without notifications to other accounts and regions, and their targets.

    Any other resource is returned as it is.
    """
    properties = resource.get("Properties") or {}
    notifications = properties.get("NotificationConfiguration")
    if resource["Type"] != "AWS::S3::Bucket" or not isinstance(notifications, dict):
        return resource, []
    kept, gone = dict(notifications), []
    for kind, key in _NOTIFIED.items():
        entries = notifications.get(kind) or []
        foreign = [
            str(entry[key])
            for entry in entries
            if isinstance(entry.get(key), str) and not _is_own(entry[key])
        ]
        if foreign:
            gone += foreign
            kept[kind] = [entry for entry in entries if entry.get(key) not in foreign]
    return {**resource, "Properties": {**properties, "NotificationConfiguration": kept}}, gone


def _is_own(arn: str) -> bool:
    """Returns whether an ARN is of the emulator's account and region."""
    return arn.split(":")[3:5] == [REGION, ACCOUNT]


def _names(state: Mapping[str, Any], kind: str, key: str) -> set[str]:
    """Returns the names that the template gives to the resources of a type."""
    return {
        str((resource.get("Properties") or {}).get(key))
        for resource in state.values()
        if resource["Type"] == kind
    }
