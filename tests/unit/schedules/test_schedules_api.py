"""/schedules over HTTP: shapes, scopes, and answers to bad input."""

import json
from typing import Any

import pytest
from mayfly.core.observability import observer

from functions.schedules.app import build
from functions.schedules.deps import Deps
from tests.support.events import http
from tests.support.fakes import Context
from tests.unit.schedules.test_schedules import Schedules

CALLER = {"tenant": "acme", "scopes": "schedules:read schedules:write"}
DAILY = {"cron": "30 9 * * *", "timezone": "Europe/Berlin", "task": "t", "payload": {"a": 1}}


class Api:
    def __init__(self, client: Any) -> None:
        self.kept = Schedules(client)
        self.handler = build(
            Deps(
                schedules=self.kept.schedules,
                observe=observer("schedules"),
                clock=self.kept.clock,
            )
        )

    def call(
        self, route: str, path: str | None = None, *, caller: dict[str, str] = CALLER, **more: Any
    ) -> tuple[int, Any]:
        reply = self.handler(
            http(route, path or route.split(" ")[1], caller=caller, **more), Context()
        )
        return reply["statusCode"], json.loads(reply["body"]) if reply.get("body") else None

    def put(self, body: Any, name: str = "daily", **more: Any) -> tuple[int, Any]:
        return self.call("PUT /schedules/{name}", f"/schedules/{name}", body=body, **more)


@pytest.fixture
def api(dynamodb: Any) -> Api:
    return Api(dynamodb)


def test_schedule_is_shown_as_it_was_put(api: Api) -> None:
    status, shown = api.put(DAILY)
    assert (status, shown) == (
        201,
        {
            **DAILY,
            "name": "daily",
            "max_attempts": None,
            "paused": False,
            "next_at": "2027-01-15T08:30:00.000Z",
        },
    )
    assert api.put(DAILY) == (200, shown)
    assert api.call("GET /schedules/{name}", "/schedules/daily") == (200, shown)
    assert api.call("GET /schedules") == (200, {"items": [shown], "next": None})


def test_interval_is_shown_without_a_time_zone(api: Api) -> None:
    _, shown = api.put({"every_seconds": 60, "task": "t"})
    assert set(shown) == {
        "name",
        "every_seconds",
        "task",
        "payload",
        "max_attempts",
        "paused",
        "next_at",
    }


def test_schedule_is_paused_resumed_and_deleted(api: Api) -> None:
    api.put(DAILY)
    status, paused = api.call("POST /schedules/{name}/pause", "/schedules/daily/pause")
    assert (status, paused["paused"], paused["next_at"]) == (200, True, None)
    status, resumed = api.call("POST /schedules/{name}/resume", "/schedules/daily/resume")
    assert (status, resumed["paused"], resumed["next_at"]) == (
        200,
        False,
        "2027-01-15T08:30:00.000Z",
    )
    assert api.call("DELETE /schedules/{name}", "/schedules/daily") == (204, None)
    assert api.call("GET /schedules/{name}", "/schedules/daily")[0] == 404


def test_names_may_be_percent_encoded(api: Api) -> None:
    assert api.put(DAILY, "a%40b%2Bc")[1]["name"] == "a@b+c"


@pytest.mark.parametrize("name", ["a%20b", "a%2Fb", "%00", "x" * 129, "%ff"])
def test_name_with_other_characters_is_rejected(api: Api, name: str) -> None:
    status, problem = api.put(DAILY, name)
    assert (status, problem["field"]) == (400, "name")


@pytest.mark.parametrize("name", [".", "..", "%2e", "%2e%2e"])
def test_schedule_cannot_have_a_name_that_clients_remove_from_paths(api: Api, name: str) -> None:
    status, problem = api.put(DAILY, name)
    assert (status, problem["field"]) == (400, "name")
    assert "which HTTP clients remove" in problem["detail"]


@pytest.mark.parametrize("verb", ["GET {}", "DELETE {}", "POST {}/pause", "POST {}/resume"])
def test_unknown_schedule_and_one_of_another_tenant_are_the_same_404(api: Api, verb: str) -> None:
    api.put(DAILY)
    route, path = verb.format("/schedules/{name}"), verb.format("/schedules/daily").split(" ")[1]
    other = api.call(route, path, caller={**CALLER, "tenant": "other"})
    unknown = api.call(route, path.replace("daily", "nobody"))
    assert other[0] == unknown[0] == 404
    assert other[1]["code"] == unknown[1]["code"] == "schedule-not-found"


@pytest.mark.parametrize(
    ("method", "scope"),
    [("GET", "schedules:write"), ("PUT", "schedules:read"), ("DELETE", "schedules:read")],
)
def test_each_verb_needs_its_scope(api: Api, method: str, scope: str) -> None:
    caller = {"tenant": "acme", "scopes": scope}
    assert (
        api.call(f"{method} /schedules/{{name}}", "/schedules/daily", caller=caller, body=DAILY)[0]
        == 403
    )


@pytest.mark.parametrize(
    "body", [None, [], {}, {"task": "nobody", "every_seconds": 5},
    {"task": "t", "every_seconds": 10**400}, {"task": "t", "cron": "*/0 * * * *"},
             {"task": "t", "cron": "0 0 31 2 1#6"}, {"task": "t", "cron": "\ud7ff * * * *"},
             {"task": "t", "cron": "* " * 500}, {"task": "t", "cron": ["*"]},
             {"task": "t", "cron": "99999999999999999999 * * * *"}, {"task": "t",
             "cron": "1-99999999 * * * *"}, {"task": "t", "every_seconds": 5, "timezone": 1}],
)  # fmt: skip
def test_bad_input_is_a_400_that_names_the_problem(api: Api, body: Any) -> None:
    status, problem = api.put(body)
    assert (status, problem["code"] in ("invalid-request", "unknown-task")) == (400, True)


def test_schedules_and_jobs_share_a_table_and_nothing_else(api: Api) -> None:
    """No job has the key of a schedule, whatever name the schedule has."""
    for name in ("job", "payload", "schedules"):
        api.put(DAILY, name)
    keys = {
        (item["pk"]["S"], item["sk"]["S"])
        for item in api.kept.client.scan(TableName="JobsTable")["Items"]
    }
    assert {pk for pk, sk in keys if sk.startswith("schedule")} == {"acme/schedules"}
    assert not [sk for pk, sk in keys if pk == "acme/schedules" and sk == "job"]
