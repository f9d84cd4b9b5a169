"""HTTP and REST APIs with a function that is a coroutine: limits, time-outs and own responses."""

import asyncio
import io
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mayfly_local.application.apis import (
    Api,
    ApiKind,
    Authorizer,
    AuthorizerKind,
    GatewayResponse,
    Mock,
    Route,
    Stage,
    Validation,
)
from mayfly_local.compute.invocation import Failure, Invocation, Reply
from mayfly_local.iam.credentials import Keys
from mayfly_local.iam.tokens import make_token
from mayfly_local.logs import Log, Logs
from mayfly_local.sources.authorizations import Guests
from mayfly_local.sources.http_api import HttpApi
from mayfly_local.sources.http_request import HttpRequest
from mayfly_local.sources.refusals import Refused, rest_refusal
from mayfly_local.sources.rest_api import RestApi
from mayfly_local.sources.routes import match
from mayfly_local.sources.shares import Shares

KINDS = [ApiKind.HTTP, ApiKind.REST, ApiKind.URL]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    logs = Logs(tmp_path, form="json", out=io.StringIO())
    yield logs.of("mayfly")
    logs.close()


def front(log: Log, kind: ApiKind, invoke: Any, **route: Any) -> HttpApi | RestApi:
    authorizer = route.pop("authorizer", None)
    api = Api(
        "Api", "local", kind, "http://127.0.0.1:3000",
        (Route("POST", "/a", "F", authorizer, **route),), (Stage("$default"),),
    )  # fmt: skip
    guests = Guests(Keys.foreign())
    kind_of_front = RestApi if kind is ApiKind.REST else HttpApi
    return kind_of_front(api, invoke, guests, log, Shares(limit_of=lambda _: 10))


def post(body: bytes = b"", path: str = "/a") -> HttpRequest:
    headers = [("Host", "h"), ("Content-Type", "text/plain")]
    return HttpRequest("POST", path, "", headers, body, "127.0.0.1", "HTTP/1.1")


def answer(response: web.Response) -> tuple[int, Any]:
    assert isinstance(response.body, bytes)
    return response.status, json.loads(response.body)


class Slow:
    """Plays a function that answers when the test lets it."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, name: str, invocation: Invocation) -> Reply | Failure:
        await self.may_end.wait()
        self.ended.set()
        return Reply(b'{"statusCode": 200}')


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ApiKind.HTTP, (503, {"message": "Service Unavailable"})),
        (ApiKind.REST, (504, {"message": "Endpoint request timed out"})),
    ],
    ids=str,
)
def test_function_that_takes_too_long_is_answered_for_and_continues(
    log: Log, kind: ApiKind, expected: Any
) -> None:
    async def run() -> None:
        function = Slow()
        api = front(log, kind, function, seconds=0.01)
        assert answer(await api.answer(post(), "r")) == expected
        function.may_end.set()
        await asyncio.wait_for(function.ended.wait(), 5)

    asyncio.run(run())


async def echo(name: str, invocation: Invocation) -> Reply | Failure:
    return Reply(b'{"statusCode": 200, "body": "ok"}')


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ApiKind.HTTP, "Request Entity Too Large"),
        (ApiKind.REST, "Request Too Long"),
        (ApiKind.URL, "Request Entity Too Large"),
    ],
    ids=str,
)
def test_event_above_6_mb_is_413(log: Log, kind: ApiKind, message: str) -> None:
    api = front(log, kind, echo)
    response = asyncio.run(api.answer(post(b"x" * (6 * 1024 * 1024)), "r"))
    assert answer(response) == (413, {"message": message})


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        (ApiKind.HTTP, "text/plain; charset=utf-8"),
        (ApiKind.REST, "application/json"),
        (ApiKind.URL, "application/json"),
    ],
    ids=str,
)
def test_reply_without_a_content_type_has_that_of_the_service(
    log: Log, kind: ApiKind, content_type: str
) -> None:
    response = asyncio.run(front(log, kind, echo).answer(post(), "r"))
    assert response.headers["Content-Type"] == content_type


@pytest.mark.parametrize("kind", KINDS)
def test_route_without_an_integration_here_is_501(log: Log, kind: ApiKind) -> None:
    api = front(log, kind, echo, absent="the integration aws is absent here")
    assert answer(asyncio.run(api.answer(post(), "r"))) == (
        501,
        {"message": "POST /a: the integration aws is absent here"},
    )


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_reason_of_a_refusal_is_logged_once(tmp_path: Path, log: Log, kind: ApiKind) -> None:
    def never(name: str, invocation: Invocation) -> Any:
        raise AssertionError(name)

    asyncio.run(front(log, kind, never, absent="the function F is absent here").answer(post(), "r"))
    asyncio.run(front(log, kind, never).answer(post(path="/unknown"), "r"))
    lines = (tmp_path / "mayfly.jsonl").read_text().splitlines()
    (entry,) = [json.loads(line) for line in lines]  # An unknown route needs no reason.
    assert (entry["type"], entry["status"], entry["request_id"]) == ("request refused", 501, "r")
    assert entry["reason"] == "the function F is absent here"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ApiKind.HTTP, (500, {"message": "Internal Server Error"})),
        (ApiKind.REST, (502, {"message": "Internal server error"})),
        (ApiKind.URL, (502, {"message": "Internal Server Error"})),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "payload", [b"x", b'{"statusCode": 200, "body": {}}', b'{"statusCode": 100}']
)
def test_malformed_reply_has_the_body_of_the_service(
    log: Log, kind: ApiKind, expected: Any, payload: bytes
) -> None:
    async def function(name: str, invocation: Invocation) -> Reply | Failure:
        return Reply(payload)

    assert answer(asyncio.run(front(log, kind, function).answer(post(), "r"))) == expected


def test_body_of_a_mock_is_the_response(log: Log) -> None:
    api = front(log, ApiKind.REST, echo, mock=Mock(202, {"X-A": "b"}, '{"a": 1}'))
    response = asyncio.run(api.answer(post(), "r"))
    assert (answer(response), response.headers["X-A"]) == ((202, {"a": 1}), "b")


@pytest.mark.parametrize(
    ("responses", "status", "headers", "body"),
    [
        pytest.param({}, 403, {}, '{"message":"Forbidden"}', id="none"),
        pytest.param(
            {"DEFAULT_4XX": GatewayResponse(None, {"X-A": "b"}, None)},
            403, {"X-A": "b"}, '{"message":"Forbidden"}', id="headers-of-every-4xx",
        ),
        pytest.param(
            {"DEFAULT_5XX": GatewayResponse(400, {}, None)},
            403, {}, '{"message":"Forbidden"}', id="5xx-does-not-apply",
        ),
        pytest.param(
            {
                "DEFAULT_4XX": GatewayResponse(400, {}, None),
                "INVALID_API_KEY": GatewayResponse(401, {}, '{"e": $context.error.messageString}'),
            },
            401, {}, '{"e": "Forbidden"}', id="own-type-before-the-general-one",
        ),
        pytest.param(
            {"INVALID_API_KEY": GatewayResponse(
                None, {}, "$context.error.responseType $context.requestId $context.error.message"
            )},
            403, {}, "INVALID_API_KEY r Forbidden", id="variables",
        ),
    ],
)  # fmt: skip
def test_gateway_responses_of_the_template_are_used(
    responses: dict[str, GatewayResponse], status: int, headers: dict[str, str], body: str
) -> None:
    refused = Refused(403, "Forbidden", "INVALID_API_KEY")
    response = rest_refusal(refused, responses, {"requestId": "r"})
    assert (response.status, response.body) == (status, body.encode())
    assert {name: response.headers[name] for name in headers} == headers


def refused_body(log: Log, template: str, invoke: Any, request: HttpRequest, **route: Any) -> str:
    """Returns the body of a REST API's own response whose template is given."""
    responses = {
        kind: GatewayResponse(None, {}, template) for kind in ("DEFAULT_4XX", "DEFAULT_5XX")
    }
    authorizer = route.pop("authorizer", None)
    api = Api(
        "Api", "api-id", ApiKind.REST, "http://127.0.0.1:3000",
        (Route("POST", "/a/{id}", "F", authorizer, **route),), (Stage("Prod"),),
        responses=responses,
    )  # fmt: skip
    rest = RestApi(api, invoke, Guests(Keys.foreign()), log, Shares(limit_of=lambda _: 10))
    body = asyncio.run(rest.answer(request, "0123-456")).body
    assert isinstance(body, bytes)
    return body.decode()


#: Variables of a gateway response, and their values for a request of the tests.
VARIABLES = {
    "path": "/Prod/a/1", "identity.sourceIp": "127.0.0.1", "identity.userAgent": "agent/1",
    "httpMethod": "POST", "apiId": "api-id", "stage": "Prod", "requestId": "0123-456",
    "extendedRequestId": "0123456=", "resourcePath": "/a/{id}", "protocol": "HTTP/1.1",
    "domainName": "h", "authorizer.principalId": "", "authorizer.claims.sub": "",
    "identity.apiKey": "", "error.validationErrorString": "", "no.such.variable": "",
}  # fmt: skip


def anna(path: str = "/Prod/a/1", body: bytes = b"") -> HttpRequest:
    headers = [("Host", "h"), ("User-Agent", "agent/1"), ("X-Who", "anna")]
    return HttpRequest("POST", path, "", headers, body, "127.0.0.1", "HTTP/1.1")


@pytest.mark.parametrize(("name", "value"), VARIABLES.items())
def test_gateway_response_has_the_variables_of_the_request(log: Log, name: str, value: str) -> None:
    template = f"<$context.{name}>"
    assert refused_body(log, template, echo, anna(), needs_key=True) == f"<{value}>"


def test_gateway_response_has_the_time_of_the_request(log: Log) -> None:
    template = "$context.requestTime $context.requestTimeEpoch"
    day, zone, epoch = refused_body(log, template, echo, anna(), needs_key=True).split()
    assert datetime.strptime(f"{day} {zone}", "%d/%b/%Y:%H:%M:%S %z").timestamp() == (
        int(epoch) // 1000
    )


def test_gateway_response_to_an_unknown_path_has_no_resource(log: Log) -> None:
    template = "[$context.resourcePath$context.resourceId] $context.path: $context.stage."
    assert refused_body(log, template, echo, anna("/Prod/b")) == "[] /Prod/b: Prod."


@pytest.mark.parametrize("effect", ["Deny", "Allow"])
def test_gateway_response_has_the_context_of_the_authorizer(log: Log, effect: str) -> None:
    async def decide(name: str, invocation: Invocation) -> Reply:
        statement = {"Effect": effect, "Action": "execute-api:Invoke", "Resource": "*"}
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        reply = {"principalId": "me", "policyDocument": policy, "context": {"why": True}}
        return Reply(json.dumps(reply).encode())

    authorizer = Authorizer(
        "A", "F", ("method.request.header.X-Who",), kind=AuthorizerKind.REQUEST, payload="1.0"
    )
    template = "$context.authorizer.principalId $context.authorizer.why"
    body = refused_body(log, template, decide, anna(), authorizer=authorizer, needs_key=True)
    assert body == "me true"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("exp", 4102444800, "Fri Jan 01 00:00:00 UTC 2100"),
        ("iat", 1616938842, "Sun Mar 28 13:40:42 UTC 2021"),
        ("iat", 10**17, "100000000000000000"),
        ("iat", 1714569022, "Wed May 01 13:10:22 UTC 2024"),
        ("auth_time", 1616935242, "1616935242"),
        ("cognito:groups", ["a", "b"], "a,b"),
        ("email_verified", False, "false"),
    ],
)
def test_rest_api_writes_claims_as_texts(log: Log, name: str, value: Any, text: str) -> None:
    events: list[Any] = []

    async def note(_: str, invocation: Invocation) -> Reply:
        events.append(json.loads(invocation.event))
        return Reply(b'{"statusCode": 200}')

    authorizer = Authorizer(
        "Pool", "", ("method.request.header.Authorization",), kind=AuthorizerKind.COGNITO
    )
    api = Api(
        "Api", "a", ApiKind.REST, "http://127.0.0.1:3000",
        (Route("GET", "/a", "F", authorizer),), (Stage("Prod"),),
    )  # fmt: skip
    keys = Keys.foreign()
    rest = RestApi(api, note, Guests(keys), log, Shares(limit_of=lambda _: 10))
    token = make_token(keys.people.secret, {"exp": 4102444800, "sub": "anna", name: value})
    headers = [("Host", "h"), ("Authorization", token)]
    request = HttpRequest("GET", "/Prod/a", "", headers, b"", "127.0.0.1", "HTTP/1.1")
    assert asyncio.run(rest.answer(request, "r")).status == 200
    assert events[0]["requestContext"]["authorizer"]["claims"][name] == text


def test_gateway_response_says_what_is_wrong_with_a_body(log: Log) -> None:
    validation = Validation((), {"type": "object", "required": ["name"]})
    template = "$context.error.validationErrorString"
    body = refused_body(log, template, echo, anna(body=b"{}"), validation=validation)
    assert body.startswith("[")
    assert "name" in body


@pytest.mark.parametrize(
    ("kind", "body"),
    [(ApiKind.HTTP, {"message": "Forbidden"}), (ApiKind.URL, {"Message": "Forbidden"})],
    ids=str,
)
def test_unsigned_request_is_refused_in_the_words_of_the_service(
    log: Log, kind: ApiKind, body: dict[str, str]
) -> None:
    api = front(log, kind, echo, authorizer=Authorizer("I", kind=AuthorizerKind.IAM))
    assert answer(asyncio.run(api.answer(post(), "r"))) == (403, body)


def test_failed_authorizer_of_a_rest_api_has_null_as_its_message() -> None:
    refused = Refused(500, None, "AUTHORIZER_CONFIGURATION_ERROR")
    response = rest_refusal(refused, {}, {})
    assert (response.body, response.headers["x-amzn-ErrorType"]) == (
        b'{"message":null}',
        "AuthorizerConfigurationException",
    )


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", "/hello", "GET /hello"),
        ("GET", "/hello/", "GET /hello"),
        ("POST", "/hello", None),  # The resource is found first, and has no POST.
        ("POST", "/other", "ANY /{proxy+}"),
        ("GET", "/hello/x", "ANY /{proxy+}"),
        ("GET", "/", None),
    ],
)
def test_rest_api_finds_the_resource_before_the_method(
    method: str, path: str, key: str | None
) -> None:
    routes = (Route("GET", "/hello", "F", None), Route("ANY", "/{proxy+}", "F", None))
    found = match(routes, method, path, kind=ApiKind.REST)
    assert (found[0].key if found else None) == key


def test_response_of_a_rest_api_names_the_stage_of_the_request(log: Log) -> None:
    template = GatewayResponse(None, {}, "$context.stage")
    api = Api(
        "Api", "local", ApiKind.REST, "http://127.0.0.1:3000", (), (Stage("dev"), Stage("prod")),
        responses={"MISSING_AUTHENTICATION_TOKEN": template},
    )  # fmt: skip

    async def invoke(name: str, invocation: Invocation) -> Reply | Failure:
        raise AssertionError("there is no route")

    rest = RestApi(api, invoke, Guests(Keys.foreign()), log, Shares(limit_of=lambda _: 10))
    found = asyncio.run(rest.answer(post(path="/prod/nowhere"), "r"))
    assert (found.status, found.body) == (403, b"prod")
