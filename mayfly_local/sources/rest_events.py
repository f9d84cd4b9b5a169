"""Events of payload format 1.0, for functions and authorizers of REST and HTTP APIs.

Paths stay percent-encoded, as the client sent them, and so do the path parameters of a REST API.
https://github.com/aws/aws-lambda-dotnet (HttpContextExtensions of the test tool)
https://github.com/serverless/serverless/issues/5037
https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
Page http-api-develop-integrations-lambda of
https://docs.aws.amazon.com/apigateway/latest/developerguide/
Page api-gateway-lambda-authorizer-input of
https://docs.aws.amazon.com/apigateway/latest/developerguide/
"""

import base64
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from mayfly_local.account import ACCOUNT
from mayfly_local.application.apis import ApiKind
from mayfly_local.sources.http_events import SIGNER_ARN, as_text, request_arn
from mayfly_local.sources.http_request import Call, forwarded

__all__ = [
    "is_binary",
    "request_context",
    "rest_event",
    "rest_request_event",
    "rest_token_event",
    "signer_identity",
    "with_identity",
]

#: Fields of a caller that only other kinds of access control fill.
_NO_IDENTITY: Final = {
    "accessKey": None,
    "accountId": None,
    "caller": None,
    "cognitoAuthenticationProvider": None,
    "cognitoAuthenticationType": None,
    "cognitoIdentityId": None,
    "cognitoIdentityPoolId": None,
    "principalOrgId": None,
    "user": None,
    "userArn": None,
}


#: Fields that are empty for most requests.
_OPTIONAL: Final = (
    "queryStringParameters",
    "multiValueQueryStringParameters",
    "pathParameters",
    "stageVariables",
)


def rest_event(call: Call) -> dict[str, Any]:
    """Returns an event of payload format 1.0 for a function."""
    body, is_encoded = _body(call)
    return {**_common(call), "body": body, "isBase64Encoded": is_encoded}


def rest_request_event(call: Call, identity: Sequence[str]) -> dict[str, Any]:
    """Returns an event for an authorizer of type REQUEST, with format 1.0.

    Authorizers of HTTP APIs also get the identity sources.
    """
    event = {**_common(call), "type": "REQUEST", "methodArn": request_arn(call)}
    # Functions get null for these if they are empty, authorizers get an empty object.
    event |= {name: event[name] or {} for name in _OPTIONAL}
    if call.api.kind is ApiKind.REST:
        return event
    sources = ",".join(identity)
    return {**event, "identitySource": sources, "authorizationToken": sources}


def rest_token_event(call: Call, token: str) -> dict[str, Any]:
    """Returns an event for an authorizer of type TOKEN."""
    return {"type": "TOKEN", "methodArn": request_arn(call), "authorizationToken": token}


def is_binary(content_type: str, binary_types: Sequence[str]) -> bool:
    """Returns whether a media type is one of an API's binary types.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-payload-encodings.html
    """
    kind = content_type.split(";", maxsplit=1)[0].strip().lower()
    main = kind.partition("/")[0]
    return any(
        wanted.lower() in ("*/*", kind, f"{main}/*" if main else kind) for wanted in binary_types
    )


def _body(call: Call) -> tuple[str | None, bool]:
    request = call.request
    if not request.body:
        return None, False
    if call.api.kind is ApiKind.REST:
        if is_binary(request.header("content-type") or "application/json", call.api.binary_types):
            return base64.b64encode(request.body).decode(), True
        # A REST API reads every other body as UTF-8, which damages bytes that are not.
        return request.body.decode(errors="replace"), False
    text = as_text(request)
    return (base64.b64encode(request.body).decode(), True) if text is None else (text, False)


def _common(call: Call) -> dict[str, Any]:
    request, route = call.request, call.route
    is_rest = call.api.kind is ApiKind.REST
    port = urlsplit(call.api.url).port or 80
    headers = [
        # HTTP APIs give all names in lower case, REST APIs as they were sent.
        (name if is_rest else name.lower(), value)
        for name, value in forwarded(request, port=port, with_length=not is_rest)
    ]
    query = parse_qsl(request.query, keep_blank_values=True)
    event: dict[str, Any] = {
        "resource": route.path,
        "path": call.path if is_rest else call.staged_path,
        "httpMethod": request.method,
        # Of several values, the single one is the last.
        "headers": dict(headers),
        "multiValueHeaders": _multiple(headers),
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _multiple(query) or None,
        "pathParameters": dict(call.parameters) or None,
        "stageVariables": dict(call.stage.variables) or None,
        "requestContext": request_context(call),
    }
    return event if is_rest else {"version": "1.0", **event}


def request_context(call: Call) -> dict[str, Any]:
    """Returns the context of a request, without what an authorizer adds."""
    request = call.request
    now = time.time()
    domain = request.header("host") or "localhost"
    route = call.route
    context: dict[str, Any] = {
        "accountId": ACCOUNT,
        "apiId": call.api.id,
        "domainName": domain,
        "domainPrefix": domain.split(".")[0],
        "extendedRequestId": f"{call.request_id.replace('-', '')[:15]}=",
        "httpMethod": request.method,
        "identity": {
            **_NO_IDENTITY,
            **({} if call.api.kind is ApiKind.REST else {"cognitoAmr": None}),
            "sourceIp": request.source_ip,
            "userAgent": request.header("user-agent"),
        },
        "path": call.staged_path,
        "protocol": request.protocol,
        "requestId": call.request_id,
        "requestTime": datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "requestTimeEpoch": int(now * 1000),
        "resourceId": route.key if call.api.kind is not ApiKind.REST else _resource_id(route.path),
        "resourcePath": route.path,
        "stage": call.stage.name,
    }
    if call.api.kind is ApiKind.REST:
        context["deploymentId"] = "local"
    return context


def _resource_id(path: str) -> str:
    """Returns a short id that stays the same for a path, as the ids of resources do."""
    import zlib

    return f"{zlib.crc32(path.encode()):08x}"[:6]


def _multiple(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def signer_identity(key_id: str) -> dict[str, Any]:
    """Returns the identity of a caller that signed its request."""
    return {
        "accessKey": key_id,
        "accountId": ACCOUNT,
        "caller": key_id,
        "user": key_id,
        "userArn": SIGNER_ARN,
    }


def with_identity(event: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an event whose context also says who the caller is."""
    context = event["requestContext"]
    merged = {**context, "identity": {**context["identity"], **identity}}
    return {**event, "requestContext": merged}
