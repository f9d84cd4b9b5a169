"""Events as AWS sends them, for handlers that are called in the test's own process."""

import json
from typing import Any

from tests.support.fakes import Context


def http(
    route: str,
    path: str | None = None,
    *,
    body: Any = None,
    raw: str | None = None,
    headers: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
    caller: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Returns a request of payload format 2.0.

    `route` is the route key; `caller` is what the authorizer passed on.
    """
    method, _, template = route.partition(" ")
    context: dict[str, Any] = {
        "http": {
            "method": method,
            "path": path or template,
            "sourceIp": "127.0.0.1",
            "userAgent": "test",
            "protocol": "HTTP/1.1",
        },
        "domainName": "app.example.org",
        "requestId": "r-1",
        "stage": "$default",
        "routeKey": route,
        "timeEpoch": 0,
    }
    if caller is not None:
        context["authorizer"] = {"lambda": caller}
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path or template,
        "rawQueryString": "",
        "headers": {name.lower(): value for name, value in (headers or {}).items()},
        "queryStringParameters": query or {},
        "requestContext": context,
        "isBase64Encoded": False,
    }
    text = raw if raw is not None else (json.dumps(body) if body is not None else None)
    return event if text is None else {**event, "body": text}


def sqs(*bodies: str) -> dict[str, Any]:
    """Returns a batch of messages m0, m1, ..."""
    records = [
        {
            "messageId": f"m{index}",
            "receiptHandle": f"r{index}",
            "body": body,
            "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:jobs",
            "awsRegion": "us-east-1",
        }
        for index, body in enumerate(bodies)
    ]
    return {"Records": records}


def call(handler: Any, event: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
    """Calls a handler of the HTTP API; returns status, parsed body and headers."""
    reply = handler(event, Context())
    body = reply["body"]
    kind = reply["headers"]["Content-Type"]
    return reply["statusCode"], json.loads(body) if "json" in kind else body, reply["headers"]
