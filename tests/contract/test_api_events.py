"""Events of APIs, field by field: the names and types that AWS documents and sends.

The fields are those of AWS's pages and of events that were published:

- https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
- Page http-api-develop-integrations-lambda of
  https://docs.aws.amazon.com/apigateway/latest/developerguide/
- https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html
- Page api-gateway-lambda-authorizer-input of
  https://docs.aws.amazon.com/apigateway/latest/developerguide/
- https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
- aws/serverless-java-container #136 and #329, adamchainz/apig-wsgi #124,
  aws-powertools/powertools-lambda-typescript #2624

`clientCert` is left out: only an API with mutual TLS sends it.
"""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from mayfly_local.application.apis import Api, ApiKind, Route, Stage
from mayfly_local.sources.http_events import http_authorizer_event, http_event
from mayfly_local.sources.http_request import Call, HttpRequest
from mayfly_local.sources.rest_events import rest_event, rest_request_event, rest_token_event

HEADERS = [
    ("Host", "id.example"), ("User-Agent", "agent"), ("X-Twice", "1"), ("X-Twice", "2"),
    ("Cookie", "a=1; b=2"),
]  # fmt: skip


def call(
    kind: ApiKind, *, stage: str, path: str, rest: str, query: str = "", body: bytes = b"",
    variables: Mapping[str, str] | None = None,
) -> Call:  # fmt: skip
    route = Route("GET", path, "F", None)
    found = Stage(stage, variables or {})
    api = Api("Api", "id", kind, "http://127.0.0.1:3000", (route,), (found,))
    request = HttpRequest("GET", rest, query, HEADERS, body, "192.168.0.1", "HTTP/1.1")
    parameters = {"id": "1"} if "{id}" in path else {}
    return Call(api, found, route, rest, parameters, request, "request-id")


def full(kind: ApiKind, stage: str = "prod") -> Call:
    return call(
        kind, stage=stage, path="/pets/{id}", rest="/pets/1", query="a=1&a=2&b=", body=b"{}",
        variables={"color": "blue"},
    )  # fmt: skip


def bare(kind: ApiKind, stage: str = "prod") -> Call:
    return call(kind, stage=stage, path="/pets", rest="/pets")


def fields(value: Any, prefix: str = "") -> dict[str, str]:
    """Returns the type of each field by its path; headers and parameters count as one field."""
    if isinstance(value, dict) and prefix.rpartition(".")[2] not in MAPS:
        return {
            name: kind
            for key, member in value.items()
            for name, kind in fields(member, f"{prefix}.{key}" if prefix else key).items()
        }
    return {prefix: type(value).__name__}


MAPS = {
    "headers", "multiValueHeaders", "queryStringParameters", "multiValueQueryStringParameters",
    "pathParameters", "stageVariables",
}  # fmt: skip

IDENTITY = {
    f"requestContext.identity.{name}": "NoneType"
    for name in (
        "accessKey", "accountId", "caller", "cognitoAuthenticationProvider",
        "cognitoAuthenticationType", "cognitoIdentityId", "cognitoIdentityPoolId",
        "principalOrgId", "user", "userArn",
    )
}  # fmt: skip
IDENTITY |= {"requestContext.identity.sourceIp": "str", "requestContext.identity.userAgent": "str"}

CONTEXT_1 = {
    f"requestContext.{name}": "str"
    for name in (
        "accountId", "apiId", "domainName", "domainPrefix", "extendedRequestId", "httpMethod",
        "path", "protocol", "requestId", "requestTime", "resourceId", "resourcePath", "stage",
    )
} | {"requestContext.requestTimeEpoch": "int"} | IDENTITY  # fmt: skip

REQUEST_1 = {
    "resource": "str", "path": "str", "httpMethod": "str", "headers": "dict",
    "multiValueHeaders": "dict", "queryStringParameters": "dict",
    "multiValueQueryStringParameters": "dict", "pathParameters": "dict", "stageVariables": "dict",
    **CONTEXT_1,
}  # fmt: skip
OF_REST = {"requestContext.deploymentId": "str"}
OF_HTTP = {"version": "str", "requestContext.identity.cognitoAmr": "NoneType"}
NOTHING_1 = dict.fromkeys(
    (
        "queryStringParameters", "multiValueQueryStringParameters", "pathParameters",
        "stageVariables", "body",
    ),
    "NoneType",
)  # fmt: skip
BODY = {"body": "str", "isBase64Encoded": "bool"}

CONTEXT_2 = {
    f"requestContext.{name}": "str"
    for name in (
        "accountId", "apiId", "domainName", "domainPrefix", "http.method", "http.path",
        "http.protocol", "http.sourceIp", "http.userAgent", "requestId", "routeKey", "stage",
        "time",
    )
} | {"requestContext.timeEpoch": "int"}  # fmt: skip
BARE_2 = {
    "version": "str", "routeKey": "str", "rawPath": "str", "rawQueryString": "str",
    "headers": "dict", **CONTEXT_2,
}  # fmt: skip
FULL_2 = BARE_2 | {
    "cookies": "list",
    "queryStringParameters": "dict",
    "pathParameters": "dict",
    "stageVariables": "dict",
}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(rest_event(full(ApiKind.REST)), REQUEST_1 | OF_REST | BODY, id="rest-1.0"),
        pytest.param(
            rest_event(bare(ApiKind.REST)),
            REQUEST_1 | OF_REST | BODY | NOTHING_1,
            id="rest-1.0-without-anything",
        ),
        pytest.param(rest_event(full(ApiKind.HTTP)), REQUEST_1 | OF_HTTP | BODY, id="http-1.0"),
        pytest.param(
            rest_event(bare(ApiKind.HTTP)),
            REQUEST_1 | OF_HTTP | BODY | NOTHING_1,
            id="http-1.0-without-anything",
        ),
        pytest.param(http_event(full(ApiKind.HTTP)), FULL_2 | BODY, id="http-2.0"),
        pytest.param(
            http_event(bare(ApiKind.HTTP)),
            BARE_2 | {"cookies": "list", "isBase64Encoded": "bool"},
            id="http-2.0-without-anything",
        ),
        pytest.param(
            http_event(bare(ApiKind.URL, "$default")),
            BARE_2 | {"cookies": "list", "isBase64Encoded": "bool"},
            id="function-url",
        ),
        pytest.param(
            rest_request_event(full(ApiKind.REST), ()),
            REQUEST_1 | OF_REST | {"type": "str", "methodArn": "str"},
            id="rest-request-authorizer",
        ),
        pytest.param(
            rest_request_event(bare(ApiKind.REST), ()),
            REQUEST_1 | OF_REST | {"type": "str", "methodArn": "str"},
            id="rest-request-authorizer-without-anything",
        ),
        pytest.param(
            rest_token_event(full(ApiKind.REST), "t"),
            {"type": "str", "methodArn": "str", "authorizationToken": "str"},
            id="rest-token-authorizer",
        ),
        pytest.param(
            rest_request_event(full(ApiKind.HTTP), ["u", "1"]),
            REQUEST_1
            | OF_HTTP
            | dict.fromkeys(("type", "methodArn", "identitySource", "authorizationToken"), "str"),
            id="http-authorizer-1.0",
        ),
        pytest.param(
            http_authorizer_event(full(ApiKind.HTTP), ["u", "1"]),
            FULL_2 | {"type": "str", "routeArn": "str", "identitySource": "list"},
            id="http-authorizer-2.0",
        ),
    ],
)
def test_event_has_the_fields_that_aws_documents(
    event: dict[str, Any], expected: dict[str, str]
) -> None:
    assert fields(event) == expected


def test_values_of_a_rest_event() -> None:
    event = rest_event(full(ApiKind.REST))
    context = event["requestContext"]
    assert (event["resource"], event["path"]) == ("/pets/{id}", "/pets/1")
    assert (context["resourcePath"], context["path"]) == ("/pets/{id}", "/prod/pets/1")
    assert event["headers"]["X-Twice"] == "2"
    assert event["multiValueHeaders"]["X-Twice"] == ["1", "2"]
    assert event["headers"]["X-Forwarded-For"] == "192.168.0.1"
    assert event["queryStringParameters"] == {"a": "2", "b": ""}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": [""]}
    assert (event["pathParameters"], event["stageVariables"]) == ({"id": "1"}, {"color": "blue"})
    assert (context["stage"], context["domainPrefix"]) == ("prod", "id")
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}(:\d\d){3} \+0000", context["requestTime"])
    assert len(str(context["requestTimeEpoch"])) == 13


def test_values_of_an_event_of_an_http_api_in_format_1() -> None:
    event = rest_event(full(ApiKind.HTTP))
    assert event["path"] == event["requestContext"]["path"] == "/prod/pets/1"
    assert event["headers"]["x-twice"] == "2"
    assert event["multiValueHeaders"]["x-twice"] == ["1", "2"]
    assert event["requestContext"]["resourceId"] == "GET /pets/{id}"


@pytest.mark.parametrize("kind", [ApiKind.HTTP, ApiKind.REST])
def test_arn_of_a_request_names_stage_method_and_path(kind: ApiKind) -> None:
    event = rest_request_event(full(kind), ())
    assert event["methodArn"] == "arn:aws:execute-api:us-east-1:000000000000:id/prod/GET/pets/1"
