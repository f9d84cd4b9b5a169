"""/sessions and /subjects: the handler through `build`, on moto."""

import json
from typing import Any

import pytest
from mayfly.core.observability import observer
from mayfly.sessions.items import session_key
from mayfly.sessions.tokens import read_token

from functions.sessions.app import build
from functions.sessions.deps import Deps as SessionsDeps
from tests.support.events import http
from tests.support.fakes import Context
from tests.support.faults import Faults
from tests.support.sessions import Sessions

WRITER = {"tenant": "acme", "scopes": "sessions:read sessions:write"}
CURRENT = "/sessions/current"


class Api:
    """Calls the handler as one tenant."""

    def __init__(self, client: Any) -> None:
        self.store = Sessions(client)
        self.handler = build(SessionsDeps(store=self.store, observe=observer("sessions")))

    def call(
        self, route: str, token: str | None = None, path: str | None = None, **more: Any
    ) -> tuple[int, Any, dict[str, str]]:
        headers = {**({"Session-Token": token} if token else {}), **more.pop("headers", {})}
        reply = self.handler(
            http(route, path, headers=headers, **{"caller": WRITER, **more}), Context()
        )
        body = json.loads(reply["body"]) if reply.get("body") else None
        return reply["statusCode"], body, reply["headers"]

    def create(self, **body: Any) -> dict[str, Any]:
        status, session, headers = self.call("POST /sessions", body=body)
        assert (status, headers["ETag"]) == (201, '"1"')
        return dict(session)


@pytest.fixture
def api(dynamodb: Any) -> Api:
    return Api(dynamodb)


def test_session_is_created_and_its_token_is_shown_once(api: Api) -> None:
    session = api.create(
        subject="ada@example.org", data={"theme": "dark"}, idle_seconds=60, absolute_seconds=600
    )
    token = session.pop("token")
    assert session == {
        "id": session["id"],
        "subject": "ada@example.org",
        "data": {"theme": "dark"},
        "version": 1,
        "created_at": "2027-01-15T08:00:00.000Z",
        "idle_expires_at": "2027-01-15T08:01:00.000Z",
        "absolute_expires_at": "2027-01-15T08:10:00.000Z",
    }
    status, body, headers = api.call(f"GET {CURRENT}", token)
    assert (status, body, headers["ETag"], headers["Cache-Control"]) == (
        200,
        session,
        '"1"',
        "no-store",
    )


def test_empty_body_requests_the_defaults(api: Api) -> None:
    session = api.create()
    assert (session["subject"], session["data"], session["idle_expires_at"]) == (
        None,
        {},
        "2027-01-15T08:30:00.000Z",
    )
    assert session["absolute_expires_at"] == "2027-01-15T20:00:00.000Z"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"subject": "a/b"}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 129}, "subject"),
        ({"subject": 1}, "subject"),
        ({"data": []}, "data"),
        ({"data": None}, "data"),
        ({"idle_seconds": 0}, "idle_seconds"),
        ({"idle_seconds": 1.5}, "idle_seconds"),
        ({"absolute_seconds": 400 * 24 * 3600 + 1}, "absolute_seconds"),
        ({"token": "mine"}, "token"),
        ([], "body"),
    ],
)
def test_malformed_session_is_rejected_with_the_name_of_the_field(
    api: Api, body: Any, field: str
) -> None:
    status, problem, _ = api.call("POST /sessions", body=body)
    assert (status, problem["code"], problem["field"]) == (400, "invalid-request", field)


@pytest.mark.parametrize("subject", [".", ".."])
def test_subject_cannot_have_a_name_that_clients_remove_from_paths(api: Api, subject: str) -> None:
    status, problem, _ = api.call("POST /sessions", body={"subject": subject})
    assert (status, problem["field"]) == (400, "subject")
    assert "which HTTP clients remove" in problem["detail"]


def test_data_above_the_limit_is_413(api: Api) -> None:
    status, problem, _ = api.call("POST /sessions", body={"data": {"t": "x" * 256 * 1024}})
    assert (status, problem["code"]) == (413, "payload-too-large")


def test_patch_answers_the_new_version(api: Api) -> None:
    token = api.create(data={"a": 1, "b": {"c": 2}})["token"]
    status, body, headers = api.call(f"PATCH {CURRENT}", token, body={"a": None, "b": {"d": 3}})
    assert (status, body["data"], body["version"], headers["ETag"]) == (
        200,
        {"b": {"c": 2, "d": 3}},
        2,
        '"2"',
    )
    assert "token" not in body


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/merge-patch+json",
        "Application/JSON; charset=utf-8",
        "application/x-www-form-urlencoded",
    ],
)
def test_patch_is_sent_as_json_or_as_merge_patch(api: Api, kind: str) -> None:
    assert (
        api.call(
            f"PATCH {CURRENT}", api.create()["token"], body={"a": 1}, headers={"Content-Type": kind}
        )[0]
        == 200
    )


def test_patch_of_another_content_type_is_415(api: Api) -> None:
    status, problem, _ = api.call(
        f"PATCH {CURRENT}",
        api.create()["token"],
        body={},
        headers={"Content-Type": "application/json-patch+json"},
    )
    assert (status, problem["code"]) == (415, "unsupported-media-type")


@pytest.mark.parametrize("body", [[], 1, None, "x"])
def test_patch_that_is_not_an_object_is_rejected(api: Api, body: Any) -> None:
    status, problem, _ = api.call(f"PATCH {CURRENT}", api.create()["token"], raw=json.dumps(body))
    assert (status, problem["field"]) == (400, "body")


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ('"1"', 412),
        ('"2"', 200),
        ('W/"2"', 412),
        ("*", 200),
        ('"9", "2"', 200),
        ("2", 400),
        ("", 400),
    ],
)
def test_patch_with_a_stale_if_match_is_refused(api: Api, tag: str, status: int) -> None:
    token = api.create()["token"]
    api.call(f"PATCH {CURRENT}", token, body={"a": 1})
    answered, body, _ = api.call(
        f"PATCH {CURRENT}", token, body={"a": 2}, headers={"If-Match": tag}
    )
    assert answered == status
    assert body.get("code") == {412: "version-conflict", 400: "invalid-request", 200: None}[status]


def test_rotation_revokes_the_old_token(api: Api) -> None:
    old = api.create(data={"cart": 1})["token"]
    status, body, headers = api.call(f"POST {CURRENT}/rotate", old)
    assert (status, body["data"], body["version"], headers["ETag"]) == (200, {"cart": 1}, 2, '"2"')
    assert api.call(f"GET {CURRENT}", old)[0] == 404
    assert api.call(f"GET {CURRENT}", body["token"])[0] == 200


def test_rotation_may_name_the_subject(api: Api) -> None:
    status, body, _ = api.call(
        f"POST {CURRENT}/rotate", api.create()["token"], body={"subject": "ada"}
    )
    assert (status, body["subject"]) == (200, "ada")
    status, problem, _ = api.call(f"POST {CURRENT}/rotate", body["token"], body={"user": "ada"})
    assert (status, problem["field"]) == (400, "user")


def test_logout_is_204_and_then_404(api: Api) -> None:
    token = api.create()["token"]
    assert api.call(f"DELETE {CURRENT}", token)[:2] == (204, None)
    assert api.call(f"DELETE {CURRENT}", token)[0] == 404


@pytest.mark.parametrize("levels", [99, 101, 500, 940, 1500, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_data_that_is_nested_too_deeply_is_rejected_and_never_a_500(
    api: Api, levels: int, opening: str, closing: str
) -> None:
    raw = '{"data": {"a": ' + opening * (levels - 2) + "1" + closing * (levels - 2) + "}}"
    assert api.call("POST /sessions", raw=raw)[0] == (201 if levels <= 100 else 400)
    assert api.call(f"PATCH {CURRENT}", api.create()["token"], raw=raw)[0] == (
        200 if levels <= 100 else 400
    )


ROUTES = [
    (f"GET {CURRENT}", None),
    (f"PATCH {CURRENT}", {"a": 1}),
    (f"POST {CURRENT}/rotate", None),
    (f"DELETE {CURRENT}", None),
]


@pytest.mark.parametrize(("route", "body"), ROUTES)
@pytest.mark.parametrize(
    "end", ["expired", "ended", "rotated", "revoked", "unknown", "malformed", "foreign"]
)
def test_unknown_expired_or_ended_token_is_the_same_404_on_every_route(
    api: Api, route: str, body: Any, end: str
) -> None:
    token = api.create(subject="ada")["token"]
    caller = WRITER
    if end == "expired":
        api.store.time.advance(1800)
    elif end == "ended":
        api.call(f"DELETE {CURRENT}", token)
    elif end == "rotated":
        api.call(f"POST {CURRENT}/rotate", token)
    # A second end of the same session succeeds.
    elif end == "revoked" and not route.startswith("DELETE"):
        api.call("DELETE /subjects/{subject}/sessions", path="/subjects/ada/sessions")
    elif end == "foreign":
        caller = {**WRITER, "tenant": "other"}
    else:
        token = "mfs_a" + "0" * 32 + "_" + "A" * 43 if end == "unknown" else "guess"
    status, problem, _ = api.call(route, token, body=body, caller=caller)
    assert (status, problem["code"]) == (404, "session-not-found")
    unknown = api.call(route, "mfs_a" + "1" * 32 + "_" + "A" * 43, body=body)[1]
    assert problem == unknown


@pytest.mark.parametrize(("route", "body"), ROUTES)
def test_request_without_token_is_answered_with_the_missing_header(
    api: Api, route: str, body: Any
) -> None:
    status, problem, _ = api.call(route, body=body)
    assert (status, problem["field"]) == (400, "Session-Token")


def test_subjects_sessions_are_listed_and_ended(api: Api) -> None:
    first, second = (api.create(subject="ada@example.org", data={"n": n}) for n in (1, 2))
    path = "/subjects/ada%40example.org/sessions"
    status, page, _ = api.call("GET /subjects/{subject}/sessions", path=path)
    assert (status, page["next"]) == (200, None)
    assert sorted(item["data"]["n"] for item in page["items"]) == [1, 2]
    assert all("token" not in item for item in page["items"])
    one = "DELETE /subjects/{subject}/sessions/{id}"
    assert api.call(one, path=f"{path}/{first['id']}")[0] == 204
    assert api.call(one, path=f"{path}/{first['id']}")[1]["code"] == "session-not-found"
    assert [api.call(f"GET {CURRENT}", session["token"])[0] for session in (first, second)] == [
        404,
        200,
    ]
    assert (
        api.call("DELETE /subjects/{subject}/sessions", path="/subjects/ada@example.org/sessions")[
            0
        ]
        == 204
    )
    assert api.call(f"GET {CURRENT}", second["token"])[0] == 404
    assert api.call("GET /subjects/{subject}/sessions", path=path)[1] == {"items": [], "next": None}


def test_long_list_has_pages(api: Api) -> None:
    ids = sorted(api.create(subject="ada")["id"] for _ in range(60))
    path = "/subjects/ada/sessions"
    _, first, _ = api.call("GET /subjects/{subject}/sessions", path=path)
    _, second, _ = api.call(
        "GET /subjects/{subject}/sessions", path=path, query={"cursor": first["next"]}
    )
    assert [item["id"] for item in first["items"] + second["items"]] == ids
    assert second["next"] is None
    status, problem, _ = api.call(
        "GET /subjects/{subject}/sessions", path=path, query={"cursor": "x"}
    )
    assert (status, problem["field"]) == (400, "cursor")


@pytest.mark.parametrize(
    ("route", "scopes", "status"),
    [
        ("POST /sessions", "sessions:read", 403),
        (f"GET {CURRENT}", "sessions:write", 403),
        (f"PATCH {CURRENT}", "sessions:read", 403),
        (f"DELETE {CURRENT}", "sessions:read jobs:write", 403),
        (f"POST {CURRENT}/rotate", "sessions:read", 403),
        ("GET /subjects/{subject}/sessions", "sessions:write", 403),
        ("DELETE /subjects/{subject}/sessions", "sessions:read", 403),
        ("DELETE /subjects/{subject}/sessions/{id}", "sessions:read", 403),
    ],
)
def test_each_route_needs_its_scope(api: Api, route: str, scopes: str, status: int) -> None:
    path = route.split(" ")[1].replace("{subject}", "ada").replace("{id}", "0" * 32)
    answered, problem, _ = api.call(
        route, "x", path=path, body={}, caller={"tenant": "acme", "scopes": scopes}
    )
    assert (answered, problem["code"]) == (status, "forbidden")


@pytest.mark.parametrize(("route", "body"), [("POST /sessions", {}), *ROUTES])
def test_store_that_does_not_answer_is_503_and_not_404(
    api: Api, faults: Faults, route: str, body: Any
) -> None:
    token = api.create()["token"]
    faults.plan = lambda operation, number: "throttle"
    status, problem, headers = api.call(route, token, body=body)
    assert (status, problem["code"], headers["Retry-After"]) == (503, "store-unavailable", "1")


@pytest.mark.parametrize("kind", ["throttle", "unforeseen"])
def test_no_log_of_a_failure_holds_a_token(
    api: Api, faults: Faults, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token = api.create(subject="ada")["token"]
    if kind == "throttle":
        faults.plan = lambda operation, number: "throttle"
    else:
        api.store.clock = lambda: 1 // 0  # an unforeseen error: a traceback is logged
    statuses = [api.call(route, token, body=body)[0] for route, body in ROUTES]
    logged = "".join(capsys.readouterr())
    assert statuses == [503 if kind == "throttle" else 500] * 4
    assert logged.count("session") > 0
    assert token not in logged
    assert token.rpartition("_")[2] not in logged


def test_parsed_token_shows_no_secret() -> None:
    assert "A" * 43 not in repr(read_token("mfs_a" + "0" * 32 + "_" + "A" * 43))


# ---------------------------------------------------------------- damaged records


@pytest.mark.parametrize(
    "change",
    [
        {"idle": {"S": "x"}},
        {"data": {"S": "{"}},
        {"version": {"S": "q"}},
        {"idle_expires_at": {"S": "x"}},
        {"v": {"N": "2"}},
    ],
    ids=["idle", "data", "version", "idle deadline", "later release"],
)
def test_session_that_cannot_be_read_is_left_out_of_the_list_logged_and_can_be_ended(
    api: Api, dynamodb: Any, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = api.create(subject="ada"), api.create(subject="ada")
    token = read_token(bad["token"])
    key = session_key("acme", token.partition, token.session_id)
    item = dynamodb.get_item(TableName="SessionsTable", Key=key)["Item"]
    dynamodb.put_item(TableName="SessionsTable", Item={**item, **change})

    path = "/subjects/ada/sessions"
    status, page, _ = api.call("GET /subjects/{subject}/sessions", path=path)
    assert (status, [session["id"] for session in page["items"]]) == (200, [good["id"]])
    assert bad["id"] in caplog.text
    assert "cannot be read, so it is not listed" in caplog.text

    one = "DELETE /subjects/{subject}/sessions/{id}"
    assert api.call(one, path=f"{path}/{bad['id']}")[0] == 204
    assert "Item" not in dynamodb.get_item(TableName="SessionsTable", Key=key)
    assert api.call(one, path=f"{path}/{bad['id']}")[0] == 404
