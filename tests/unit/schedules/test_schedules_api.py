"""/schedules over HTTP: shapes, scopes, and answers to bad input."""

import json
from typing import Any

import pytest
from mayfly.core.observability import observer
from mayfly.jobs.model import Status
from mayfly.schedules import Definition
from mayfly.schedules.errors import ScheduleUnusable
from mayfly.schedules.store import StaleWrite

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


# ---------------------------------------------------------------- damaged records

PAUSE = ("POST /schedules/{name}/pause", "/schedules/bad/pause")
RESUME = ("POST /schedules/{name}/resume", "/schedules/bad/resume")
#: Attributes of which one cannot be read, None if it is absent; and the reason that is shown.
DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "without its definition": (
        dict.fromkeys(("task", "payload", "cron", "timezone", "tenant", "name")),
        "the record of this schedule cannot be read: KeyError: 'tenant'",
    ),
    "cron null": (
        {"cron": {"NULL": True}},
        "the record of this schedule cannot be read: KeyError: 'S'",
    ),
    "anchor text": (
        {"anchor": {"S": "x"}},
        "the record of this schedule cannot be read: KeyError: 'N'",
    ),
    "payload not JSON": (
        {"payload": {"S": "{"}},
        "the record of this schedule cannot be read: JSONDecodeError: ",
    ),
    "without version and edition": (
        dict.fromkeys(("version", "edition")),
        "the record of this schedule cannot be read: KeyError: 'edition'",
    ),
    "version text": (
        {"version": {"S": "q"}},
        "the record of this schedule cannot be read: KeyError: 'N'",
    ),
}
#: Records that can be read, and have no ticks.
TICKLESS: dict[str, tuple[dict[str, Any], str]] = {
    "zone gone": (
        {"timezone": {"S": "Mars/Base"}},
        "the times of this schedule cannot be found: ZoneInfoNotFoundError: ",
    ),
    "zone that is a folder": (
        {"timezone": {"S": "America"}},
        "the times of this schedule cannot be found: ",
    ),
    "without a time": (
        {"cron": None},
        "the times of this schedule cannot be found: ValueError: it has neither",
    ),
    "interval of 0": (
        {"cron": None, "every_seconds": {"N": "0"}},
        "the times of this schedule cannot be found: ValueError: an interval of 0 s",
    ),
    "interval below 0": (
        {"cron": None, "every_seconds": {"N": "-5"}},
        "the times of this schedule cannot be found: ValueError: an interval of -5 s",
    ),
}
UNUSABLE = {**DAMAGED, **TICKLESS}
EACH_MINUTE = {"cron": "* * * * *", "timezone": "Europe/Berlin", "task": "t", "payload": 1}


def damage(api: Api, changes: dict[str, Any]) -> dict[str, Any]:
    """Puts schedules that each have a job ahead, of which one is damaged; returns its item."""
    for name in ("a", "bad", "c"):
        api.put(EACH_MINUTE, name)
    item = stored(api)
    assert item is not None
    item = {name: value for name, value in {**item, **changes}.items() if value is not None}
    api.kept.client.put_item(TableName="JobsTable", Item=item)
    return item


def stored(api: Api) -> dict[str, Any] | None:
    key = {"pk": {"S": "acme/schedules"}, "sk": {"S": "schedule/bad"}}
    item: dict[str, Any] | None = api.kept.client.get_item(TableName="JobsTable", Key=key).get(
        "Item"
    )
    return item


def waiting(api: Api) -> list[str]:
    """Returns the names of the schedules of jobs that wait for their tick."""
    return sorted(
        job.tick.schedule
        for job in api.kept.made()
        if job.status is Status.SCHEDULED and job.tick is not None
    )


def one(method: str) -> tuple[str, str]:
    return f"{method} /schedules/{{name}}", "/schedules/bad"


@pytest.mark.parametrize(("changes", "error"), UNUSABLE.values(), ids=UNUSABLE)
def test_schedule_that_cannot_be_used_is_shown_with_its_reason_beside_the_others(
    api: Api, changes: dict[str, Any], error: str
) -> None:
    damage(api, changes)
    status, page = api.call("GET /schedules")
    assert (status, [item["name"] for item in page["items"]]) == (200, ["a", "bad", "c"])
    assert ["error" in item for item in page["items"]] == [False, True, False]
    shown = page["items"][1]
    assert shown["error"].startswith(error)
    assert shown["next_at"] is None
    assert api.call(*one("GET")) == (200, shown)


@pytest.mark.parametrize(("changes", "error"), UNUSABLE.values(), ids=UNUSABLE)
def test_schedule_that_cannot_be_used_can_be_deleted(
    api: Api, changes: dict[str, Any], error: str
) -> None:
    damage(api, changes)
    assert api.call(*one("DELETE")) == (204, None)
    assert (api.call(*one("GET"))[0], stored(api)) == (404, None)


@pytest.mark.parametrize(("changes", "error"), UNUSABLE.values(), ids=UNUSABLE)
def test_schedule_that_cannot_be_used_can_be_replaced(
    api: Api, changes: dict[str, Any], error: str
) -> None:
    damage(api, changes)
    status, shown = api.put(EACH_MINUTE, "bad")
    assert (status, shown["next_at"], "error" in shown) == (200, "2027-01-15T08:01:00.000Z", False)
    assert api.put(EACH_MINUTE, "bad") == (200, shown)
    api.kept.clock.advance(60)
    assert (api.kept.sweep(), api.kept.failed) == (3, [])


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
@pytest.mark.parametrize("damaged", ["zone gone", "cron null", "anchor text", "payload not JSON"])
def test_jobs_that_were_made_ahead_of_it_are_cancelled(api: Api, damaged: str, method: str) -> None:
    damage(api, UNUSABLE[damaged][0])
    assert waiting(api) == ["a", "bad", "c"]
    api.call(*one(method), body={"task": "t", "every_seconds": 3600})
    assert waiting(api) == ["a", "c"]


@pytest.mark.parametrize(("changes", "error"), DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("call", [PAUSE, RESUME], ids=["pause", "resume"])
def test_change_of_a_schedule_that_cannot_be_read_writes_nothing(
    api: Api, changes: dict[str, Any], error: str, call: tuple[str, str]
) -> None:
    item = damage(api, changes)
    status, problem = api.call(*call)
    assert (status, problem["code"]) == (409, "schedule-unusable")
    assert error in problem["detail"]
    assert "put a new definition, or delete it" in problem["detail"]
    assert stored(api) == item


@pytest.mark.parametrize(("changes", "error"), TICKLESS.values(), ids=TICKLESS)
def test_schedule_without_ticks_can_be_paused_and_not_resumed(
    api: Api, changes: dict[str, Any], error: str
) -> None:
    damage(api, changes)
    status, shown = api.call(*PAUSE)
    assert (status, shown["paused"]) == (200, True)
    assert shown["error"].startswith(error)
    item = stored(api)
    status, problem = api.call(*RESUME)
    assert (status, problem["code"], stored(api)) == (409, "schedule-unusable", item)


def test_definition_without_ticks_changes_nothing(api: Api) -> None:
    """As code of an application may give it, which no request can."""
    api.put(EACH_MINUTE, "bad")
    before = stored(api)
    with pytest.raises(ScheduleUnusable, match="Mars/Base"):
        api.kept.define(Definition("t", None, None, "* * * * *", None, "Mars/Base"), "bad")
    assert stored(api) == before


def test_record_that_changed_since_it_was_read_is_not_deleted(api: Api) -> None:
    damage(api, DAMAGED["anchor text"][0])
    seen = api.kept.store.read("acme", "bad")
    api.put(EACH_MINUTE, "bad")
    with pytest.raises(StaleWrite):
        api.kept.store.delete(seen)
    assert stored(api) is not None


def test_schedule_of_a_later_release_is_listed_and_left_alone(api: Api) -> None:
    item = damage(api, {"v": {"N": "2"}})
    status, page = api.call("GET /schedules")
    assert (status, len(page["items"])) == (200, 3)
    assert "the schedule has format 2" in page["items"][1]["error"]
    assert api.call(*one("DELETE"))[0] == 500
    assert stored(api) == item


def test_job_ahead_of_a_time_without_end_does_not_keep_a_change(api: Api) -> None:
    damage(api, {"cron": None, "every_seconds": {"N": "1"}, "made": {"N": "1" + "0" * 30}})
    assert api.call(*one("DELETE")) == (204, None)
