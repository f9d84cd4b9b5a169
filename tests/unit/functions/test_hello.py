"""The front page and the health check, through `build` on moto."""

import json
from typing import Any

import pytest
from mayfly import sessions
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import StoreUnavailable
from mayfly.core.observability import observer
from mayfly.limits import LimitStore
from mayfly.resources import session_store

from functions.hello.app import build as build_hello
from functions.hello.deps import Deps as HelloDeps
from tests.support.clients import make_client
from tests.support.counting import Counting, counted
from tests.support.events import call, http
from tests.support.fakes import FixedClock
from tests.support.faults import Faults


@pytest.fixture
def hello(tables: dict[str, str]) -> Any:
    return page()


def page(page_limit: int = 0, limits_client: Any = None) -> Any:
    store = Counting(make_client("dynamodb", attempts=1), make_client("dynamodb"))
    limits = LimitStore(
        DynamoDB(limits_client or make_client("dynamodb"), lambda attempt: None),
        "CountersTable",
        clock=FixedClock(),
    )
    visitors = session_store({"SESSIONS_TABLE": "SessionsTable", "SUBJECT_KEY": "test"})
    return build_hello(
        HelloDeps(
            counters=store,
            sessions=lambda: visitors,
            limits=lambda: limits,
            page_limit=page_limit,
            tenant="default",
            observe=observer("hello"),
        )
    )


def test_page_counts_its_visits_in_the_store(hello: Any) -> None:
    assert [call(hello, http("GET /"))[1] for _ in range(2)] == [
        "Hello World! 1 times.",
        "Hello World! 2 times.",
    ]
    status, body, headers = call(hello, http("GET /", headers={"Accept": "application/json"}))
    assert (status, body) == (200, {"hits": 3, "yours": 1})
    assert headers["Cache-Control"] == "no-store"


def visit(hello: Any, *cookies: str, host: str = "app.example.org") -> tuple[Any, str | None]:
    event = http("GET /", headers={"Accept": "application/json"})
    event["requestContext"]["domainName"] = host
    _, body, headers = call(hello, {**event, "cookies": list(cookies)})
    return body["yours"], headers.get("Set-Cookie")


def test_visits_of_one_visitor_are_counted_by_cookie(hello: Any) -> None:
    yours, cookie = visit(hello)
    assert cookie is not None
    name_value = cookie.split(";")[0]
    assert yours == 1
    assert name_value.startswith("__Host-visitor=mfs_a")
    assert (
        cookie.removeprefix(name_value)
        == "; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=34560000"
    )
    assert visit(hello, "other=1", name_value) == (2, None)
    assert visit(hello, name_value) == (3, None)
    assert visit(hello)[0] == 1


def test_on_plain_loopback_the_cookie_has_neither_prefix_nor_secure(hello: Any) -> None:
    yours, cookie = visit(hello, host="127.0.0.1:3000")
    assert cookie is not None
    assert cookie.startswith("visitor=mfs_a")
    assert "Secure" not in cookie
    assert visit(hello, cookie.split(";")[0], host="127.0.0.1:3000")[0] == yours + 1


def test_session_of_a_caller_is_not_used_as_a_visitors_session(hello: Any) -> None:
    """A caller's own session in the cookie is neither read as a number of visits nor written."""
    store = session_store({"SESSIONS_TABLE": "SessionsTable", "SUBJECT_KEY": "test"})
    somebodys, _ = sessions.create(store, tenant="default", subject="ada", data={"visits": 7})
    strange, _ = sessions.create(store, tenant="default", data={"visits": "many"})
    assert [visit(hello, f"__Host-visitor={each}")[0] for each in (somebodys, strange)] == [1, 1]
    assert sessions.read(store, somebodys, tenant="default").data == {"visits": 7}


@pytest.mark.parametrize("made_up", ["mfs_a" + "0" * 32 + "_" + "A" * 43, "fixed", ""])
def test_unknown_cookie_is_never_adopted(hello: Any, made_up: str) -> None:
    yours, cookie = visit(hello, f"__Host-visitor={made_up}")
    assert yours == 1
    assert cookie is not None
    assert cookie.split(";")[0] != f"__Host-visitor={made_up}"


def test_text_form_sets_no_cookie(hello: Any) -> None:
    assert "Set-Cookie" not in call(hello, http("GET /"))[2]


@pytest.mark.parametrize("path", ["/", "/health", "/openapi.json"])
def test_head_of_a_public_page_is_its_get(hello: Any, path: str) -> None:
    """The gateway leaves the body out; it needs the body for Content-Length."""
    got = call(hello, http(f"GET {path}"))
    event = http("$default", path)
    event["requestContext"]["http"]["method"] = "HEAD"
    status, body, headers = call(hello, event)
    assert (status, headers) == (got[0], got[2])
    assert (body == got[1]) is (path != "/")  # which counts its visits


def test_health_check_reads_the_store(hello: Any) -> None:
    assert call(hello, http("GET /health"))[:2] == (200, {"status": "ok"})


def unusable(store: Any) -> HelloDeps:
    return HelloDeps(
        counters=store,
        sessions=lambda: store,
        limits=lambda: store,
        page_limit=0,
        tenant="t",
        observe=observer("hello"),
    )


def visits(handler: Any, address: str, count: int) -> list[tuple[int, Any, dict[str, str]]]:
    event = http("GET /", headers={"X-Forwarded-For": "203.0.113.9"})
    event["requestContext"]["http"]["sourceIp"] = address
    return [call(handler, event) for _ in range(count)]


def test_page_is_limited_by_the_address_that_the_gateway_saw(tables: dict[str, str]) -> None:
    handler = page(page_limit=3)
    assert [status for status, _, _ in visits(handler, "198.51.100.1", 4)] == [200, 200, 200, 429]
    assert visits(handler, "198.51.100.2", 1)[0][0] == 200
    status, problem, headers = visits(handler, "198.51.100.1", 1)[0]
    assert (status, problem["type"], problem["code"]) == (
        429,
        "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "quota-exceeded",
    )
    assert headers["RateLimit-Policy"] == '"page";q=3;w=60'
    assert headers["RateLimit"] == '"page";r=0;t=20'
    assert headers["Retry-After"] == "20"
    assert counted(make_client("dynamodb"), "CountersTable", "hits", tenant="default") == 4


def test_page_is_served_if_its_limit_cannot_be_read(tables: dict[str, str]) -> None:
    client = make_client("dynamodb")
    Faults(client).refuse("UpdateItem", "ProvisionedThroughputExceededException")
    assert visits(page(page_limit=1, limits_client=client), "198.51.100.1", 2)[1][0] == 200


def test_store_that_is_down_is_503_with_retry_after() -> None:
    class Down:
        def ping(self) -> None:
            raise StoreUnavailable("ping", "EndpointConnectionError")

    handler = build_hello(unusable(Down()))
    status, body, headers = call(handler, http("GET /health"))
    assert (status, body["code"], headers["Retry-After"]) == (503, "store-unavailable", "1")
    assert headers["Content-Type"] == "application/problem+json"


def test_unforeseen_error_is_a_plain_500_without_its_reason() -> None:
    class Broken:
        def ping(self) -> None:
            raise RuntimeError("secret detail")

    handler = build_hello(unusable(Broken()))
    status, body, _ = call(handler, http("GET /health"))
    assert (status, body["code"], body["request_id"]) == (500, "internal-error", "r-1")
    assert "secret detail" not in json.dumps(body)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nope", 404, None),
        ("POST", "/", 405, "GET, HEAD"),
        ("DELETE", "/health", 405, "GET, HEAD"),
        ("HEAD", "/jobs/abc", 405, "GET"),
        ("HEAD", "/nothing", 404, None),
        ("DELETE", "/jobs/abc", 405, "GET"),
        ("PUT", "/jobs", 405, "GET, POST"),
        ("GET", "/jobs/a/b", 404, None),
        ("POST", "/jobs/", 404, None),
        ("POST", "//jobs", 404, None),
    ],
)
def test_request_without_a_route_is_404_or_405(
    hello: Any, method: str, path: str, status: int, allow: str | None
) -> None:
    event = http("$default", path)
    event["requestContext"]["http"]["method"] = method
    answered, body, headers = call(hello, event)
    assert (answered, body["status"], headers.get("Allow")) == (status, status, allow)
