"""A store that does not answer: every verb says so before its function's timeout."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event
from typing import Any, Final

import pytest
from mayfly import sessions
from mayfly.core.deadline import ANSWER_SECONDS, limited
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import SECRET_CHARACTERS, new_secret
from mayfly.jobs import JobStore
from mayfly.jobs.items import new_items
from mayfly.jobs.shards import partitions
from mayfly.resources import session_store
from mayfly.tenants.items import key_item
from mayfly.tenants.rules import mint

from functions.authorizer.app import build as build_authorizer
from functions.authorizer.deps import from_environ as authorizer_deps
from functions.await_job.app import build as build_await
from functions.await_job.deps import from_environ as await_job_deps
from functions.hello.app import build as build_hello
from functions.hello.deps import from_environ as hello_deps
from functions.identify_callers.app import build as build_identify_callers
from functions.identify_callers.deps import from_environ as identify_callers_deps
from functions.relay_jobs.app import build as build_relay
from functions.relay_jobs.deps import from_environ as relay_deps
from functions.sweep_jobs.app import Shares
from functions.sweep_jobs.app import build as build_sweep
from functions.sweep_jobs.deps import from_environ as sweep_deps
from mayfly_testing.stack import wait_until
from tests.conftest import ROOT
from tests.support.clients import database
from tests.support.elapsed import seconds_of
from tests.support.events import http
from tests.support.fakes import Context
from tests.support.jobs import a_job
from tests.support.wire import Behaviour, Request, Server, after, answer, refusal, serving
from tests.unit.functions.test_isolation import ENV, Api
from tools.access import BODIES

#: Milliseconds that an invocation has, in place of the ten seconds of the template.
REMAINING_MS = 2_000
#: Seconds until which it must have answered: its time less a second.
PROMISED = REMAINING_MS / 1000 - 1
#: Milliseconds of an invocation in which only one call is silent.
LONGER_MS = 3_000
ROUTES = sorted(
    f"{method.upper()} {path}"
    for path, methods in json.loads((ROOT / "functions/hello/openapi.json").read_text())[
        "paths"
    ].items()
    for method in methods
    if path not in ("/", "/health", "/openapi.json")
)
#: A route of each function, with the limit of a tenant's requests, which reads the store, too.
WITH_LIMIT = (
    "GET /counters/{name}", "GET /jobs/{id}", "POST /jobs", "GET /schedules", "POST /sessions",
)  # fmt: skip
TOKEN = f"mfs_a{'0' * 32}_{'a' * SECRET_CHARACTERS}"
#: Requests of the public pages: the text, a visitor's own count, and the check of the stores.
JSON = http("GET /", headers={"accept": "application/json"})
PAGES = {
    "text": http("GET /"),
    "JSON": JSON,
    "JSON of a visitor": {**JSON, "cookies": [f"__Host-visitor={TOKEN}"]},
    "health": http("GET /health"),
}


def silence(over: Event) -> Behaviour:
    """Returns the behaviour that answers nothing."""
    return lambda request, connection: over.wait(60) is None


def drops(over: Event) -> Behaviour:
    """Returns the behaviour that sends a drop of an answer now and then."""

    def drip(request: Request, connection: Any) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
        while not over.wait(0.05):
            connection.sendall(b" ")
        return False

    return drip


def wait(*, seconds: int, remaining_ms: int) -> tuple[float, Any]:
    """Waits for a job, and returns the seconds that it took, and the reply."""
    event = http(
        "GET /jobs/{id}",
        f"/jobs/{'a' * 32}",
        query={"wait": str(seconds)},
        caller={"tenant": "acme", "scopes": "jobs:read"},
    )
    with database() as db:
        handler = build_await(replace(await_job_deps(ENV), store=JobStore(db, "JobsTable")))
        return seconds_of(lambda: handler(event, Context(remaining_ms)))


@pytest.fixture
def black_hole(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that takes every request, and answers none."""
    over = Event()

    with serving() as server:
        server.usual = silence(over)
        for name, value in {
            "AWS_ENDPOINT_URL": server.url, "MAYFLY_CLIENT": "lean", "AWS_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        yield server
        over.set()


@pytest.fixture(params=["lean", "boto3"])
def client(
    request: pytest.FixtureRequest, black_hole: Server, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The name of the client that functions have."""
    monkeypatch.setenv("MAYFLY_CLIENT", request.param)
    return str(request.param)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("route", "limit"),
    [
        *(pytest.param(route, 0, id=route) for route in ROUTES),
        *(pytest.param(route, 9, id=f"{route} with TenantLimit") for route in WITH_LIMIT),
    ],
)
def test_route_answers_503_before_its_functions_timeout(
    black_hole: Server, limit: int, route: str
) -> None:
    api = Api(
        [],
        JOBS_QUEUE_URL="http://127.0.0.1/jobs",
        IMPORTS_BUCKET="imports",
        TENANT_LIMIT=str(limit),
    )
    api.remaining_ms = REMAINING_MS
    parts = {"name": "orders-9", "id": "a" * 32, "subject": "ada"}
    wanted = {name: value for name, value in parts.items() if "{" + name + "}" in route}
    seconds, (status, body, _) = seconds_of(
        lambda: api.ask("acme", route, BODIES.get(route), token=TOKEN, **wanted)
    )
    assert (status, body["code"]) in [(503, "store-unavailable"), (503, "outcome-unknown")], body
    assert seconds < PROMISED


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(("fault", "reads"), [(silence, 1), (silence, 4), (drops, 4)])
def test_wait_answers_503_if_the_store_falls_silent_meanwhile(
    black_hole: Server, reads: int, fault: Callable[[Event], Behaviour]
) -> None:
    """As in the template, the wait would be over before the deadline."""
    over, answered = Event(), 0

    def fall_silent(request: Request, connection: Any) -> bool:
        nonlocal answered
        if answered == reads:
            return fault(over)(request, connection)
        answered += 1
        return answer({"Item": new_items(a_job(id="a" * 32))[0]})(request, connection)

    black_hole.usual = fall_silent
    seconds, reply = wait(seconds=2, remaining_ms=4_500)
    over.set()
    assert (reply["statusCode"], answered) == (503, reads)
    assert seconds < 4.5 - 1


@pytest.mark.usefixtures("client")
def test_wait_ends_with_the_job_as_it_is_if_the_deadline_comes_first(black_hole: Server) -> None:
    """For example with a shorter timeout in a template, or after a step of the clock."""
    black_hole.usual = answer({"Item": new_items(a_job(id="a" * 32))[0]})
    seconds, reply = wait(seconds=20, remaining_ms=3_000)
    assert (reply["statusCode"], json.loads(reply["body"])["status"]) == (200, "queued")
    assert len(black_hole.requests) > 2
    assert seconds < 3 - ANSWER_SECONDS


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("limit", [0, 9], ids=["no page limit", "page limit"])
@pytest.mark.parametrize("page", PAGES)
def test_page_answers_503_before_its_functions_timeout(
    black_hole: Server, page: str, limit: int
) -> None:
    env = {
        "COUNTERS_TABLE": "c", "SESSIONS_TABLE": "s", "SUBJECT_KEY": "k", "PAGE_LIMIT": str(limit),
        "DEFAULT_TENANT": "default",
    }  # fmt: skip
    handler = build_hello(hello_deps(env))
    seconds, reply = seconds_of(lambda: handler(PAGES[page], Context(REMAINING_MS)))
    assert reply["statusCode"] == 503
    assert seconds < PROMISED


AUTHORIZERS: Final = {
    "authorizer": lambda: build_authorizer(authorizer_deps({"TENANTS_TABLE": "t"})),
    "identify_callers": lambda: build_identify_callers(
        identify_callers_deps({"TENANTS_TABLE": "t"})
    ),
}


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("name", AUTHORIZERS)
def test_authorizer_fails_before_its_timeout(black_hole: Server, name: str) -> None:
    handler = AUTHORIZERS[name]()
    text, _ = mint("dev", "acme", frozenset({"jobs:read"}), now_ms=0, new_secret=new_secret)
    event = {"headers": {"authorization": f"Bearer {text}"}}

    def authorize() -> None:
        with pytest.raises(StoreUnavailable):
            handler(event, Context(REMAINING_MS))

    assert seconds_of(authorize)[0] < PROMISED


def silent_about(text: str, usual: Behaviour, over: Event) -> Behaviour:
    """Returns the behaviour that answers every request but those with a text in their body."""
    quiet = silence(over)

    def serve(request: Request, connection: Any) -> bool:
        is_meant = text.encode() in request.headers["x-amz-target"].encode() + request.body
        return (quiet if is_meant else usual)(request, connection)

    return serve


@pytest.fixture
def over() -> Iterator[Event]:
    event = Event()
    yield event
    event.set()


#: The answer of a table whose only counter is at 7. No connection stays open after it.
ITEM = {"value": {"N": "7"}}
CLOSE = {"Connection": "close"}
COUNTED = answer({"Attributes": ITEM, "Item": ITEM, "Items": [ITEM]}, headers=CLOSE)


@pytest.mark.usefixtures("client")
def test_page_is_served_if_only_its_limit_is_silent(black_hole: Server, over: Event) -> None:
    black_hole.usual = silent_about("/limit/page/", COUNTED, over)
    handler = build_hello(
        hello_deps(
            {
                "COUNTERS_TABLE": "c", "SESSIONS_TABLE": "s", "SUBJECT_KEY": "k", "PAGE_LIMIT": "9",
                "DEFAULT_TENANT": "default",
            }
        )
    )  # fmt: skip
    seconds, reply = seconds_of(lambda: handler(PAGES["text"], Context(LONGER_MS)))
    assert (reply["statusCode"], reply["body"]) == (200, "Hello World! 7 times.")
    wait_until(lambda: len(black_hole.requests) > 1, 10)
    assert seconds < LONGER_MS / 1000 - 1


@pytest.mark.usefixtures("client")
def test_route_is_served_if_only_the_limit_of_the_tenant_is_silent(
    black_hole: Server, over: Event
) -> None:
    black_hole.usual = silent_about("/limit/api%2Frequests/", COUNTED, over)
    api = Api([], TENANT_LIMIT="9")
    api.remaining_ms = LONGER_MS
    seconds, (status, body, _) = seconds_of(
        lambda: api.ask("acme", "GET /counters/{name}", name="orders-9")
    )
    assert (status, body["value"]) == (200, 7)
    wait_until(lambda: len(black_hole.requests) > 1, 10)
    assert seconds < LONGER_MS / 1000 - 1


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("name", AUTHORIZERS)
def test_authorizer_accepts_a_key_if_only_the_note_of_its_use_is_silent(
    black_hole: Server, over: Event, name: str
) -> None:
    text, key = mint("dev", "acme", frozenset({"jobs:read"}), now_ms=0, new_secret=new_secret)
    black_hole.usual = silent_about(
        "UpdateItem", answer({"Item": key_item(key)}, headers=CLOSE), over
    )
    handler = AUTHORIZERS[name]()
    event = {"headers": {"authorization": f"Bearer {text}"}}
    seconds, reply = seconds_of(lambda: handler(event, Context(LONGER_MS)))
    assert reply["context"] == {"tenant": "acme", "scopes": "jobs:read"}
    wait_until(lambda: len(black_hole.requests) > 1, 10)
    # A third of the time until the deadline: the caller's function comes after it.
    assert seconds < (LONGER_MS / 1000 - ANSWER_SECONDS) / 2


@pytest.mark.usefixtures("client")
def test_session_is_returned_if_only_its_touch_is_silent(black_hole: Server, over: Event) -> None:
    black_hole.usual = silent_about("UpdateItem", answer(), over)
    with database() as db:
        store = session_store({"SESSIONS_TABLE": "s", "SUBJECT_KEY": "k"}, db)
        _, session = sessions.create(store, tenant="acme", idle_seconds=600)
        later = store.clock() + 300_000
        with limited(LONGER_MS):
            seconds, touched = seconds_of(lambda: store.touch(session, now_ms=later))
    assert touched == session
    assert seconds < (LONGER_MS / 1000 - ANSWER_SECONDS) / 2
    wait_until(lambda: len(black_hole.requests) > 1, 10)


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
    assert seconds < PROMISED


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


# ---------------------------------------------------------------- the sweep

#: Seconds of a sweep, and its shares, in place of those of template.yaml.
SWEEP_SECONDS = 4.5
SHARES = Shares(margin=1_600, for_schedules=2_800, last_release=1_200)


class Running(Context):
    """A context whose time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = time.monotonic() + SWEEP_SECONDS

    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]
        """Returns the time that is left of the invocation."""
        return round((self.ends - time.monotonic()) * 1000)


def sweep(server: Server) -> tuple[float, list[str]]:
    """Sweeps until it fails; returns its seconds, and the partitions that it has asked for."""
    settings = {"RELAY_REPORTS_BUCKET": "b", "RELAY_FAILURES_URL": f"{server.url}/q", **ENV}
    # It is not the minute of reports.
    deps = replace(sweep_deps(settings), clock=lambda: 60_000)
    handler = build_sweep(deps, SHARES)

    def fail() -> None:
        with pytest.raises(StoreUnavailable):
            handler({}, Running())

    seconds, _ = seconds_of(fail)
    bodies = [json.loads(request.body) for request in server.requests]
    return seconds, [body["ExpressionAttributeValues"][":due"]["S"] for body in bodies]


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("kind", ["drops", "late 500"])
def test_sweep_ends_before_its_timeout_and_tries_both_steps(
    black_hole: Server, over: Event, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    late = after(1, refusal("InternalServerError", 500))
    black_hole.usual = drops(over) if kind == "drops" else late
    seconds, asked = sweep(black_hole)
    assert seconds < SWEEP_SECONDS - 1
    assert {partition.partition("/")[0] for partition in asked} == {"due", "schedules"}
    assert '"SweepFailed":[1.0,1.0]' in capsys.readouterr().out.replace(" ", "")


@pytest.mark.usefixtures("client")
def test_schedules_have_their_time_if_only_jobs_are_answered_in_drops(
    black_hole: Server, over: Event
) -> None:
    quiet, usual = drops(over), answer({"Items": []}, headers=CLOSE)

    def serve(request: Request, connection: Any) -> bool:
        return (usual if b'"schedules' in request.body else quiet)(request, connection)

    black_hole.usual = serve
    seconds, asked = sweep(black_hole)
    assert seconds < SWEEP_SECONDS - 1
    assert len([one for one in asked if one.startswith("schedules")]) == len(
        partitions("schedules")
    )
