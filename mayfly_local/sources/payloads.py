"""Pure functions that convert a request, a message or a record to the event for a function."""

import base64
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.model import Route, Schedule

__all__ = [
    "HttpRequest",
    "authorizer_event",
    "http_event",
    "schedule_event",
    "sqs_record",
    "stream_record",
]

#: Content types whose bodies are sent as text; all others are sent as base64.
_TEXT: Final = ("text/", "application/json", "application/javascript", "application/xml")
_TEXT_SUFFIXES: Final = ("+json", "+xml")


@dataclass(frozen=True)
class HttpRequest:
    """A request as it arrived. Header names are lower case, and may occur more than once."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    source_ip: str
    protocol: str


def http_event(
    request: HttpRequest,
    route: Route,
    path_parameters: Mapping[str, str],
    *,
    request_id: str,
    stage_variables: Mapping[str, str],
) -> dict[str, Any]:
    """Returns an event of payload format 2.0.

    "Create AWS Lambda proxy integrations for HTTP APIs":
    https://docs.aws.amazon.com/apigateway/latest/developerguide/
    """
    event = _common(
        request, route, path_parameters, request_id=request_id, stage_variables=stage_variables
    )
    event["isBase64Encoded"] = False
    if request.body:
        text = _as_text(request)
        event["isBase64Encoded"] = text is None
        event["body"] = base64.b64encode(request.body).decode() if text is None else text
    return event


def authorizer_event(
    request: HttpRequest, route: Route, path_parameters: Mapping[str, str], identity: Sequence[str],
    *, request_id: str, stage_variables: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Returns an event of format 2.0 for a Lambda authorizer.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html
    """
    event = _common(
        request, route, path_parameters, request_id=request_id, stage_variables=stage_variables
    )
    event["type"] = "REQUEST"
    event["routeArn"] = (
        f"arn:aws:execute-api:{REGION}:{ACCOUNT}:local/$default/{request.method}{request.path}"
    )
    event["identitySource"] = list(identity)
    return event


def sqs_record(message: Mapping[str, Any], queue_arn: str) -> dict[str, Any]:
    """Returns a received message as a record of an event.

    https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
    """
    # Lambda sends both lists with every attribute, and they are always empty.
    attributes = {
        name: {
            "stringListValues": [],
            "binaryListValues": [],
            **{_lower_first(key): _encodable(value) for key, value in spec.items()},
        }
        for name, spec in message.get("MessageAttributes", {}).items()
    }
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
        "messageAttributes": attributes,
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": REGION,
    }


def stream_record(record: Mapping[str, Any], stream_arn: str) -> dict[str, Any]:
    """Returns a record of a table's stream, as boto3 reads it, as a record of an event.

    https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html
    """
    change = dict(record["dynamodb"])
    if isinstance(created := change.get("ApproximateCreationDateTime"), datetime):
        change["ApproximateCreationDateTime"] = created.timestamp()
    event_record = {
        "eventID": record["eventID"],
        "eventName": record["eventName"],
        "eventVersion": record.get("eventVersion", "1.1"),
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": _encodable(change),
        "eventSourceARN": stream_arn,
    }
    return (
        {**event_record, "userIdentity": record["userIdentity"]}
        if record.get("userIdentity")
        else event_record
    )


def schedule_event(schedule: Schedule, at: datetime) -> Any:
    """Returns the schedule's own input, or the event that a rule sends.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html
    """
    if schedule.event is not None:
        return schedule.event
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": REGION,
        "resources": [schedule.arn],
        "detail": {},
    }


def _common(
    request: HttpRequest,
    route: Route,
    path_parameters: Mapping[str, str],
    *,
    request_id: str,
    stage_variables: Mapping[str, str],
) -> dict[str, Any]:
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in request.headers:
        if name == "cookie":
            cookies += [part.strip() for part in value.split(";")]
        else:
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    query: dict[str, str] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    now = time.time()
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": unquote(request.path),
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "domainName": headers.get("host", "localhost"),
            "domainPrefix": headers.get("host", "localhost").split(".")[0],
            "http": {
                "method": request.method,
                "path": unquote(request.path),
                "protocol": request.protocol,
                "sourceIp": request.source_ip,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": route.key,
            "stage": "$default",
            "time": datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now * 1000),
        },
    }
    optional = {
        "cookies": cookies,
        "queryStringParameters": query,
        "pathParameters": dict(path_parameters),
        "stageVariables": dict(stage_variables),
    }
    return {**event, **{name: value for name, value in optional.items() if value}}


def _as_text(request: HttpRequest) -> str | None:
    """Returns the body as text, or None if it must be sent as base64.

    A body is text if its content type says so and its bytes are UTF-8.
    """
    kind = (
        next((value for name, value in request.headers if name == "content-type"), "text/plain")
        .split(";")[0]
        .strip()
        .lower()
    )
    if not kind.startswith(_TEXT) and not kind.endswith(_TEXT_SUFFIXES):
        return None
    try:
        return request.body.decode()
    except UnicodeDecodeError:
        return None


def _encodable(value: Any) -> Any:
    """Returns a value with DynamoDB's binary values as the base64 that events carry."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _encodable(member) for name, member in value.items()}
    return [_encodable(member) for member in value] if isinstance(value, list) else value


def _lower_first(name: str) -> str:
    return name[0].lower() + name[1:]
