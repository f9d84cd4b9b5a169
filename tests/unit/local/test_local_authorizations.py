"""Access to routes: identity sources, the cache of authorizers, and keys of functions."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from mayfly_local.application.apis import Api, ApiKind, Authorizer, AuthorizerKind, Route, Stage
from mayfly_local.application.build.authorizers import IAM
from mayfly_local.compute.invocation import Failure, Invocation, Reply
from mayfly_local.iam.credentials import Credentials, Keys
from mayfly_local.iam.permissions import Role
from mayfly_local.iam.signatures import BadSignature, signer_of
from mayfly_local.sources.authorizations import Authorizations, Caller, Guests, identity_value
from mayfly_local.sources.http_request import Call, HttpRequest
from mayfly_local.sources.refusals import Refused

PEOPLE = Credentials("people1", "secret")
FUNCTION = Credentials("function1", "other")
KEYS = Keys(PEOPLE, Credentials("runtime1", "x"), {"Caller": FUNCTION})
STAGE = Stage("prod", {"key": "v"})
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def call(
    authorizer: Authorizer | None = None,
    *,
    kind: ApiKind = ApiKind.HTTP,
    path: str = "/a",
    headers: Mapping[str, str] | None = None,
    query: str = "",
    method: str = "GET",
) -> Call:
    route = Route("GET", path, "F", authorizer)
    api = Api("Api", "local", kind, "http://127.0.0.1:3000", (route,), (STAGE,))
    given = {"host": "h:1", **(headers or {})}
    request = HttpRequest(
        method, f"/prod{path}", query, list(given.items()), b"", "127.0.0.1", "HTTP/1.1"
    )
    return Call(api, STAGE, route, path, {}, request, "r")


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("$request.header.X-Own", "1"),
        ("$request.header.x-own", "1"),
        ("$request.header.Missing", None),
        ("$request.querystring.q", "2"),
        ("$request.querystring.missing", None),
        ("$context.httpMethod", "GET"),
        ("$context.routeKey", "GET /a"),
        ("$context.identity.sourceIp", "127.0.0.1"),
        ("$context.identity.unknown", None),
        ("$stageVariables.key", "v"),
        ("method.request.header.X-Own", "1"),
        ("method.request.querystring.q", "2"),
        ("context.stage", "prod"),
        ("stageVariables.missing", None),
    ],
)
def test_identity_source_has_a_value_of_the_request(source: str, value: str | None) -> None:
    assert identity_value(source, call(headers={"X-Own": "1"}, query="q=2")) == value


class Function:
    """Plays an authorizer's function, and counts its invocations."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.events: list[Any] = []

    async def __call__(self, name: str, invocation: Invocation) -> Reply | Failure:
        self.events.append(json.loads(invocation.event))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply if isinstance(reply, Failure) else Reply(json.dumps(reply).encode())


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


def caller(access: Authorizations, asked: Call) -> Caller | int:
    """Returns the caller of a request, or the status of its refusal."""
    try:
        return asyncio.run(access.caller(asked))
    except Refused as refused:
        return refused.status


def lambda_authorizer(**changes: Any) -> Authorizer:
    sources = ("$request.header.X-Own",)
    return Authorizer(**{
        "name": "A", "function": "F", "identity_sources": sources, "cache_seconds": 60,
        "is_simple": True, **changes,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("cache_seconds", "later", "invocations"),
    [
        pytest.param(60, 59, 1, id="within-the-ttl"),
        pytest.param(60, 60, 2, id="after-the-ttl"),
        pytest.param(0, 0, 2, id="no-cache"),
    ],
)
def test_decision_is_cached_for_the_ttl(cache_seconds: int, later: int, invocations: int) -> None:
    function, clock = Function({"isAuthorized": True}), Clock()
    access = Authorizations(ApiKind.HTTP, function, Guests(KEYS), clock=clock)
    asked = call(lambda_authorizer(cache_seconds=cache_seconds), headers={"X-Own": "1"})
    assert isinstance(caller(access, asked), Caller)
    clock.now += later
    assert isinstance(caller(access, asked), Caller)
    assert len(function.events) == invocations


def test_decision_is_cached_for_one_identity() -> None:
    function = Function({"isAuthorized": True}, {"isAuthorized": False})
    access = Authorizations(ApiKind.HTTP, function, Guests(KEYS), clock=Clock())
    authorizer = lambda_authorizer()
    assert isinstance(caller(access, call(authorizer, headers={"X-Own": "1"})), Caller)
    assert caller(access, call(authorizer, headers={"X-Own": "2"})) == 403


def test_failure_of_an_authorizer_is_not_cached() -> None:
    function = Function(Failure("ValueError", "x"), {"isAuthorized": True})
    access = Authorizations(ApiKind.HTTP, function, Guests(KEYS), clock=Clock())
    asked = call(lambda_authorizer(), headers={"X-Own": "1"})
    assert caller(access, asked) == 500
    assert isinstance(caller(access, asked), Caller)


@pytest.mark.parametrize(
    ("payload", "key"), [("2.0", "routeArn"), ("1.0", "methodArn")], ids=["2.0", "1.0"]
)
def test_event_has_the_format_that_the_authorizer_asks_for(payload: str, key: str) -> None:
    function = Function({"isAuthorized": True})
    access = Authorizations(ApiKind.HTTP, function, Guests(KEYS), clock=Clock())
    caller(access, call(lambda_authorizer(payload=payload), headers={"X-Own": "1"}))
    (event,) = function.events
    assert (event["version"], event["type"]) == (payload, "REQUEST")
    assert event[key] == "arn:aws:execute-api:us-east-1:000000000000:local/prod/GET/a"
    assert event["identitySource"] == (["1"] if payload == "2.0" else "1")


@pytest.mark.parametrize(
    "reply",
    [
        {}, [], "x", None, {"isAuthorized": "true"}, {"isAuthorized": True, "context": []},
        {"isAuthorized": True, "context": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_reply_that_is_not_a_decision_is_500(reply: Any) -> None:
    access = Authorizations(ApiKind.HTTP, Function(reply), Guests(KEYS), clock=Clock())
    assert caller(access, call(lambda_authorizer(), headers={"X-Own": "1"})) == 500


@pytest.mark.parametrize(
    ("change", "status"),
    [
        pytest.param({}, None, id="valid"),
        pytest.param({"principalId": None}, 500, id="no-principal"),
        pytest.param({"context": {"a": [1]}}, 500, id="context-with-a-list"),
        pytest.param({"policyDocument": None}, 500, id="no-policy"),
    ],
)
def test_reply_to_a_rest_api_needs_principal_and_policy(
    change: dict[str, Any], status: int | None
) -> None:
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    reply = {"principalId": "me", "policyDocument": {"Statement": [statement]}, **change}
    authorizer = lambda_authorizer(
        kind=AuthorizerKind.TOKEN,
        identity_sources=("method.request.header.X-Own",),
        is_simple=False,
        payload="1.0",
    )
    access = Authorizations(ApiKind.REST, Function(reply), Guests(KEYS), clock=Clock())
    found = caller(access, call(authorizer, kind=ApiKind.REST, headers={"X-Own": "1"}))
    assert (found if isinstance(found, int) else None) == status


# ---------------------------------------------------------------- signatures


def signed(
    key: Credentials, method: str = "GET", path: str = "/prod/a", service: str = "execute-api"
) -> dict[str, str]:
    request = AWSRequest(method, f"http://h:1{path}", headers={"Host": "h:1"})
    SigV4Auth(BotoCredentials(key.id, key.secret), service, "us-east-1").add_auth(request)
    return dict(request.headers.items())


def role(effect: str, resource: str, action: str = "execute-api:Invoke", **more: Any) -> Role:
    statement = {"Effect": effect, "Action": action, "Resource": resource, **more}
    return Role("CallerRole", ({"Statement": [statement]},))


API = "arn:aws:execute-api:us-east-1:000000000000:local"


@pytest.mark.parametrize(
    ("key", "roles", "expected"),
    [
        pytest.param(PEOPLE, {}, "people1", id="people"),
        pytest.param(FUNCTION, {"Caller": role("Allow", f"{API}/*/GET/a")}, "function1", id="ok"),
        pytest.param(FUNCTION, {"Caller": role("Allow", f"{API}/*/GET/b")}, 403, id="other-route"),
        pytest.param(FUNCTION, {"Caller": role("Deny", "*")}, 403, id="denied"),
        pytest.param(
            FUNCTION,
            {"Caller": Role("R", (), ("AmazonAPIGatewayInvokeFullAccess",))},
            "function1",
            id="policy-of-aws",
        ),
        pytest.param(
            FUNCTION,
            {"Caller": role("Allow", "*", Condition={"Bool": {"a": "true"}})},
            "function1",
            id="condition-is-not-evaluated",
        ),
        pytest.param(FUNCTION, {"Caller": None}, "function1", id="role-is-not-known"),
        pytest.param(Credentials("people1", "wrong"), {}, 403, id="wrong-secret"),
        pytest.param(Credentials("nobody", "secret"), {}, 403, id="unknown-key"),
    ],
)
def test_signer_may_call_what_its_role_allows(
    key: Credentials, roles: dict[str, Role | None], expected: Any
) -> None:
    access = Authorizations(ApiKind.HTTP, Function(None), Guests(KEYS, roles))
    found = caller(access, call(IAM, headers=signed(key)))
    assert (found if isinstance(found, int) else found.key_id) == expected


@pytest.mark.parametrize(
    ("resource", "expected"),
    [("arn:aws:lambda:us-east-1:000000000000:function:f", "function1"), ("F", 403)],
)
def test_caller_of_a_function_url_needs_the_permission_on_the_functions_arn(
    resource: str, expected: Any
) -> None:
    roles: dict[str, Role | None] = {"Caller": role("Allow", resource, "lambda:InvokeFunctionUrl")}
    arns = {"F": "arn:aws:lambda:us-east-1:000000000000:function:f"}
    access = Authorizations(ApiKind.URL, Function(None), Guests(KEYS, roles, arns))
    headers = signed(FUNCTION, service="lambda")
    found = caller(access, call(IAM, kind=ApiKind.URL, headers=headers))
    assert (found if isinstance(found, int) else found.key_id) == expected


def check(headers: dict[str, str], *, now: datetime = NOW, **changes: Any) -> str:
    facts = {"method": "GET", "url": "http://h:1/prod/a", "body": b"", "service": "execute-api"}
    lower = [(name.lower(), value) for name, value in headers.items()]
    return signer_of(KEYS, headers=lower, now=now, **{**facts, **changes}).key_id


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"method": "POST"}, "INVALID_SIGNATURE", id="other-method"),
        pytest.param({"url": "http://h:1/prod/b"}, "INVALID_SIGNATURE", id="other-path"),
        pytest.param({"url": "http://h:1/prod/a?x=1"}, "INVALID_SIGNATURE", id="other-query"),
        pytest.param({"body": b"x"}, "INVALID_SIGNATURE", id="other-body"),
        pytest.param({"service": "lambda"}, "INVALID_SIGNATURE", id="other-service"),
        pytest.param({"now": datetime(2026, 1, 1, tzinfo=UTC)}, "INVALID_SIGNATURE", id="old"),
    ],
)
def test_signature_is_for_one_request(changes: dict[str, Any], code: str) -> None:
    headers = signed(PEOPLE)
    made_at = datetime.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert check(headers, now=made_at) == "people1"
    with pytest.raises(BadSignature) as caught:
        check(headers, **{"now": made_at, **changes})
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        pytest.param({}, "MISSING_AUTHENTICATION_TOKEN", id="no-header"),
        pytest.param({"Authorization": "Bearer x"}, "INCOMPLETE_SIGNATURE", id="bearer"),
        pytest.param({"Authorization": "AWS4-HMAC-SHA256 x"}, "INCOMPLETE_SIGNATURE", id="parts"),
    ],
)
def test_request_without_a_signature_is_refused(headers: dict[str, str], code: str) -> None:
    with pytest.raises(BadSignature) as caught:
        check(headers)
    assert caught.value.code == code


def presigned(
    key: Credentials, path: str = "/prod/a", *, method: str = "GET", seconds: int = 600
) -> tuple[str, datetime]:
    """Returns a presigned URL and the time of its signature."""
    request = AWSRequest(method, f"http://h:1{path}", headers={"Host": "h:1"})
    auth = SigV4QueryAuth(
        BotoCredentials(key.id, key.secret), "execute-api", "us-east-1", expires=seconds
    )
    auth.add_auth(request)
    made_at = datetime.strptime(request.context["timestamp"] + "+0000", "%Y%m%dT%H%M%SZ%z")
    return str(request.url), made_at


@pytest.mark.parametrize("path", ["/prod/a", "/prod/a?b=2&a=1", "/prod/a%20b?c=%2F&d="])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_presigned_url_names_its_signer_until_it_expires(path: str, method: str) -> None:
    url, made_at = presigned(FUNCTION, path, method=method)
    facts: dict[str, Any] = {"url": url, "method": method}
    assert check({"Host": "h:1"}, now=made_at, **facts) == "function1"
    assert check({"Host": "h:1"}, now=made_at + timedelta(seconds=600), **facts) == "function1"
    with pytest.raises(BadSignature, match="Signature expired"):
        check({"Host": "h:1"}, now=made_at + timedelta(seconds=601), **facts)
    with pytest.raises(BadSignature, match="Signature expired"):
        check({"Host": "h:1"}, now=made_at - timedelta(seconds=301), **facts)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        pytest.param("/prod/a", "/prod/b", "INVALID_SIGNATURE", id="other-path"),
        pytest.param("x=1", "x=2", "INVALID_SIGNATURE", id="other-parameter"),
        pytest.param("x=1", "x=1&y=2", "INVALID_SIGNATURE", id="added-parameter"),
        pytest.param("x=1&", "", "INVALID_SIGNATURE", id="removed-parameter"),
        pytest.param("Expires=600", "Expires=601", "INVALID_SIGNATURE", id="longer-time"),
        pytest.param("execute-api", "lambda", "INVALID_SIGNATURE", id="other-service"),
        pytest.param("people1", "nobody", "UNRECOGNIZED_CLIENT", id="unknown-key"),
        pytest.param("people1", "function1", "INVALID_SIGNATURE", id="other-key"),
        pytest.param("Signature=", "Signature=0", "INVALID_SIGNATURE", id="other-signature"),
        pytest.param("Signature=", "Signatur=", "INCOMPLETE_SIGNATURE", id="no-signature"),
        pytest.param("X-Amz-Date", "X-Date", "INCOMPLETE_SIGNATURE", id="no-date"),
        pytest.param("HMAC-SHA256", "ECDSA", "INCOMPLETE_SIGNATURE", id="other-algorithm"),
        pytest.param("Expires=600", "Expires=604801", "INCOMPLETE_SIGNATURE", id="above-7-days"),
        pytest.param("Expires=600", "Expires=-1", "INCOMPLETE_SIGNATURE", id="before-now"),
        pytest.param("Expires=600", "Expires=" + "9" * 5000, "INCOMPLETE_SIGNATURE", id="digits"),
    ],
)
def test_changed_presigned_url_is_refused(old: str, new: str, code: str) -> None:
    url, made_at = presigned(PEOPLE, "/prod/a?x=1")
    assert old in url
    assert check({"Host": "h:1"}, now=made_at, url=url) == "people1"
    with pytest.raises(BadSignature) as caught:
        check({"Host": "h:1"}, now=made_at, url=url.replace(old, new, 1))
    assert caught.value.code == code
