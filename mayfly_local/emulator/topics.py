"""SNS topics: each message goes to the subscribed functions and queues before the response.

ministack holds topics and subscriptions, and decides by filter policies of attributes. Its own
delivery starts threads, so a message could be lost after the response, and its CloudFormation
makes no FIFO topics.
https://docs.aws.amazon.com/sns/latest/dg/sns-lambda-as-subscriber.html
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ministack.services import sns
from ministack.services.cloudformation import provisioners

from mayfly_local.account import REGION
from mayfly_local.application.patterns import check_pattern, matches
from mayfly_local.emulator.deliveries import queue_exists, send_to_queue

if TYPE_CHECKING:
    from mayfly_local.emulator.durable import Durable

__all__ = ["hook_topics"]

_LOG: Final = logging.getLogger("mayfly.topics")
#: The end of a FIFO topic's name.
_FIFO: Final = ".fifo"


def hook_topics(durable: "Durable") -> None:
    """Makes ministack create topics and deliver their messages as this module does."""
    getattr(sns, "_fanout")  # noqa: B009 - a missing name ends the start
    sns._fanout = _Fanout(durable)
    _hook_declared_topics()


def _hook_declared_topics() -> None:
    """Makes ministack's CloudFormation create FIFO topics as the template declares them."""
    create, update = provisioners._sns_create, provisioners._sns_update

    def created(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        made = create(logical_id, _with_fifo_name(properties, logical_id, stack), stack)
        _set_fifo_attributes(made[0], properties)
        return made

    def updated(
        physical_id: str,
        old: dict[str, Any],
        new: dict[str, Any],
        stack: str,
        logical_id: str | None = None,
    ) -> Any:
        named = _with_fifo_name(new, logical_id or physical_id, stack)
        made = update(physical_id, old, named, stack, logical_id)
        _set_fifo_attributes(made[0], new)
        return made

    provisioners._sns_create = created  # A replacement by an update calls it.
    provisioners._RESOURCE_HANDLERS["AWS::SNS::Topic"].update(create=created, update=updated)


def _with_fifo_name(properties: dict[str, Any], logical_id: str, stack: str) -> dict[str, Any]:
    """Returns the properties of a topic, with a name that CloudFormation generates if FIFO.

    Raises ValueError if the name and FifoTopic contradict each other.
    Page aws-resource-sns-topic of
    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/
    """
    name, is_fifo = properties.get("TopicName"), _is_true(properties.get("FifoTopic"))
    if not name and is_fifo:
        generated = provisioners._physical_name(stack, logical_id, max_len=256 - len(_FIFO))
        return {**properties, "TopicName": generated + _FIFO}
    if name and str(name).endswith(_FIFO) != is_fifo:
        raise ValueError(
            f"the TopicName {name} needs FifoTopic: true"
            if not is_fifo
            else f"the TopicName {name} of a FIFO topic must end with {_FIFO}"
        )
    return properties


def _set_fifo_attributes(arn: str, properties: Mapping[str, Any]) -> None:
    if _is_true(properties.get("FifoTopic")):
        topic = sns._topics[arn]
        topic["attributes"] |= {
            "FifoTopic": "true",
            "ContentBasedDeduplication": str(
                _is_true(properties.get("ContentBasedDeduplication"))
            ).lower(),
        }
        topic.setdefault("dedup_cache", {})
        topic.setdefault("fifo_seq", 0)


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


class _Fanout:
    """Delivers a message to all subscriptions of a topic whose filter policy accepts it."""

    def __init__(self, durable: "Durable") -> None:
        self._durable = durable

    def __call__(  # noqa: PLR0917 - as ministack calls it
        self,
        topic_arn: str,
        message_id: str,
        message: str,
        subject: str,
        message_structure: str = "",
        message_attributes: Mapping[str, Any] | None = None,
        message_group_id: str = "",
        message_dedup_id: str = "",
    ) -> None:
        """Has the arguments that ministack calls it with."""
        topic = sns._topic_by_arn_any_scope(topic_arn)
        attributes = dict(message_attributes or {})
        for subscription in topic["subscriptions"] if topic else ():
            text = sns._resolve_message_for_protocol(
                message, message_structure, subscription["protocol"]
            )
            if subscription.get("confirmed") and _accepts(subscription, attributes, text):
                envelope = _envelope(
                    subscription, text, message_id=message_id, subject=subject,
                    attributes=attributes,
                )  # fmt: skip
                self._deliver(
                    subscription, envelope, attributes, message_group_id, message_dedup_id
                )

    def _deliver(
        self,
        subscription: Mapping[str, Any],
        envelope: dict[str, Any],
        attributes: dict[str, Any],
        group: str,
        deduplication: str,
    ) -> None:
        settings, endpoint = subscription.get("attributes", {}), str(subscription["endpoint"])
        if subscription["protocol"] == "lambda":
            if (function := self._durable.functions.find(endpoint)) is not None:
                event = lambda_event(str(subscription["arn"]), envelope)
                self._durable.invocations.add(function, json.dumps(event))
                return
        elif subscription["protocol"] == "sqs":
            if queue_exists(endpoint):
                is_raw = settings.get("RawMessageDelivery") == "true"
                send_to_queue(
                    endpoint,
                    envelope["Message"] if is_raw else json.dumps(queue_body(envelope)),
                    attributes=attributes if is_raw else None,
                    group=group,
                    deduplication=deduplication,
                )
                return
        else:  # E-mail, SMS, HTTP: no message leaves this machine.
            return
        # The endpoint is gone. A dead-letter queue gets the message as the endpoint would.
        policy = json.loads(settings.get("RedrivePolicy") or "{}")
        if queue_exists(dead := str(policy.get("deadLetterTargetArn", ""))):
            send_to_queue(dead, json.dumps(queue_body(envelope)), group=group)
        else:
            _LOG.warning("a message of a topic was not delivered: there is no %s", endpoint)


def _accepts(subscription: Mapping[str, Any], attributes: Mapping[str, Any], message: str) -> bool:
    """Returns whether the filter policy of a subscription accepts a message.

    A policy of bodies is a pattern as EventBridge has it: it looks into lists of objects, too.
    https://docs.aws.amazon.com/sns/latest/dg/sns-message-filtering.html
    """
    settings = subscription.get("attributes", {})
    if settings.get("FilterPolicyScope") == "MessageBody":
        try:
            policy = json.loads(settings.get("FilterPolicy") or "{}")
            check_pattern(policy)
        except ValueError:  # The emulator takes policies that AWS refuses, and has its own rules.
            pass
        else:
            return not policy or _matches_body(policy, message)
    return bool(sns._matches_filter_policy(subscription, attributes, message))


def _matches_body(policy: dict[str, Any], message: str) -> bool:
    try:
        body = json.loads(message)
    except ValueError:
        return False
    # `exists: false` does not match a body without any property.
    return bool(body) and matches(_with_present_values(policy), body)


def _with_present_values(policy: Any) -> Any:
    """Returns a policy in which `exists: true` asks for a value that is not null and not empty.

    A null is enough for EventBridge.
    https://docs.aws.amazon.com/sns/latest/dg/string-value-matching.html
    """
    if isinstance(policy, list):
        return [_with_present_values(member) for member in policy]
    if policy == {"exists": True}:
        return {"anything-but": [None, ""]}
    if isinstance(policy, dict):
        return {name: _with_present_values(member) for name, member in policy.items()}
    return policy


def lambda_event(subscription_arn: str, envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the event for a function, with one record.

    https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html
    """
    record = {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription_arn,
        "Sns": dict(envelope),
    }
    return {"Records": [record]}


def queue_body(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the body of a message to a queue: absent parts are left out, URLs end in URL.

    https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
    """
    names = {"SigningCertUrl": "SigningCertURL", "UnsubscribeUrl": "UnsubscribeURL"}
    return {names.get(name, name): value for name, value in envelope.items() if value}


def _envelope(
    subscription: Mapping[str, Any],
    message: str,
    *,
    message_id: str,
    subject: str,
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the notification as functions get it. Nothing signs it here."""
    return {
        "Type": "Notification",
        "MessageId": message_id,
        "TopicArn": subscription["topic_arn"],
        "Subject": subject or None,
        "Message": message,
        "Timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
        "SigningCertUrl": f"https://sns.{REGION}.amazonaws.com/SimpleNotificationService.pem",
        "UnsubscribeUrl": f"https://sns.{REGION}.amazonaws.com/?Action=Unsubscribe"
        f"&SubscriptionArn={subscription['arn']}",
        "MessageAttributes": {
            name: {
                "Type": spec.get("DataType", "String"),
                "Value": spec.get("StringValue") or spec.get("BinaryValue") or "",
            }
            for name, spec in attributes.items()
        },
    }
