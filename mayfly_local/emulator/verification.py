"""Checks that the emulator has topics, buses, rules and keys as the template says."""

import json
from typing import Any

from mayfly_local.emulator.clients import Clients

__all__ = ["bus_differences", "key_differences", "topic_differences"]

#: Wanted and actual values by property.
Values = tuple[dict[str, Any], dict[str, Any]]


async def topic_differences(clients: Clients, resource: dict[str, Any], physical: str) -> Values:
    """Returns what the template wants of a topic or a subscription, and what there is."""
    properties = resource.get("Properties", {})
    if resource["Type"] == "AWS::SNS::Topic":
        reply = await clients.call("sns", "get_topic_attributes", TopicArn=physical)
        names = ("FifoTopic", "ContentBasedDeduplication")
        return {name: str(properties.get(name, False)).lower() for name in names}, {
            name: reply["Attributes"].get(name, "false") for name in names
        }
    reply = await clients.call("sns", "get_subscription_attributes", SubscriptionArn=physical)
    found = reply.get("Attributes", {})
    wanted = {
        "RawMessageDelivery": str(properties.get("RawMessageDelivery", False)).lower(),
        "FilterPolicyScope": properties.get("FilterPolicyScope", "MessageAttributes"),
        "FilterPolicy": _as_object(properties.get("FilterPolicy")),
    }
    actual = {
        "RawMessageDelivery": found.get("RawMessageDelivery", "false"),
        "FilterPolicyScope": found.get("FilterPolicyScope") or "MessageAttributes",
        "FilterPolicy": _as_object(found.get("FilterPolicy")),
    }
    return wanted, actual


async def bus_differences(clients: Clients, resource: dict[str, Any], physical: str) -> Values:
    """Returns what the template wants of a bus or a rule, and what there is."""
    properties = resource.get("Properties", {})
    if resource["Type"] == "AWS::Events::EventBus":
        reply = await clients.call("events", "describe_event_bus", Name=physical)
        return {"Name": physical}, {"Name": reply.get("Name")}
    named = {"Name": physical}
    bus = properties.get("EventBusName")
    if isinstance(bus, str):
        named["EventBusName"] = bus.rpartition("/")[2]
    elif bus is not None:  # A bus of the template, whose name only the emulator knows.
        return {}, {}
    reply = await clients.call("events", "describe_rule", **named)
    return {"EventPattern": _as_object(properties.get("EventPattern"))}, {
        "EventPattern": _as_object(reply.get("EventPattern"))
    }


async def key_differences(clients: Clients, resource: dict[str, Any], physical: str) -> Values:
    """Returns what the template wants of a key, and what there is. An alias only has its key."""
    reply = await clients.call("kms", "describe_key", KeyId=physical)
    if resource["Type"] == "AWS::KMS::Alias":
        return {}, {}
    properties = resource.get("Properties", {})
    defaults = {"Enabled": True, "KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT"}
    wanted = {name: properties.get(name, value) for name, value in defaults.items()}
    return wanted, reply["KeyMetadata"]


def _as_object(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value else value or None
