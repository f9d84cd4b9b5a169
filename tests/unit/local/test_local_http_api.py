"""HTTP APIs as pure functions: routes, events of payload format 2.0, replies and CORS."""

import base64
import json
from typing import Any

import pytest
from aiohttp import web

from mayfly_local.application.apis import Api, ApiKind, Cors, Route, Stage
from mayfly_local.application.build.http_api import cors_of
from mayfly_local.sources.cors import add_cors, preflight
from mayfly_local.sources.http_events import http_event
from mayfly_local.sources.http_request import Call, HttpRequest
from mayfly_local.sources.replies import MalformedReply, http_response, rest_response
from mayfly_local.sources.routes import find_stage, match

ROUTES = tuple(
    Route(method, path, f"{method} {path}", None)
    for method, path in [
        ("GET", "/"),
        ("GET", "/a/{id}"),
        ("ANY", "/a/{id}"),
        ("GET", "/a/b"),
        ("GET", "/f/{rest+}"),
        ("GET", "/{x}/b"),
        ("ANY", "$default"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "route", "parameters"),
    [
        ("GET", "/", "GET /", {}),
        ("GET", "/a/b", "GET /a/b", {}),
        ("GET", "/a/1", "GET /a/{id}", {"id": "1"}),
        ("PUT", "/a/1", "ANY /a/{id}", {"id": "1"}),
        ("GET", "/a/x%2Fy%20z", "GET /a/{id}", {"id": "x/y z"}),
        ("GET", "/f/x/y", "GET /f/{rest+}", {"rest": "x/y"}),
        ("GET", "/f/b", "GET /{x}/b", {"x": "f"}),
        ("GET", "/z/b", "GET /{x}/b", {"x": "z"}),
        ("POST", "/", "ANY $default", {}),
        ("GET", "/f/", "ANY $default", {}),
        ("GET", "/a/", "ANY $default", {}),
        ("GET", "/a/1/2", "ANY $default", {}),
    ],
)
def test_most_specific_route_takes_a_request(
    method: str, path: str, route: str, parameters: dict[str, str]
) -> None:
    route_match = match(ROUTES, method, path)
    assert route_match is not None
    assert (route_match[0].function, route_match[1]) == (route, parameters)


def test_request_without_a_route_is_not_taken_if_there_is_no_default_route() -> None:
    assert match(ROUTES[:1], "GET", "/other") is None


def api(*stages: Stage, kind: ApiKind = ApiKind.HTTP) -> Api:
    return Api("Api", "local", kind, "http://127.0.0.1:3000", ROUTES, stages)


@pytest.mark.parametrize(
    ("stages", "path", "stage", "rest"),
    [
        pytest.param(["$default"], "/a/1", "$default", "/a/1", id="no-prefix"),
        pytest.param(["prod"], "/prod/a/1", "prod", "/a/1", id="named-stage"),
        pytest.param(["prod"], "/prod", "prod", "/", id="root-of-a-named-stage"),
        pytest.param(["prod"], "/a/1", "prod", "/a/1", id="named-stage-left-out"),
        pytest.param(["prod", "$default"], "/a/1", "$default", "/a/1", id="default-before-named"),
        pytest.param(["$default", "v1"], "/v1/a", "v1", "/a", id="named-beside-default"),
        pytest.param(["prod"], "/prodigy", "prod", "/prodigy", id="prefix-is-a-whole-part"),
    ],
)
def test_stage_is_the_first_part_of_the_path(
    stages: list[str], path: str, stage: str, rest: str
) -> None:
    found, remaining = find_stage(api(*map(Stage, stages)), path)
    assert (found.name, remaining) == (stage, rest)


def request(**changes: Any) -> HttpRequest:
    facts = {
        "method": "POST",
        "path": "/a/1%202",
        "query": "x=1&x=2&y=%26",
        "body": b"",
        "source_ip": "127.0.0.1",
        "protocol": "HTTP/1.1",
    }
    return HttpRequest(
        **{
            **facts,
            "headers": [("Host", "h:1"), ("accept", "a"), ("Accept", "b"), ("cookie", "k=1; l=2")],
            **changes,
        }
    )


def event(stage: str = "$default", **changes: Any) -> dict[str, Any]:
    sent = request(**changes)
    call = Call(api(Stage(stage)), Stage(stage), ROUTES[1], sent.path, {"id": "1 2"}, sent, "r")
    return http_event(call)


def test_request_is_converted_to_payload_format_2() -> None:
    payload = event()
    assert (
        payload["version"],
        payload["routeKey"],
        payload["rawPath"],
        payload["rawQueryString"],
    ) == (
        "2.0",
        "GET /a/{id}",
        "/a/1 2",
        "x=1&x=2&y=%26",
    )
    assert payload["queryStringParameters"] == {"x": "1,2", "y": "&"}
    assert (payload["cookies"], payload["pathParameters"]) == (["k=1", "l=2"], {"id": "1 2"})
    assert (payload["headers"]["host"], payload["headers"]["accept"]) == ("h:1", "a,b")
    assert payload["requestContext"]["http"]["sourceIp"] == "127.0.0.1"
    assert "body" not in payload
    assert "stageVariables" not in payload


def test_event_of_a_named_stage_has_it_in_its_paths() -> None:
    payload = event("prod")
    context = payload["requestContext"]
    assert (payload["rawPath"], context["http"]["path"], context["stage"]) == (
        "/prod/a/1 2",
        "/prod/a/1 2",
        "prod",
    )
    assert payload["routeKey"] == "GET /a/{id}"


def test_event_has_the_headers_that_the_api_adds_and_not_those_of_the_connection() -> None:
    headers = event(
        body=b"abc",
        headers=[
            ("Host", "h"), ("Connection", "keep-alive"), ("Proxy-Connection", "x"),
            ("Transfer-Encoding", "chunked"), ("X-Forwarded-For", "10.1.1.1"),
            ("X-Forwarded-Proto", "https"),
        ],
    )["headers"]  # fmt: skip
    trace = headers.pop("x-amzn-trace-id")
    assert trace.startswith("Root=1-")
    assert headers == {
        "host": "h",
        "content-length": "3",
        "x-forwarded-for": "10.1.1.1, 127.0.0.1",
        "x-forwarded-port": "3000",
        "x-forwarded-proto": "http",
    }


@pytest.mark.parametrize(
    ("kind", "body", "is_text"),
    [
        ("application/json", b"{}", True),
        ("text/csv; charset=utf-8", b"a,b", True),
        ("application/problem+json", b"{}", True),
        ("application/octet-stream", b"ab", False),
        ("image/png", b"ab", False),
        ("application/x-www-form-urlencoded", b"a=1", False),
        ("text/plain", b"\xff", False),
    ],
)
def test_body_is_passed_as_text_or_as_base64(kind: str, body: bytes, is_text: bool) -> None:
    payload = event(headers=[("content-type", kind)], body=body)
    assert payload["isBase64Encoded"] is not is_text
    assert (payload["body"].encode() if is_text else base64.b64decode(payload["body"])) == body


# ---------------------------------------------------------------- replies


def test_reply_is_converted_to_a_response() -> None:
    reply = {
        "statusCode": 201,
        "headers": {"X-A": 1, "Content-Type": "text/x"},
        "cookies": ["a=1", "b=2"],
        "body": base64.b64encode(b"\xff").decode(),
        "isBase64Encoded": True,
    }
    response = http_response(json.dumps(reply).encode())
    assert (
        response.status,
        response.body,
        response.headers["X-A"],
        response.headers.getall("Set-Cookie"),
    ) == (
        201,
        b"\xff",
        "1",
        ["a=1", "b=2"],
    )


@pytest.mark.parametrize(
    ("payload", "body"), [(b'{"a": 1}', b'{"a": 1}'), (b'"text"', b"text"), (b"null", b"null")]
)
def test_reply_without_a_status_is_a_json_body(payload: bytes, body: bytes) -> None:
    response = http_response(payload)
    assert (response.status, response.body, response.content_type) == (
        200,
        body,
        "application/json",
    )


@pytest.mark.parametrize(
    ("reply", "headers"),
    [
        pytest.param(
            {"body": "hello"}, {"Content-Type": "text/plain; charset=utf-8"}, id="no-content-type"
        ),
        pytest.param(
            {"body": '{"a": 1}'}, {"Content-Type": "text/plain; charset=utf-8"}, id="json-text"
        ),
        pytest.param(
            {"body": "aGk=", "isBase64Encoded": True},
            {"Content-Type": "text/plain; charset=utf-8"},
            id="base64-body",
        ),
        pytest.param({"statusCode": 201}, {"Content-Type": "text/plain; charset=utf-8"}, id="201"),
        pytest.param({}, {"Content-Type": "text/plain; charset=utf-8"}, id="no-body"),
        pytest.param(
            {"headers": {"X-Trace": None}, "body": "x"}, {"X-Trace": None}, id="null-header"
        ),
        pytest.param(
            {"headers": {"Content-Type": None}, "body": "x"},
            {"Content-Type": "text/plain; charset=utf-8"},
            id="null-content-type",
        ),
        pytest.param({"headers": {"X-A": True}}, {"X-A": "true"}, id="boolean-header"),
        pytest.param({"headers": {"X-A": 1.5}}, {"X-A": "1.5"}, id="number-header"),
        pytest.param(
            {"headers": {"content-length": "9"}, "body": "x"}, {"Content-Length": None}, id="length"
        ),
    ],
)
def test_headers_of_a_reply(reply: dict[str, Any], headers: dict[str, str | None]) -> None:
    response = http_response(json.dumps({"statusCode": 200, **reply}).encode())
    assert {name: response.headers.get(name) for name in headers} == headers


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param({"statusCode": "x"}, id="status-abc"),
        pytest.param({"statusCode": None}, id="status-null"),
        pytest.param({"statusCode": True}, id="status-true"),
        pytest.param({"statusCode": 0}, id="status-0"),
        pytest.param({"statusCode": 99}, id="status-99"),
        pytest.param({"statusCode": 100}, id="status-100"),
        pytest.param({"statusCode": 101}, id="status-101"),
        pytest.param({"statusCode": 600}, id="status-600"),
        pytest.param({"statusCode": 200.5}, id="status-with-a-fraction"),
        pytest.param({"statusCode": 200, "body": {}}, id="body-object"),
        pytest.param({"statusCode": 200, "body": 1}, id="body-number"),
        pytest.param({"statusCode": 200, "body": "\ud800"}, id="body-surrogate"),
        pytest.param({"statusCode": 200, "headers": []}, id="headers-list"),
        pytest.param({"statusCode": 200, "headers": "a"}, id="headers-text"),
        pytest.param(
            {"statusCode": 200, "headers": {"Set-Cookie": ["a=1", "b=2"]}}, id="header-list"
        ),
        pytest.param({"statusCode": 200, "headers": {"X-A": {"b": 1}}}, id="header-object"),
        pytest.param({"statusCode": 200, "headers": {"X-A": "a\r\nX-B: b"}}, id="header-crlf"),
        pytest.param({"statusCode": 200, "headers": {"X A": "a"}}, id="header-name-with-space"),
        pytest.param({"statusCode": 200, "headers": {"": "a"}}, id="header-name-empty"),
        pytest.param({"statusCode": 200, "headers": {"X-A": "\ud800"}}, id="header-surrogate"),
        pytest.param({"statusCode": 200, "cookies": "a=1"}, id="cookies-text"),
        pytest.param({"statusCode": 200, "cookies": [1]}, id="cookies-number"),
        pytest.param({"statusCode": 200, "cookies": ["a\nb"]}, id="cookie-line-break"),
        pytest.param({"statusCode": 200, "body": "%", "isBase64Encoded": True}, id="not-base64"),
    ],
)
def test_malformed_reply_is_not_a_response(reply: Any) -> None:
    with pytest.raises(MalformedReply):
        http_response(json.dumps(reply).encode())


@pytest.mark.parametrize("place", ["headers", "multiValueHeaders"])
@pytest.mark.parametrize(
    ("name", "sent"),
    [
        *(
            (name, f"x-amzn-Remapped-{name}")
            for name in (
                "WWW-Authenticate", "www-authenticate", "Server", "Date", "Authorization",
                "Connection", "Content-MD5", "Max-Forwards", "User-Agent",
            )
        ),
        *(
            (name, None)
            for name in (
                "Expect", "Host", "Proxy-Authenticate", "TE", "Trailer", "Transfer-Encoding",
                "Upgrade", "Via",
            )
        ),
        *((name, name) for name in ("Age", "Pragma", "Cache-Control", "X-Date")),
    ],
)  # fmt: skip
def test_rest_api_renames_headers_of_a_reply(place: str, name: str, sent: str | None) -> None:
    value = "v" if place == "headers" else ["v"]
    reply = {"statusCode": 200, place: {name: value}}
    headers = rest_response(json.dumps(reply).encode(), is_decoded=False).headers
    assert [key for key, value in headers.items() if value == "v"] == ([sent] if sent else [])


@pytest.mark.parametrize("payload_format", ["1.0", "2.0"])
def test_other_apis_rename_no_header_of_a_reply(payload_format: str) -> None:
    reply = b'{"statusCode": 401, "headers": {"WWW-Authenticate": "Basic"}}'
    response = http_response(reply, payload_format=payload_format)
    assert response.headers["WWW-Authenticate"] == "Basic"


def test_content_length_of_a_reply_is_that_of_its_body() -> None:
    reply = b'{"statusCode": 200, "headers": {"Content-Length": "9"}, "body": "abc"}'
    headers = rest_response(reply, is_decoded=False).headers
    assert not [name for name in headers if "content-length" in name.lower()]


def test_two_replies_run_into_each_other_are_not_a_response() -> None:
    with pytest.raises(MalformedReply, match="not JSON"):
        http_response(b'{"statusCode": 200}{"statusCode": 200}')


# ---------------------------------------------------------------- CORS


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        pytest.param("https://a,https://b", ("https://a", "https://b"), id="text"),
        pytest.param("*", ("*",), id="star"),
        pytest.param(["https://a", " https://b "], ("https://a", "https://b"), id="list"),
    ],
)
def test_origins_of_a_template_are_a_list(given: Any, origins: tuple[str, ...]) -> None:
    for key in ("AllowOrigins", "allowOrigins"):
        cors = cors_of({key: given})
        assert cors is not None
        assert cors.origins == origins


@pytest.mark.parametrize(
    ("key", "name"),
    [("AllowMethods", "methods"), ("AllowHeaders", "headers"), ("ExposeHeaders", "exposed")],
)
def test_every_list_of_cors_may_be_a_text(key: str, name: str) -> None:
    assert getattr(cors_of({key: "a,b"}), name) == ("a", "b")


def cors(**changes: Any) -> Cors:
    return Cors(**{
        "origins": ("https://a.example",), "methods": ("GET",), "headers": ("x-a",), "exposed": (),
        "max_age": None, "credentials": False, **changes,
    })  # fmt: skip


def asks(origin: str) -> HttpRequest:
    headers = [("Origin", origin), ("Access-Control-Request-Method", "GET")]
    return request(method="OPTIONS", headers=headers)


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        pytest.param(["https://a.example"], "https://a.example", "https://a.example", id="named"),
        pytest.param(["https://a.example"], "https://evil.example", None, id="other"),
        pytest.param(["*"], "https://evil.example", "*", id="star"),
        pytest.param(["https://*"], "https://any.example", "https://any.example", id="https-star"),
        pytest.param(["https://*"], "http://any.example", None, id="https-star-and-http"),
        pytest.param(["http://*"], "http://any.example", "http://any.example", id="http-star"),
    ],
)
def test_preflight_allows_the_origins_of_the_template(
    origins: list[str], origin: str, allowed: str | None
) -> None:
    response = preflight(cors(origins=tuple(origins)), asks(origin))
    assert (response.status, response.headers.get("Access-Control-Allow-Origin")) == (204, allowed)


def test_preflight_without_methods_in_the_template_names_none() -> None:
    response = preflight(cors(methods=()), asks("https://a.example"))
    assert "Access-Control-Allow-Methods" not in response.headers


@pytest.mark.parametrize("origin", ["https://a.example", "https://evil.example", None])
def test_cors_headers_of_the_function_are_dropped(origin: str | None) -> None:
    response = web.Response(
        headers={"Access-Control-Allow-Origin": "*", "access-control-allow-methods": "PUT"}
    )
    add_cors(response, cors(), request(headers=[("Origin", origin)] if origin else []))
    expected = "https://a.example" if origin == "https://a.example" else None
    assert response.headers.get("Access-Control-Allow-Origin") == expected
    assert "Access-Control-Allow-Methods" not in response.headers
