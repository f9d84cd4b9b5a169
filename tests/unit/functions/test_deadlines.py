"""A store that does not answer: every verb says so before its function's timeout."""

import json
import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from mayfly.core.deadline import ANSWER_SECONDS, limited
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import SECRET_CHARACTERS, new_secret
from mayfly.tenants.rules import mint

from functions.authorizer.app import build as build_authorizer
from functions.authorizer.deps import from_environ as authorizer_deps
from functions.hello.app import build as build_hello
from functions.hello.deps import from_environ as hello_deps
from functions.relay_jobs.app import build as build_relay
from functions.relay_jobs.deps import from_environ as relay_deps
from tests.conftest import ROOT
from tests.support.clients import database
from tests.support.events import http
from tests.support.fakes import Context
from tests.support.wire import Request, Server, after, answer, refusal, serving
from tests.unit.functions.test_isolation import Api
from tools.access import BODIES

#: Milliseconds that an invocation has, in place of the ten seconds of the template.
REMAINING_MS = 1_600
ROUTES = sorted(
    f"{method.upper()} {path}"
    for path, methods in json.loads((ROOT / "functions/hello/openapi.json").read_text())[
        "paths"
    ].items()
    for method in methods
    if path not in ("/", "/health", "/openapi.json")
)
#: Routes that are tried with boto3's client, too: reads, plain writes, transactions.
BOTO_ROUTES = (
    "GET /counters/{name}", "POST /counters/{name}/increment", "PUT /counters/{name}", "POST /jobs",
    "DELETE /sessions/current",
)  # fmt: skip
TOKEN = f"mfs_a{'0' * 32}_{'a' * SECRET_CHARACTERS}"


@pytest.fixture
def black_hole(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that takes every request, and answers none."""
    over = Event()

    def swallow(request: Request, connection: Any) -> bool:
        over.wait(60)
        return False

    with serving() as server:
        server.usual = swallow
        for name, value in {
            "AWS_ENDPOINT_URL": server.url, "MAYFLY_CLIENT": "lean", "AWS_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        yield server
        over.set()


def seconds_of(act: Any) -> tuple[float, Any]:
    started = time.monotonic()
    found = act()
    return time.monotonic() - started, found


@pytest.fixture(params=["lean", "boto3"])
def client(
    request: pytest.FixtureRequest, black_hole: Server, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The name of the client that functions have."""
    monkeypatch.setenv("MAYFLY_CLIENT", request.param)
    return str(request.param)


@pytest.mark.parametrize(
    ("client", "route"),
    [("lean", route) for route in ROUTES] + [("boto3", route) for route in BOTO_ROUTES],
    indirect=["client"],
)
def test_route_answers_503_before_its_functions_timeout(
    black_hole: Server, client: str, route: str
) -> None:
    api = Api([], JOBS_QUEUE_URL="http://127.0.0.1/jobs", IMPORTS_BUCKET="imports")
    api.remaining_ms = REMAINING_MS
    parts = {"name": "orders-9", "id": "a" * 32, "subject": "ada"}
    wanted = {name: value for name, value in parts.items() if "{" + name + "}" in route}
    seconds, (status, body, _) = seconds_of(
        lambda: api.ask("acme", route, BODIES.get(route), token=TOKEN, **wanted)
    )
    assert (status, body["code"]) in [(503, "store-unavailable"), (503, "outcome-unknown")], body
    assert seconds < REMAINING_MS / 1000 - ANSWER_SECONDS + 0.3


@pytest.mark.usefixtures("client")
def test_page_answers_503_before_its_functions_timeout(black_hole: Server) -> None:
    env = {
        "COUNTERS_TABLE": "c", "SESSIONS_TABLE": "s", "SUBJECT_KEY": "k", "PAGE_LIMIT": "0",
        "DEFAULT_TENANT": "default",
    }  # fmt: skip
    handler = build_hello(hello_deps(env))
    seconds, reply = seconds_of(lambda: handler(http("GET /"), Context(REMAINING_MS)))
    assert reply["statusCode"] == 503
    assert seconds < REMAINING_MS / 1000 - ANSWER_SECONDS + 0.3


@pytest.mark.usefixtures("client")
def test_authorizer_fails_before_its_timeout(black_hole: Server) -> None:
    handler = build_authorizer(authorizer_deps({"TENANTS_TABLE": "t"}))
    text, _ = mint("dev", "acme", frozenset({"jobs:read"}), now_ms=0, new_secret=new_secret)
    event = {"headers": {"authorization": f"Bearer {text}"}}

    def authorize() -> None:
        with pytest.raises(StoreUnavailable):
            handler(event, Context(REMAINING_MS))

    assert seconds_of(authorize)[0] < REMAINING_MS / 1000 - ANSWER_SECONDS + 0.3


@pytest.mark.usefixtures("client")
def test_relay_reports_its_records_before_its_timeout(black_hole: Server) -> None:
    urls = {"JOBS_QUEUE_URL": f"{black_hole.url}/jobs", "WEBHOOKS_QUEUE_URL": f"{black_hole.url}/w"}
    handler = build_relay(relay_deps(urls))
    records = [
        {
            "eventName": "INSERT",
            "dynamodb": {
                "SequenceNumber": str(number),
                "NewImage": {
                    "pk": {"S": f"acme/j{number}"}, "sk": {"S": "job"}, "id": {"S": f"j{number}"},
                    "tenant": {"S": "acme"}, "task": {"S": "t"}, "status": {"S": "QUEUED"},
                    "not_before": {"N": "0"},
                },
            },
        }
        for number in range(40)
    ]  # fmt: skip
    seconds, reply = seconds_of(lambda: handler({"Records": records}, Context(REMAINING_MS)))
    assert len(reply["batchItemFailures"]) == 40
    assert seconds < REMAINING_MS / 1000 - ANSWER_SECONDS + 0.3


@pytest.mark.usefixtures("client")
def test_throttled_request_is_not_retried_beyond_its_deadline(black_hole: Server) -> None:
    black_hole.usual = after(0.2, refusal("ThrottlingException"))

    def read() -> None:
        with limited(round(1000 * (ANSWER_SECONDS + 0.5))), pytest.raises(StoreUnavailable):
            db.get("read", "t", {"pk": {"S": "a"}})

    with database(attempts=10) as db:
        assert seconds_of(read)[0] < 0.8
    assert black_hole.requests


@pytest.mark.usefixtures("client")
def test_request_without_time_is_not_sent(black_hole: Server) -> None:
    refused = pytest.raises(StoreUnavailable, match="DeadlineExceeded")
    with database() as db, limited(0), refused:
        db.get("read", "t", {"pk": {"S": "a"}})
    assert not black_hole.requests


@pytest.mark.usefixtures("client")
def test_each_call_has_the_time_of_its_own_request(black_hole: Server) -> None:
    black_hole.usual = after(0.3, answer({"Item": {"pk": {"S": "a"}}}))
    with database() as db:
        assert db.get("read", "t", {"pk": {"S": "a"}}) == {"pk": {"S": "a"}}
        with limited(round(1000 * (ANSWER_SECONDS + 0.2))), pytest.raises(StoreUnavailable):
            db.get("read", "t", {"pk": {"S": "a"}})
        with limited(60_000):
            assert db.get("read", "t", {"pk": {"S": "a"}})
