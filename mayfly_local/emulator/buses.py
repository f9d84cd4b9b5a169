"""Event buses of EventBridge: each event goes to the targets of matching rules before the response.

ministack holds buses, rules and targets, matches patterns and makes the targets' input. Its own
deliveries to functions start threads, so an event could be lost after the response.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-targets.html
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ministack.core.responses import json_response
from ministack.services import eventbridge, sns

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.emulator.deliveries import queue_exists, send_to_queue

if TYPE_CHECKING:
    from mayfly_local.emulator.durable import Durable

__all__ = ["entry_problem", "hook_buses"]

#: Most entries of one PutEvents, and most bytes of all entries together.
#: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
_MOST_ENTRIES: Final = 10
_MOST_BYTES: Final = 1024 * 1024
#: The fraction of a second at the end of a time.
_FRACTION: Final = re.compile(r"\.[0-9]+Z$")
_LOG: Final = logging.getLogger("mayfly.buses")


def hook_buses(durable: "Durable") -> None:
    """Makes ministack deliver events to targets as this module does."""
    for name in (
        "_dispatch_to_lambda", "_dispatch_to_sqs", "_dispatch_to_sns", "_put_events",
        "_event_time_string",
    ):  # fmt: skip
        getattr(eventbridge, name)  # A missing name ends the start.

    def to_function(arn: str, payload: str) -> None:
        function = durable.functions.find(arn)
        if function is None:
            _LOG.warning("an event was not delivered: there is no function %s", arn)
            return
        durable.invocations.add(function, _as_json(payload))

    eventbridge._dispatch_to_lambda = to_function
    eventbridge._dispatch_to_sqs = _to_queue
    eventbridge._dispatch_to_sns = _to_topic
    eventbridge._put_events = _put_events
    time_string = eventbridge._event_time_string
    # Events have whole seconds; ministack's of S3 have milliseconds.
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    eventbridge._event_time_string = lambda event: _FRACTION.sub("Z", time_string(event))


def entry_problem(entry: Any) -> tuple[str, str] | None:
    """Returns the code and the text of AWS's error for an entry of PutEvents, or None.

    https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
    """
    if not isinstance(entry, Mapping):
        return "InvalidArgument", "The entry is not an object."
    for name in ("Source", "DetailType", "Detail"):
        if not entry.get(name):
            return (
                "InvalidArgument",
                f"Parameter {name} is not valid. Reason: {name} is a required argument.",
            )
    if str(entry["Source"]).startswith("aws."):
        return "NotAuthorizedForSourceException", "Not authorized for the source."
    try:
        detail = json.loads(entry["Detail"])
    except (ValueError, TypeError, RecursionError):
        detail = None
    return None if isinstance(detail, dict) else ("MalformedDetail", "Detail is malformed.")


def _put_events(data: Mapping[str, Any], *, allow_aws_source: bool = False) -> Any:
    """Answers PutEvents. Each entry has its own result, in the order of the entries."""
    entries = data.get("Entries") or []
    size = sum(len(json.dumps(entry)) for entry in entries)
    if not 1 <= len(entries) <= _MOST_ENTRIES or size > _MOST_BYTES:
        text = (
            f"1 validation error detected: Value at 'entries' failed to satisfy constraint: from 1 "
            f"to {_MOST_ENTRIES} members, and at most {_MOST_BYTES} bytes"
        )
        return eventbridge.error_response_json("ValidationException", text, 400)
    results = [_put(entry, allow_aws_source=allow_aws_source) for entry in entries]
    failed = sum("ErrorCode" in result for result in results)
    return json_response({"FailedEntryCount": failed, "Entries": results})


def _put(entry: Any, *, allow_aws_source: bool) -> dict[str, str]:
    problem = entry_problem(entry)
    if problem is None or (allow_aws_source and problem[0] == "NotAuthorizedForSourceException"):
        bus, problem = eventbridge._event_bus_name_from_ref(entry.get("EventBusName") or "default")
    if problem is not None:
        return {"ErrorCode": problem[0], "ErrorMessage": problem[1]}
    moment = entry.get("Time")
    event = {
        "EventId": eventbridge.new_uuid(),
        "Source": entry["Source"],
        "DetailType": entry["DetailType"],
        "Detail": entry["Detail"],
        "EventBusName": bus,
        "Time": int(eventbridge._now_ts()) if moment is None else moment,
        "Resources": entry.get("Resources") or [],
        "Account": ACCOUNT,
        "Region": REGION,
    }
    view = eventbridge._pattern_event_view(event)
    eventbridge._dispatch_event(event, view)
    eventbridge._archive_event(event, view)
    return {"EventId": event["EventId"]}


def _as_json(payload: str) -> str:
    """Returns a target's input as the JSON that a function gets. Plain text becomes a string."""
    try:
        json.loads(payload)
    except ValueError:
        return json.dumps(payload)
    return payload


def _to_queue(target: Any, payload: str, settings: Mapping[str, Any] | None = None) -> None:
    arn, group = str(target), str((settings or {}).get("MessageGroupId") or "")
    if not queue_exists(arn):
        _LOG.warning("an event was not delivered: there is no queue %s", arn)
        return
    send_to_queue(
        arn, payload, group=group, deduplication=hashlib.sha256(payload.encode()).hexdigest()
    )


def _to_topic(arn: str, payload: str) -> None:
    try:
        is_sent = sns.publish_internal(arn, payload) is not None
    except sns.SnsPublishError as refusal:
        _LOG.warning("an event was not delivered to %s: %s", arn, refusal)
        return
    if not is_sent:
        _LOG.warning("an event was not delivered: there is no topic %s", arn)
