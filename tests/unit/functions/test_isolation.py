"""Resources of another tenant look as if they did not exist.

Both get the same answer, by the same calls of the store.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import boto3
import pytest
from mayfly import limits
from mayfly.aws.dynamodb import RequestRefused
from mayfly.core.errors import StoreUnavailable
from mayfly.core.json_input import NAME
from mayfly.limits.errors import QuotaExceeded
from mayfly.resources import limit_store

from functions.await_job.app import build as build_await
from functions.await_job.deps import from_environ as await_job_deps
from functions.counters.app import build as build_counters
from functions.counters.deps import from_environ as counters_deps
from functions.jobs.app import build as build_jobs
from functions.jobs.deps import from_environ as jobs_deps
from functions.schedules.app import build as build_schedules
from functions.schedules.deps import from_environ as schedules_deps
from functions.sessions.app import build as build_sessions
from functions.sessions.deps import from_environ as sessions_deps
from tests.support.events import http
from tests.support.fakes import Context
from tests.support.hostile import SCOPES
from tools.access import QUERIES

Call = tuple[str, int]

ENV = {
    "JOBS_TABLE": "JobsTable",
    "SESSIONS_TABLE": "SessionsTable",
    "COUNTERS_TABLE": "CountersTable",
    "SUBJECT_KEY": "k",
    "TENANT_LIMIT": "0",
}


class Api:
    """All functions behind the authorizer, and the store calls that they make."""

    def __init__(self, calls: list[Call], **env: str) -> None:
        self.calls = calls
        self.remaining_ms = 30_000
        env = {**ENV, **env}
        self._handlers = {
            "jobs": build_jobs(jobs_deps(env)),
            "schedules": build_schedules(schedules_deps(env)),
            "job": build_await(await_job_deps(env)),
            "sessions": build_sessions(sessions_deps(env)),
            "subjects": build_sessions(sessions_deps(env)),
            "counters": build_counters(counters_deps(env)),
            "limits": build_counters(counters_deps(env)),
        }

    def ask(
        self,
        tenant: str,
        route: str,
        body: Any = None,
        *,
        token: str = "",
        **parts: str,
    ) -> tuple[int, Any, list[Call]]:
        """Returns status, body and store calls, without fields that differ in every request."""
        path = route.partition(" ")[2]
        for name, value in parts.items():
            path = path.replace("{" + name + "}", value)
        event = http(
            route,
            path,
            body=body,
            headers={"Session-Token": token},
            query=dict(parse_qsl(QUERIES.get(route, "").removeprefix("?"))),
            caller={"tenant": tenant, "scopes": SCOPES},
        )
        self.calls.clear()
        handler = self._handlers["job" if route == "GET /jobs/{id}" else path.split("/")[1]]
        reply = handler(event, Context(self.remaining_ms))
        text = reply.get("body") or "null"
        for value in parts.values():
            text = text.replace(value, "(the name)")
        return reply["statusCode"], json.loads(text), list(self.calls)


@pytest.fixture(scope="module")
def recording() -> tuple[boto3.Session, list[Call]]:
    """Returns a session that records the calls of its clients.

    One for all tests, since a new session reads every service model again.
    """
    requests: list[Call] = []
    session = boto3.Session()
    session.events.register(
        "before-call", lambda model, params, **_: requests.append((model.name, len(params["body"])))
    )
    return session, requests


@pytest.fixture
def calls(
    tables: dict[str, str], recording: tuple[boto3.Session, list[Call]]
) -> Iterator[list[Call]]:
    """Records every call of the store, with the size of its request in bytes."""
    session, requests = recording
    requests.clear()
    usual, boto3.DEFAULT_SESSION = boto3.DEFAULT_SESSION, session
    yield requests
    boto3.DEFAULT_SESSION = usual


@pytest.fixture
def api(calls: list[Call]) -> Api:
    return Api(calls)


def job(api: Api) -> dict[str, str]:
    return {
        "id": api.ask("acme", "POST /jobs", {"task": "counter.add", "payload": {"name": "n"}})[1][
            "id"
        ]
    }


def schedule(api: Api) -> dict[str, str]:
    api.ask(
        "acme", "PUT /schedules/{name}", {"every_seconds": 60, "task": "counter.add"}, name="report"
    )
    return {"name": "report"}


def subject(api: Api) -> dict[str, str]:
    return {
        "subject": "subject1",
        "id": api.ask("acme", "POST /sessions", {"subject": "subject1"})[1]["id"],
    }


#: A route, a function that makes its resource, and names of the same lengths that nothing has.
ABOUT_ONE_THING: list[tuple[str, Callable[[Api], dict[str, str]], dict[str, str]]] = [
    ("GET /jobs/{id}", job, {"id": "0" * 32}),
    ("POST /jobs/{id}/cancel", job, {"id": "0" * 32}),
    ("POST /jobs/{id}/redrive", job, {"id": "0" * 32}),
    ("GET /schedules/{name}", schedule, {"name": "report".upper()}),
    ("DELETE /schedules/{name}", schedule, {"name": "report".upper()}),
    ("POST /schedules/{name}/pause", schedule, {"name": "report".upper()}),
    ("POST /schedules/{name}/resume", schedule, {"name": "report".upper()}),
    ("GET /subjects/{subject}/sessions", subject, {"subject": "subject2"}),
    ("DELETE /subjects/{subject}/sessions/{id}", subject, {"subject": "subject2", "id": "0" * 32}),
]


@pytest.mark.parametrize(
    ("route", "make", "unknown"), ABOUT_ONE_THING, ids=[case[0] for case in ABOUT_ONE_THING]
)
def test_resources_of_another_tenant_get_the_answer_and_the_calls_of_absent_ones(
    api: Api, route: str, make: Callable[[Api], dict[str, str]], unknown: dict[str, str]
) -> None:
    foreign = make(api)
    # The other tenant's name has the same length: equal requests have equal sizes.
    answers = [api.ask("evil", route, **parts) for parts in (foreign, unknown)]
    assert answers[0] == answers[1]
    assert answers[0][0] in (200, 404)
    assert answers[0][2], "no store call was made"
    mine = api.ask("acme", route, **foreign)
    assert (mine[0], mine[1]) != answers[0][:2]


def test_token_of_another_tenant_opens_nothing_and_costs_what_an_unknown_one_does(api: Api) -> None:
    token = api.ask("acme", "POST /sessions", {"subject": "ann"})[1]["token"]
    unknown = token[:-1] + ("0" if token[-1] != "0" else "1")
    answers = [
        api.ask("evil", "GET /sessions/current", token=secret) for secret in (token, unknown)
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert api.ask("acme", "GET /sessions/current", token=token)[0] == 200


def counter(api: Api) -> dict[str, str]:
    api.ask("acme", "POST /counters/{name}/increment", {"by": 5}, name="n1")
    return {"name": "n1"}


#: A write under a name, and how its owner reads what is stored there.
WRITES: list[tuple[str, Any, Callable[[Api], dict[str, str]], str]] = [
    ("POST /counters/{name}/increment", {}, counter, "GET /counters/{name}"),
    ("PUT /counters/{name}", {"shards": 2}, counter, "GET /counters/{name}"),
    ("DELETE /counters/{name}", None, counter, "GET /counters/{name}"),
    (
        "PUT /schedules/{name}",
        {"every_seconds": 99, "task": "counter.add"},
        schedule,
        "GET /schedules/{name}",
    ),
    ("DELETE /schedules/{name}", None, schedule, "GET /schedules/{name}"),
    ("POST /schedules/{name}/pause", None, schedule, "GET /schedules/{name}"),
    ("DELETE /subjects/{subject}/sessions", None, subject, "GET /subjects/{subject}/sessions"),
    ("DELETE /subjects/{subject}/sessions/{id}", None, subject, "GET /subjects/{subject}/sessions"),
    ("POST /jobs/{id}/cancel", None, job, "GET /jobs/{id}"),
]


@pytest.mark.parametrize(
    ("route", "body", "make", "reading"), WRITES, ids=[case[0] for case in WRITES]
)
def test_write_of_another_tenant_under_the_same_name_changes_nothing(
    api: Api, route: str, body: Any, make: Callable[[Api], dict[str, str]], reading: str
) -> None:
    mine = make(api)

    def seen() -> Any:
        status, shown, _ = api.ask("acme", reading, **mine)
        shown.pop("next_at", None)
        return status, shown

    before = seen()
    assert before[0] == 200
    api.ask("evil", route, body, **mine)
    assert seen() == before
    api.ask("acme", route, body, **mine)
    # Refused if it exists with other fields.
    assert seen() != before or route == "PUT /counters/{name}"


def test_name_is_another_resource_for_each_tenant(api: Api) -> None:
    api.ask("acme", "POST /counters/{name}/increment", {"by": 5}, name="n1")
    assert api.ask("evil", "GET /counters/{name}", name="n1")[1]["value"] == 0
    api.ask("evil", "DELETE /counters/{name}", name="n1")
    assert api.ask("acme", "GET /counters/{name}", name="n1")[1]["value"] == 5


# ---------------------------------------------------------------- limits of each tenant


def test_tenant_without_requests_left_gets_429_on_every_route_and_no_other_does(
    calls: list[Call],
) -> None:
    api = Api(calls, TENANT_LIMIT="3")
    assert [api.ask("acme", "GET /counters/{name}", name="n1")[0] for _ in range(3)] == [200] * 3
    for route in (
        "GET /jobs/{id}",
        "GET /schedules/{name}",
        "GET /subjects/{subject}/sessions",
        "GET /counters/{name}",
    ):
        status, problem, calls_made = api.ask("acme", route, id="x1", name="n1", subject="s1")
        assert (status, problem["code"]) == (429, "quota-exceeded"), route
        # Only the limit was read.
        assert [name for name, _ in calls_made] in (
            [],
            ["UpdateItem"],
            ["UpdateItem", "UpdateItem"],
        ), route
    assert api.ask("evil", "GET /counters/{name}", name="n1")[0] == 200


def test_request_without_a_tenant_limit_makes_no_extra_call(calls: list[Call]) -> None:
    assert [name for name, _ in Api(calls).ask("acme", "GET /jobs/{id}", id="x1")[2]] == ["GetItem"]
    assert [
        name for name, _ in Api(calls, TENANT_LIMIT="9").ask("acme", "GET /jobs/{id}", id="x1")[2]
    ] == ["UpdateItem", "GetItem"]


def test_request_without_the_scope_takes_nothing_from_the_tenants_share(calls: list[Call]) -> None:
    api = Api(calls, TENANT_LIMIT="1")
    event = http(
        "GET /counters/{name}", "/counters/n1", caller={"tenant": "acme", "scopes": "jobs:read"}
    )
    assert [api._handlers["counters"](event, Context())["statusCode"] for _ in range(3)] == [
        403
    ] * 3
    assert api.ask("acme", "GET /counters/{name}", name="n1")[0] == 200


def test_tenant_cannot_take_from_its_own_share_by_name(calls: list[Call]) -> None:
    with pytest.raises(QuotaExceeded) as refused:
        for _ in range(2):
            limits.quota(limit_store(ENV), 1)("acme")
    assert not NAME.fullmatch(refused.value.policy)
    api = Api(calls, TENANT_LIMIT="1")
    assert (
        api.ask(
            "evil",
            "POST /limits/{name}/take",
            {"key": "all", "algorithm": "gcra", "limit": 9, "period_seconds": 60},
            name="api%2Frequests",
        )[0]
        == 400
    )


def test_requests_are_admitted_if_the_limit_cannot_be_read(
    calls: list[Call], caplog: pytest.LogCaptureFixture
) -> None:
    class Away:
        def take(self, *_: Any) -> Any:
            raise StoreUnavailable("take", "gone")

    limits.quota(Away(), 1)("acme")  # type: ignore[arg-type]  # a fake
    assert "the request was allowed" in caplog.text


def test_limit_whose_table_is_missing_is_an_error_and_admits_no_request(aws: None) -> None:
    with pytest.raises(RequestRefused):
        limits.quota(limit_store({"COUNTERS_TABLE": "nothing"}), 1)("acme")


def test_quota_answers_when_to_retry(calls: list[Call]) -> None:
    take = limits.quota(limit_store(ENV), 1)
    take("acme")
    with pytest.raises(QuotaExceeded) as refused:
        take("acme")
    assert 1 <= refused.value.reset_seconds <= 60


@pytest.mark.parametrize(
    ("route", "part"),
    [("GET /counters/{name}", "name"), ("GET /jobs/{id}", "id"), ("GET /schedules/{name}", "name")],
)
def test_path_with_characters_that_no_name_has_is_400_without_a_store_call(
    api: Api, route: str, part: str
) -> None:
    status, problem, calls_made = api.ask("acme", route, **{part: "\x84"})
    assert (status, problem["code"], calls_made) == (400, "invalid-request", [])
