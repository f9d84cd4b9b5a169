"""Requests to every kind of API of one application: REST, HTTP, by hand, function URLs."""

import base64
import json
import socket
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from mayfly_testing.stack import MAYFLY, ROOT, Stack, running

TEMPLATE = ROOT / "tests" / "apps" / "gateways" / "template.yaml"
ORIGIN = {"Origin": "https://one.example"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("gateways"), template=TEMPLATE) as found:
        yield found


def ask(stack: Stack, api: str, path: str, method: str = "GET", **options: Any) -> Any:
    """Sends a request to the printed address of an API, which has its stage."""
    url = stack.facts["apis"][api].rstrip("/")
    return requests.request(method, url + path, timeout=60, **options)


def answer(reply: requests.Response) -> tuple[int, Any]:
    return reply.status_code, reply.json()


# ---------------------------------------------------------------- addresses


def test_every_api_is_served_at_the_address_that_the_start_prints(stack: Stack) -> None:
    apis = stack.facts["apis"]
    assert set(apis) == {"Http", "Rest", "Hand", "EchoUrl", "PrivateUrl"}
    for name, url in apis.items():
        assert f"{url}  ({name}, " in stack.output
    outputs = stack.facts["outputs"]
    assert outputs["RestUrl"] == apis["Rest"] + "/"
    assert outputs["HttpUrl"] == apis["Http"]
    assert outputs["HandUrl"] == apis["Hand"]
    assert outputs["EchoUrl"] == apis["EchoUrl"] + "/"
    assert requests.get(f"{outputs['RestUrl']}echo/plain", timeout=60).text == "hello"
    assert requests.get(f"{outputs['HttpUrl']}/say/plain", timeout=60).text == "hello"
    assert requests.get(f"{outputs['HandUrl']}/items/1", timeout=60).status_code == 200


def test_variables_of_functions_have_local_addresses(stack: Stack) -> None:
    assert ask(stack, "Rest", "/echo/own-url").text == stack.facts["apis"]["Hand"]


@pytest.mark.parametrize("api", ["Rest", "Http"])
def test_request_without_the_stage_gets_the_event_of_one_with_it(stack: Stack, api: str) -> None:
    url = stack.facts["apis"][api].rpartition("/")[0]
    path = "/echo/x" if api == "Rest" else "/say/x"
    bare, staged = (requests.get(start + path, timeout=60).json() for start in (url, url + {
        "Rest": "/Prod", "Http": "/prod"}[api]))  # fmt: skip
    paths = ("path", "rawPath", "resource", "routeKey", "pathParameters")
    assert [bare.get(key) for key in paths] == [staged.get(key) for key in paths]
    assert bare["requestContext"]["stage"] == staged["requestContext"]["stage"]


def test_alias_is_the_function(stack: Stack) -> None:
    assert stack.facts["outputs"]["Alias"].endswith(":function:Echo:live")
    assert ask(stack, "Rest", "/echo/plain").text == "hello"


def test_alias_is_not_visible_to_the_function(stack: Stack) -> None:
    event = json.dumps({"pathParameters": {"what": "context"}}).encode()
    reply = stack.client("lambda").invoke(FunctionName="Echo", Qualifier="live", Payload=event)
    arn, version = json.loads(reply["Payload"].read())["body"].split()
    assert (arn.rpartition(":")[2], version) == ("Echo", "$LATEST")


# ---------------------------------------------------------------- REST: routes and errors


def test_greedy_parameter_takes_the_rest_of_the_path(stack: Stack) -> None:
    event = ask(stack, "Rest", "/rest/a/b%20c/d").json()
    assert event["resource"] == "/rest/{proxy+}"
    assert event["path"] == "/rest/a/b%20c/d"
    assert event["pathParameters"] == {"proxy": "a/b%20c/d"}
    assert event["requestContext"]["path"] == "/Prod/rest/a/b%20c/d"


def test_path_of_a_rest_api_stays_encoded(stack: Stack) -> None:
    event = ask(stack, "Hand", "/items/%40x").json()
    assert (event["path"], event["pathParameters"]) == ("/items/%40x", {"id": "%40x"})


def test_path_of_an_http_api_is_decoded_in_format_2_only(stack: Stack) -> None:
    event = ask(stack, "Http", "/say/%40x").json()
    assert (event["rawPath"], event["requestContext"]["http"]["path"]) == ("/prod/say/@x",) * 2
    assert event["pathParameters"] == {"what": "@x"}
    event = ask(stack, "Http", "/old/%40x").json()
    assert (event["path"], event["pathParameters"]) == ("/prod/old/%40x", {"what": "@x"})


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("POST", "/rest/a")])
def test_unknown_route_gets_the_gateway_response_of_the_template(
    stack: Stack, method: str, path: str
) -> None:
    reply = ask(stack, "Rest", path, method)
    assert reply.status_code == 404
    assert reply.json() == {
        "error": "Missing Authentication Token",
        "id": reply.headers["x-amzn-RequestId"],
    }
    assert reply.headers["X-Gateway"] == "missing"


def test_unknown_route_of_an_api_without_own_responses_is_403(stack: Stack) -> None:
    reply = ask(stack, "Hand", "/nothing")
    assert (reply.status_code, reply.text) == (403, '{"message":"Missing Authentication Token"}')
    assert reply.headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"


@pytest.mark.parametrize(
    "what",
    ["raise", "no-status", "extra-key", "list-header", "status-100", "text-cookies"],
)
def test_malformed_reply_to_a_rest_api_is_502(stack: Stack, what: str) -> None:
    reply = ask(stack, "Rest", f"/echo/{what}")
    assert (reply.status_code, reply.text) == (502, '{"message": "Internal server error"}')
    if what != "raise":
        assert [entry for entry in stack.log("mayfly") if entry["type"] == "bad response"]


@pytest.mark.parametrize(
    ("what", "status"),
    [("list-header", 500), ("status-100", 500), ("text-cookies", 500), ("null-header", 200)],
)
def test_reply_to_an_http_api_is_checked(stack: Stack, what: str, status: int) -> None:
    reply = ask(stack, "Http", f"/say/{what}")
    assert reply.status_code == status
    if status == 500:
        assert reply.json() == {"message": "Internal Server Error"}
    else:
        assert "X-Trace" not in reply.headers


def test_cookies_of_a_reply_are_separate_headers(stack: Stack) -> None:
    reply = ask(stack, "Rest", "/echo/cookies")
    assert reply.raw.headers.getlist("Set-Cookie") == ["a=1", "b=2"]
    assert reply.headers["X-One"] == "1"


@pytest.mark.parametrize(
    ("accept", "is_decoded"),
    [
        pytest.param("image/png", True, id="binary-type"),
        pytest.param("*/*", False, id="other-type"),
        pytest.param("text/html,image/png", False, id="binary-type-is-not-the-first"),
    ],
)
def test_base64_body_is_decoded_for_binary_media_types(
    stack: Stack, accept: str, is_decoded: bool
) -> None:
    reply = ask(stack, "Rest", "/echo/image", headers={"Accept": accept})
    image = b"\x89PNG"
    assert reply.content == (image if is_decoded else base64.b64encode(image))
    assert reply.headers["Content-Type"] == "image/png"


@pytest.mark.parametrize(
    ("kind", "is_encoded"), [("image/png", True), ("application/octet-stream", False)]
)
def test_request_body_is_base64_for_binary_media_types(
    stack: Stack, kind: str, is_encoded: bool
) -> None:
    reply = ask(stack, "Rest", "/echo/x", "POST", data=b"abc", headers={"Content-Type": kind})
    event = reply.json()
    assert (event["body"], event["isBase64Encoded"]) == (
        ("YWJj", True) if is_encoded else ("abc", False)
    )


def test_preflight_is_answered_without_the_function(stack: Stack) -> None:
    reply = ask(stack, "Rest", "/rest/x", "OPTIONS", headers=ORIGIN)
    assert reply.status_code == 200
    assert reply.headers["Access-Control-Allow-Origin"] == "https://one.example"
    assert reply.headers["Access-Control-Allow-Methods"] == "GET,POST"
    assert reply.headers["Access-Control-Allow-Headers"] == "x-own"


def test_stage_variables_reach_the_function(stack: Stack) -> None:
    assert ask(stack, "Rest", "/echo/x").json()["stageVariables"] == {"color": "blue"}


def test_head_of_a_get_route_is_not_a_route(stack: Stack) -> None:
    assert ask(stack, "Hand", "/items/1", "HEAD").status_code == 403
    reply = ask(stack, "Rest", "/echo/plain", "HEAD")  # ANY
    assert (reply.status_code, reply.content) == (200, b"")


# ---------------------------------------------------------------- REST: by hand


def test_methods_that_are_resources_are_served(stack: Stack) -> None:
    event = ask(stack, "Hand", "/items/7").json()
    assert (event["resource"], event["pathParameters"]) == ("/items/{id}", {"id": "7"})
    assert (event["requestContext"]["stage"], event["stageVariables"]) == ("v1", None)
    assert answer(ask(stack, "Hand", "/")) == (202, {"mock": True})


def test_integration_that_is_absent_is_named_at_start_and_by_its_route(stack: Stack) -> None:
    reply = ask(stack, "Hand", "/items", "POST")
    assert reply.status_code == 501
    assert "http_proxy to https://elsewhere.example/" in reply.json()["message"]
    assert "HandElsewhere: the integration http_proxy" in stack.output


# ---------------------------------------------------------------- keys and validation


def test_api_key_opens_its_route(stack: Stack) -> None:
    key = next(line.split()[2] for line in stack.output.splitlines() if "API key" in line)
    for headers in ({}, {"x-api-key": "wrong"}):
        reply = ask(stack, "Rest", "/key", headers=headers)
        assert answer(reply) == (403, {"message": "Forbidden"})
        assert reply.headers["x-amzn-ErrorType"] == "ForbiddenException"
    event = ask(stack, "Rest", "/key", headers={"x-api-key": key}).json()
    assert event["requestContext"]["identity"]["apiKey"] == key


def test_quota_of_a_usage_plan_is_not_applied(stack: Stack) -> None:
    key = next(line.split()[2] for line in stack.output.splitlines() if "API key" in line)
    replies = [ask(stack, "Rest", "/key", headers={"x-api-key": key}) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert "ApiUsagePlan.Quota" in stack.output or "RestUsagePlan.Quota" in stack.output


def test_resource_policy_of_a_rest_api_is_not_evaluated(stack: Stack) -> None:
    assert ask(stack, "Hand", "/items/1").status_code == 200
    assert "Hand: its resource policy" in stack.output


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        ("?page=1", {"name": "x"}, (200, None)),
        ("", {"name": "x"}, (400, "Missing required request parameters: [page]")),
        ("?page=1", {"name": 1}, (400, "Invalid request body")),
        ("?page=1", {}, (400, "Invalid request body")),
        ("?page=1", None, (400, "Invalid request body")),
    ],
    ids=["valid", "parameter-missing", "wrong-type", "property-missing", "no-body"],
)
def test_request_is_validated_before_the_function_is_called(
    stack: Stack, query: str, body: Any, expected: tuple[int, str | None]
) -> None:
    reply = ask(stack, "Rest", f"/pets{query}", "POST", json=body)
    assert (reply.status_code, reply.json().get("message")) == expected


# ---------------------------------------------------------------- Lambda authorizers


@pytest.mark.parametrize(
    ("token", "path", "expected"),
    [
        pytest.param("me", "a", (200, None), id="this-route"),
        pytest.param("all", "b", (200, None), id="every-route"),
        pytest.param("one", "a", (200, None), id="single-statement"),
        pytest.param("only-a", "a", (200, None), id="pattern-that-matches"),
        pytest.param(
            "only-a", "b", (403, "User is not authorized to access this resource"),
            id="pattern-that-does-not-match",
        ),
        pytest.param(
            "elsewhere", "a", (403, "User is not authorized to access this resource"),
            id="another-route",
        ),
        pytest.param("all-but-b", "a", (200, None), id="deny-of-another-route"),
        pytest.param(
            "all-but-b", "b",
            (403, "User is not authorized to access this resource with an explicit deny"),
            id="explicit-deny",
        ),
        pytest.param("unauthorized", "a", (401, "Unauthorized"), id="raises-unauthorized"),
        pytest.param("UPPER", "a", (401, "Unauthorized"), id="validation-expression"),
        pytest.param("", "a", (401, "Unauthorized"), id="no-token"),
        pytest.param("broken", "a", (500, None), id="raises"),
        pytest.param("text", "a", (500, None), id="statement-text"),
        pytest.param("document", "a", (500, None), id="document-text"),
        pytest.param("context", "a", (500, None), id="context-list"),
    ],
)  # fmt: skip
def test_token_authorizer_of_a_rest_api(
    stack: Stack, token: str, path: str, expected: tuple[int, str | None]
) -> None:
    reply = ask(stack, "Rest", f"/token/{path}", headers={"Authorization": token} if token else {})
    body = reply.json()
    message = body.get("message", body.get("Message"))
    assert (reply.status_code, message) == expected
    if reply.status_code == 200:
        authorizer = body["requestContext"]["authorizer"]
        assert (authorizer["principalId"], authorizer["is_new"]) == (token, "true")
        assert authorizer["calls"].isdigit()
    elif reply.status_code == 500:
        assert "message" in body
        assert [entry for entry in stack.log("mayfly") if entry["type"] == "request refused"]


def test_cached_policy_is_evaluated_for_each_route(stack: Stack) -> None:
    """The authorizer is not called again, and its policy still decides on the second route."""
    headers = {"Authorization": "all-but-b"}
    first = ask(stack, "Rest", "/token/a", headers=headers).json()
    assert ask(stack, "Rest", "/token/b", headers=headers).status_code == 403
    again = ask(stack, "Rest", "/token/a", headers=headers).json()
    calls = [event["requestContext"]["authorizer"]["calls"] for event in (first, again)]
    assert calls[0] == calls[1]


def test_request_authorizer_needs_all_its_sources_and_is_asked_each_time(stack: Stack) -> None:
    assert ask(stack, "Rest", "/request", headers={"X-Who": "all"}).status_code == 401
    assert ask(stack, "Rest", "/request?who=x").status_code == 401
    calls = [
        ask(stack, "Rest", "/request?who=x", headers={"X-Who": "all"}).json()["requestContext"][
            "authorizer"
        ]["calls"]
        for _ in range(2)
    ]
    assert int(calls[1]) == int(calls[0]) + 1


@pytest.mark.parametrize(
    ("who", "path", "expected"),
    [
        pytest.param("me", "a", 200, id="this-route"),
        pytest.param("elsewhere", "a", 403, id="another-route"),
        pytest.param("one", "a", 200, id="statement-object"),
        pytest.param("all-but-b", "a", 200, id="deny-of-another-route"),
        pytest.param("all-but-b", "b", 403, id="explicit-deny"),
        pytest.param("only-a", "b", 403, id="second-route-of-the-policy"),
        pytest.param("nobody", "a", 403, id="no-statement"),
        pytest.param("text", "a", 500, id="statement-text"),
        pytest.param("document", "a", 500, id="document-text"),
        pytest.param("context", "a", 500, id="context-list"),
        pytest.param("broken", "a", 500, id="raises"),
        pytest.param("", "a", 401, id="no-identity"),
    ],
)
def test_policy_authorizer_of_an_http_api(stack: Stack, who: str, path: str, expected: int) -> None:
    reply = ask(stack, "Http", f"/policy/{path}", headers={"X-Who": who} if who else {})
    assert reply.status_code == expected
    messages = {401: "Unauthorized", 403: "Forbidden", 500: "Internal Server Error"}
    assert reply.json().get("message") == messages.get(expected)
    if expected == 200:
        assert reply.json()["requestContext"]["authorizer"]["lambda"]["is_new"] is True


# ---------------------------------------------------------------- tokens and signatures


def token(stack: Stack, *options: str) -> dict[str, str]:
    command = [str(MAYFLY), "token", "--as", "anna", "--work", str(stack.work), *options]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return {"Authorization": f"Bearer {printed}"}


def test_jwt_authorizer_takes_tokens_of_the_local_issuer(stack: Stack) -> None:
    headers = token(stack, "--authorizer", "Jwt", "--scope", "read", "--claim", "admin=true")
    jwt = ask(stack, "Http", "/jwt", headers=headers).json()["requestContext"]["authorizer"]["jwt"]
    assert jwt["scopes"] == ["read"]
    assert {key: jwt["claims"][key] for key in ("sub", "iss", "aud", "admin")} == {
        "sub": "anna", "iss": "https://login.example", "aud": "shop", "admin": "true",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "status"),
    [
        pytest.param(["--scope", "write"], 403, id="other-scope"),
        pytest.param([], 403, id="no-scope"),
        pytest.param(["--scope", "read", "--claim", "aud=other"], 401, id="other-audience"),
        pytest.param(["--scope", "read", "--claim", "iss=https://x"], 401, id="other-issuer"),
        pytest.param(["--scope", "read", "--claim", "exp=1"], 401, id="expired"),
        pytest.param(["--scope", "read", "--claim", "nbf=9999999999"], 401, id="not-yet-valid"),
    ],
)
def test_jwt_authorizer_checks_the_claims(stack: Stack, options: list[str], status: int) -> None:
    reply = ask(stack, "Http", "/jwt", headers=token(stack, "--authorizer", "Jwt", *options))
    message = "Forbidden" if status == 403 else "Unauthorized"
    assert answer(reply) == (status, {"message": message})
    assert reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("value", ["", "x", "Bearer a.b.c", "Bearer "])
def test_jwt_authorizer_refuses_other_tokens(stack: Stack, value: str) -> None:
    reply = ask(stack, "Http", "/jwt", headers={"Authorization": value} if value else {})
    assert answer(reply) == (401, {"message": "Unauthorized"})


def test_cognito_authorizer_takes_tokens_of_the_local_issuer(stack: Stack) -> None:
    assert answer(ask(stack, "Rest", "/pool")) == (401, {"message": "Unauthorized"})
    event = ask(stack, "Rest", "/pool", headers=token(stack, "--authorizer", "Pool")).json()
    claims = event["requestContext"]["authorizer"]["claims"]
    assert (claims["sub"], claims["cognito:username"], claims["token_use"]) == (
        "anna",
        "anna",
        "id",
    )


def test_start_says_where_tokens_come_from(stack: Stack) -> None:
    assert "tokens    mayfly token --as USER  (authorizers: " in stack.output


def test_token_needs_the_name_of_one_of_several_authorizers(stack: Stack) -> None:
    command = [str(MAYFLY), "token", "--as", "anna", "--work", str(stack.work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "choose one with --authorizer" in done.stderr


def presigned(stack: Stack, url: str, service: str, secret: str | None = None) -> str:
    key = stack.credentials
    request = AWSRequest("GET", url)
    credentials = BotoCredentials(key.id, secret or key.secret)
    SigV4QueryAuth(credentials, service, "us-east-1", expires=60).add_auth(request)
    return str(request.url)


def signed(stack: Stack, url: str, service: str, secret: str | None = None) -> dict[str, str]:
    key = stack.credentials
    request = AWSRequest("GET", url)
    credentials = BotoCredentials(key.id, secret or key.secret)
    SigV4Auth(credentials, service, "us-east-1").add_auth(request)
    return dict(request.headers.items())


@pytest.mark.parametrize(
    ("api", "path", "service"),
    [
        ("Rest", "/iam", "execute-api"),
        ("Http", "/iam?b=2&a=1", "execute-api"),
        ("PrivateUrl", "/x%20y", "lambda"),
    ],
)
def test_signed_request_is_taken(stack: Stack, api: str, path: str, service: str) -> None:
    url = stack.facts["apis"][api] + path
    event = requests.get(url, headers=signed(stack, url, service), timeout=60).json()
    context = event["requestContext"]
    caller = context["authorizer"]["iam"] if api != "Rest" else context["identity"]
    assert caller["accessKey"] == stack.credentials.id
    wrong = signed(stack, url, service, "wrong")
    assert requests.get(url, headers=wrong, timeout=60).status_code == 403
    event = requests.get(presigned(stack, url, service), timeout=60).json()
    context = event["requestContext"]
    assert (context["authorizer"]["iam"] if api != "Rest" else context["identity"]) == caller
    assert requests.get(presigned(stack, url, service, "wrong"), timeout=60).status_code == 403


@pytest.mark.parametrize(
    ("api", "path", "status", "key", "message"),
    [
        # The template has its own response for this.
        ("Rest", "/iam", 404, "error", "Missing Authentication Token"),
        ("Http", "/iam", 403, "message", "Forbidden"),
        ("PrivateUrl", "/", 403, "Message", "Forbidden"),
    ],
)
def test_unsigned_request_is_refused(
    stack: Stack, api: str, path: str, status: int, key: str, message: str
) -> None:
    reply = ask(stack, api, path)
    assert (reply.status_code, reply.json()[key]) == (status, message)


# ---------------------------------------------------------------- HTTP APIs


def test_named_stage_is_in_the_paths_of_the_event(stack: Stack) -> None:
    event = ask(stack, "Http", "/say/x").json()
    assert (event["rawPath"], event["requestContext"]["stage"]) == ("/prod/say/x", "prod")


def test_cors_from_a_list_parameter(stack: Stack) -> None:
    headers = {**ORIGIN, "Access-Control-Request-Method": "GET"}
    reply = ask(stack, "Http", "/say/plain", "OPTIONS", headers=headers)
    assert reply.status_code == 204
    assert reply.headers["Access-Control-Allow-Origin"] == "https://one.example"


@pytest.mark.parametrize("origin", ["https://evil.example", None])
def test_cors_headers_of_the_handler_open_nothing(stack: Stack, origin: str | None) -> None:
    reply = ask(stack, "Http", "/say/own-cors", headers={"Origin": origin} if origin else {})
    assert "Access-Control-Allow-Origin" not in reply.headers


def test_reply_without_a_content_type_is_text(stack: Stack) -> None:
    assert ask(stack, "Http", "/say/plain").headers["Content-Type"] == "text/plain; charset=utf-8"


def test_header_of_9000_bytes_is_taken(stack: Stack) -> None:
    event = ask(stack, "Http", "/say/x", headers={"X-Token": "a" * 9000}).json()
    assert len(event["headers"]["x-token"]) == 9000


@pytest.mark.parametrize("api", ["Http", "Rest", "EchoUrl"])
@pytest.mark.parametrize(
    "headers",
    [{"X-Token": "a" * 10_300}, {f"X-{number}": "a" * 900 for number in range(45)}],
    ids=["one-long-header", "many-headers"],
)
def test_headers_above_10240_bytes_are_refused(
    stack: Stack, api: str, headers: dict[str, str]
) -> None:
    reply = ask(stack, api, "/say/x", headers=headers)
    assert answer(reply) == (431, {"message": "Request Header Fields Too Large"})


@pytest.mark.parametrize("api", ["Http", "Rest", "EchoUrl"])
def test_url_above_10240_bytes_is_refused(stack: Stack, api: str) -> None:
    reply = ask(stack, api, f"/say/x?q={'a' * 10_240}")
    assert answer(reply) == (414, {"message": "Request-URI Too Long"})


def test_long_url_is_taken(stack: Stack) -> None:
    event = ask(stack, "Http", f"/say/x?q={'a' * 9000}").json()
    assert len(event["queryStringParameters"]["q"]) == 9000


def port_of(stack: Stack, server: str) -> int:
    url = stack.facts["endpoint"] if server == "store" else stack.facts["apis"][server]
    return int(urlsplit(url).port or 80)


@pytest.mark.parametrize("server", ["Http", "Rest", "EchoUrl", "store"])
@pytest.mark.parametrize(
    "size", [pytest.param(2, id="small"), pytest.param(2_000_000, id="upload")]
)
def test_expectation_of_a_client_is_answered(stack: Stack, server: str, size: int) -> None:
    """RFC 9110, 10.1.1: a server answers with 100, or with a final status."""
    path = {"Http": "/say/plain", "Rest": "/echo/plain"}.get(server, "/bucket/key")
    with socket.create_connection(("127.0.0.1", port_of(stack, server)), timeout=10) as raw:
        raw.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n".encode()
            + b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        first = raw.recv(65536)
        if server == "store":  # It refuses unsigned requests before their bodies.
            assert first.startswith((b"HTTP/1.1 100", b"HTTP/1.1 403"))
            return
        assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"x" * size)
        reply = b"".join(iter(lambda: raw.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("api", ["Http", "Rest"])
def test_expectation_with_too_large_a_body_is_refused_at_once(stack: Stack, api: str) -> None:
    with socket.create_connection(("127.0.0.1", port_of(stack, api)), timeout=10) as raw:
        raw.sendall(
            b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10485761\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert raw.recv(65536).startswith(b"HTTP/1.1 413")


def test_unknown_expectation_is_ignored(stack: Stack) -> None:
    reply = ask(stack, "Http", "/say/plain", "POST", data="x", headers={"Expect": "a-miracle"})
    assert (reply.status_code, reply.text) == (200, "hello")


# ---------------------------------------------------------------- function URLs


def test_function_url_takes_every_method_and_path(stack: Stack) -> None:
    event = ask(stack, "EchoUrl", "/a/b?x=1", "PUT", data="hi").json()
    context = event["requestContext"]
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "$default", "/a/b")
    assert (context["stage"], context["http"]["method"]) == ("$default", "PUT")
    assert context["accountId"] == "anonymous"
    assert json.loads(json.dumps(event))["body"] == "hi"


def test_path_of_a_function_url_stays_encoded(stack: Stack) -> None:
    event = ask(stack, "EchoUrl", "/a%2Fb/%40x").json()
    assert event["rawPath"] == event["requestContext"]["http"]["path"] == "/a%2Fb/%40x"


def test_function_url_has_its_own_cors(stack: Stack) -> None:
    reply = ask(stack, "EchoUrl", "/", headers=ORIGIN)
    assert reply.headers["Access-Control-Allow-Origin"] == "https://one.example"
    reply = ask(stack, "EchoUrl", "/", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in reply.headers
