"""SNS topics: each message goes to the subscribed functions and queues before the response.

ministack holds topics and subscriptions, and decides by their filter policies. Its own delivery
starts threads, so a message could be lost after the response.
https://docs.aws.amazon.com/sns/latest/dg/sns-lambda-as-subscriber.html
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ministack.services import sns

from mayfly_local.account import REGION
from mayfly_local.emulator.deliveries import queue_exists, send_to_queue

if TYPE_CHECKING:
    from mayfly_local.emulator.durable import Durable

__all__ = ["hook_topics"]

_LOG: Final = logging.getLogger("mayfly.topics")


def hook_topics(durable: "Durable") -> None:
    """Makes ministack deliver the messages of topics as this module does."""
    getattr(sns, "_fanout")  # noqa: B009 - a missing name ends the start
    sns._fanout = _Fanout(durable)


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
            if subscription.get("confirmed") and sns._matches_filter_policy(
                subscription, attributes, text
            ):
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
