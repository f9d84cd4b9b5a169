"""Events of payload format 2.0, for functions and authorizers of HTTP APIs and function URLs.

Page http-api-develop-integrations-lambda of
https://docs.aws.amazon.com/apigateway/latest/developerguide/
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

import base64
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.apis import ApiKind
from mayfly_local.sources.http_request import Call, HttpRequest, forwarded

__all__ = [
    "SIGNER_ARN",
    "as_text",
    "http_authorizer_event",
    "http_event",
    "request_arn",
    "signer_context",
]

#: The user that every caller with a key is.
SIGNER_ARN: Final = f"arn:aws:iam::{ACCOUNT}:user/local"

#: Content types whose bodies are sent as text; all others are sent as base64.
_TEXT: Final = ("text/", "application/json", "application/javascript", "application/xml")
_TEXT_SUFFIXES: Final = ("+json", "+xml")


def http_event(call: Call) -> dict[str, Any]:
    """Returns an event of payload format 2.0 for a function."""
    event = _common(call)
    event["isBase64Encoded"] = False
    request = call.request
    if request.body:
        text = as_text(request)
        event["isBase64Encoded"] = text is None
        event["body"] = base64.b64encode(request.body).decode() if text is None else text
    return event


def http_authorizer_event(call: Call, identity: Sequence[str]) -> dict[str, Any]:
    """Returns an event of format 2.0 for a Lambda authorizer."""
    return {
        **_common(call),
        "type": "REQUEST",
        "routeArn": request_arn(call),
        "identitySource": list(identity) or None,
    }


def signer_context(key_id: str) -> dict[str, Any]:
    """Returns the context of a caller that signed its request."""
    return {
        "accessKey": key_id,
        "accountId": ACCOUNT,
        "callerId": key_id,
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": SIGNER_ARN,
        "userId": key_id,
    }


def request_arn(call: Call) -> str:
    """Returns the ARN of a request, which policies name.

    Page api-gateway-control-access-using-iam-policies-to-invoke-api of
    https://docs.aws.amazon.com/apigateway/latest/developerguide/
    """
    return (
        f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{call.api.id}/{call.stage.name}/"
        f"{call.request.method}{call.path}"
    )


def as_text(request: HttpRequest) -> str | None:
    """Returns the body as text, or None if it must be sent as base64.

    A body is text if its content type says so and its bytes are UTF-8.
    """
    kind = (request.header("content-type") or "text/plain").split(";")[0].strip().lower()
    if not kind.startswith(_TEXT) and not kind.endswith(_TEXT_SUFFIXES):
        return None
    try:
        return request.body.decode()
    except UnicodeDecodeError:
        return None


def _common(call: Call) -> dict[str, Any]:
    request, route = call.request, call.route
    headers: dict[str, str] = {}
    cookies: list[str] = []
    port = urlsplit(call.api.url).port or 80
    for sent_name, value in forwarded(request, port=port, with_length=True):
        name = sent_name.lower()
        if name == "cookie":
            cookies += [part.strip() for part in value.split(";")]
        else:
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    query: dict[str, str] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    now = time.time()
    domain = headers.get("host", "localhost")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": call.shown_path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            # A function URL without IAM has no account in its events.
            "accountId": "anonymous" if call.api.kind is ApiKind.URL else ACCOUNT,
            "apiId": call.api.id,
            "domainName": domain,
            "domainPrefix": domain.split(".")[0],
            "http": {
                "method": request.method,
                "path": call.shown_path,
                "protocol": request.protocol,
                "sourceIp": request.source_ip,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": call.request_id,
            "routeKey": route.key,
            "stage": call.stage.name,
            "time": datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now * 1000),
        },
    }
    optional = {
        "cookies": cookies,
        "queryStringParameters": query,
        "pathParameters": dict(call.parameters),
        "stageVariables": dict(call.stage.variables),
    }
    return {**event, **{name: value for name, value in optional.items() if value}}
