"""The ASGI middleware, with real Starlette."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from mayfly import sessions
from mayfly.sessions.web.asgi import MayflySession, SessionMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.support.faults import Faults
from tests.support.sessions import UNSTORABLE, Sessions

COOKIE = "__Host-session"
HOME = "https://app.example.org"


async def plain(request: Request) -> Response:
    return PlainTextResponse("no session here")


async def hit(request: Request) -> Response:
    request.session["hits"] = request.session.get("hits", 0) + 1
    return PlainTextResponse(str(request.session["hits"]))


async def look(request: Request) -> Response:
    return JSONResponse(request.session)


async def inner(request: Request) -> Response:
    request.session.setdefault("list", [])
    request.session["list"].append(1)
    return JSONResponse(request.session["list"])


async def login(request: Request) -> Response:
    request.session["user"] = request.path_params["name"]
    # A method of Mayfly's session, which Starlette does not declare.
    request.session.rotate(request.path_params["name"])  # type: ignore[attr-defined]
    return PlainTextResponse("")


async def logout(request: Request) -> Response:
    request.session.clear()
    if "farewell" in request.query_params:
        request.session["note"] = "bye"
    return PlainTextResponse("")


async def keep(request: Request) -> Response:
    request.session["x"] = (await request.json())["x"]
    return PlainTextResponse("")


async def talk(socket: WebSocket) -> None:
    socket.session["talks"] = socket.session.get("talks", 0) + 1
    await socket.accept()
    await socket.send_json(socket.session)
    await socket.close()


class Site:
    """An application, and its browsers."""

    def __init__(self, store: Sessions, **options: Any) -> None:
        self.meanwhile: Callable[[], Any] = lambda: None
        self.key: Any = "x"
        self.value: Any = 1

        async def value(request: Request) -> Response:
            request.session[self.key] = self.value
            return PlainTextResponse("")

        def slow(request: Request) -> Response:
            request.session["slow"] = 1
            self.meanwhile()
            return PlainTextResponse("")

        routes = [
            Route("/value", value),
            Route("/plain", plain), Route("/hit", hit, methods=["GET", "POST"]), Route("/look",
            look), Route("/inner", inner),
            Route("/keep", keep, methods=["POST"]), Route("/plain", plain, methods=["POST"]),
            Route("/login/{name}", login, methods=["POST"]), Route("/logout", logout,
            methods=["POST"]), Route("/slow", slow),
            WebSocketRoute("/talk", talk),
        ]  # fmt: skip
        self.app = Starlette(
            routes=routes,
            middleware=[Middleware(SessionMiddleware, store=store, tenant="acme", **options)],
        )

    def browser(self, base: str = HOME, token: str | None = None) -> TestClient:
        client = TestClient(self.app, base_url=base)
        if token:
            client.cookies.set(COOKIE, token)
        return client


@pytest.fixture
def store(dynamodb: Any) -> Sessions:
    return Sessions(dynamodb)


@pytest.fixture
def site(store: Sessions) -> Site:
    return Site(store)


def test_session_is_kept_between_requests_under_one_cookie(site: Site, faults: Faults) -> None:
    browser = site.browser()
    first = browser.get("/hit")
    token = browser.cookies[COOKIE]
    assert (
        first.headers["set-cookie"]
        == f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=43200"
    )
    assert first.headers["vary"] == "Cookie"
    second = browser.get("/hit")
    assert (first.text, second.text) == ("1", "2")
    assert "set-cookie" not in second.headers
    faults.requests.clear()
    assert browser.get("/look").json() == {"hits": 2}
    assert faults.requests == ["GetItem"]


def test_request_without_cookie_that_stores_nothing_makes_no_call(
    site: Site, faults: Faults
) -> None:
    answer = site.browser().get("/plain")
    assert faults.requests == []
    assert "set-cookie" not in answer.headers
    assert "vary" not in answer.headers


def test_on_plain_loopback_the_cookie_has_its_plain_name(site: Site) -> None:
    assert (
        site.browser("http://127.0.0.1:8000")
        .get("/hit")
        .headers["set-cookie"]
        .startswith("session=mfs_a")
    )


def test_unknown_cookie_is_never_adopted(site: Site) -> None:
    fixed = "mfs_a" + "0" * 32 + "_" + "A" * 43
    answer = site.browser(token=fixed).get("/hit")
    assert answer.text == "1"
    assert fixed not in answer.headers["set-cookie"]


def test_inner_changes_are_written(site: Site) -> None:
    browser = site.browser()
    assert [browser.get("/inner").json() for _ in range(2)] == [[1], [1, 1]]


def test_login_issues_a_new_token_and_revokes_the_old_one(site: Site, store: Sessions) -> None:
    browser = site.browser()
    browser.get("/hit")
    before = browser.cookies[COOKIE]
    fresh = browser.post("/login/ada").headers["set-cookie"].split("=", 1)[1].split(";")[0]
    assert site.browser(token=before).get("/look").json() == {}
    assert site.browser(token=fresh).get("/look").json() == {"hits": 1, "user": "ada"}
    assert len(sessions.list_by_subject(store, tenant="acme", subject="ada").sessions) == 1


def test_cleared_session_is_ended_in_the_store_and_its_cookie_deleted(
    site: Site, dynamodb: Any
) -> None:
    browser = site.browser()
    browser.get("/hit")
    assert browser.post("/logout").headers["set-cookie"].endswith("Max-Age=0")
    assert dynamodb.scan(TableName="SessionsTable")["Items"] == []


def test_logout_that_stores_a_note_is_a_logout(site: Site, store: Sessions) -> None:
    browser = site.browser()
    browser.post("/login/ada")
    before = browser.cookies[COOKIE]
    after = browser.post("/logout?farewell").headers["set-cookie"].split("=", 1)[1].split(";")[0]
    assert site.browser(token=before).get("/look").json() == {}
    assert site.browser(token=after).get("/look").json() == {"note": "bye"}
    assert sessions.list_by_subject(store, tenant="acme", subject="ada").sessions == []


def test_value_of_another_type_is_a_change(site: Site) -> None:
    browser = site.browser()
    browser.post("/keep", json={"x": True})
    browser.post("/keep", json={"x": 1})
    assert browser.get("/look").text == '{"x":1}'


def test_data_above_the_limit_is_named_in_the_error(site: Site) -> None:
    answer = site.browser().post("/keep", json={"x": "x" * 256 * 1024})
    assert (answer.status_code, "set-cookie" in answer.headers) == (413, False)
    assert "data" in answer.text


@pytest.mark.parametrize("is_new", [True, False], ids=["new session", "session there"])
@pytest.mark.parametrize(("value", "error"), UNSTORABLE.values(), ids=UNSTORABLE.keys())
def test_value_that_json_cannot_hold_is_an_error_of_the_application(
    store: Sessions, value: Any, error: type[Exception], is_new: bool
) -> None:
    site = Site(store)
    browser = site.browser()
    if not is_new:
        browser.get("/hit")
    site.value = value
    with pytest.raises(error, match=r"session\['x'\]"):
        browser.get("/value")
    calm = TestClient(site.app, base_url=HOME, raise_server_exceptions=False)
    assert calm.get("/value").status_code == 500


@pytest.mark.parametrize("key", [1, None, ("a", 1)], ids=repr)
def test_key_that_is_not_a_text_is_an_error_of_the_application(store: Sessions, key: Any) -> None:
    site = Site(store)
    site.key = key
    with pytest.raises(TypeError, match="the key is not a text"):
        site.browser().get("/value")


def test_overlapping_requests_lose_no_change_of_each_other(site: Site) -> None:
    browser = site.browser()
    browser.get("/hit")
    other = site.browser(token=browser.cookies[COOKIE])
    site.meanwhile = lambda: other.get("/hit")
    browser.get("/slow")
    assert browser.get("/look").json() == {"hits": 2, "slow": 1}


def test_slow_request_does_not_restore_a_session_that_ended_meanwhile(
    site: Site, dynamodb: Any
) -> None:
    browser = site.browser()
    browser.get("/hit")
    other = site.browser(token=browser.cookies[COOKIE])
    site.meanwhile = lambda: other.post("/logout")
    assert "set-cookie" not in browser.get("/slow").headers
    assert dynamodb.scan(TableName="SessionsTable")["Items"] == []


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "http://[x"}],
)
def test_request_from_another_site_changes_nothing(
    site: Site, faults: Faults, headers: dict[str, str]
) -> None:
    browser = site.browser()
    browser.get("/hit")
    faults.requests.clear()
    assert browser.post("/hit", headers=headers).status_code == 403
    assert faults.requests == []
    assert browser.post("/plain", headers=headers).status_code == 200  # this page uses no session


def test_store_that_does_not_answer_a_read_is_503_and_not_a_logout(
    site: Site, faults: Faults
) -> None:
    browser = site.browser()
    browser.get("/hit")
    faults.refuse("GetItem", "ProvisionedThroughputExceededException")
    answer = browser.get("/look")
    assert (answer.status_code, answer.headers["retry-after"], "set-cookie" in answer.headers) == (
        503,
        "1",
        False,
    )


def test_no_change_is_acknowledged_before_it_is_written(site: Site, faults: Faults) -> None:
    faults.refuse("TransactWriteItems", "ProvisionedThroughputExceededException")
    answer = site.browser().get("/hit")
    assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)


def test_websocket_reads_the_session_and_writes_it_when_accepted(
    site: Site, store: Sessions
) -> None:
    browser = site.browser()
    browser.get("/hit")
    with browser.websocket_connect("wss://app.example.org/talk") as socket:
        assert socket.receive_json() == {"hits": 1, "talks": 1}
    assert browser.get("/look").json() == {"hits": 1, "talks": 1}


def test_websocket_from_another_site_is_refused(site: Site) -> None:
    browser = site.browser()
    origin = {"Origin": "https://evil.example"}
    with (
        pytest.raises(WebSocketDisconnect),
        browser.websocket_connect("wss://app.example.org/talk", headers=origin),
    ):
        pass


# ---------------------------------------------------------------- other versions of Starlette


class OldSite:
    """An application that takes the session from the scope, as Starlette did before 1.0.

    Nothing but the session itself can notice that it is used.
    """

    def __init__(self, store: Sessions, use: Callable[[Any], Any]) -> None:
        self.inner = SessionMiddleware(self.serve, store, tenant="acme")
        self.use = use

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        used = self.use(scope["session"])
        await PlainTextResponse(repr(used))(scope, receive, send)

    def browser(self) -> TestClient:
        return TestClient(self.inner, base_url=HOME)


#: Every way in which an application uses a dictionary.
USES: dict[str, Callable[[Any], Any]] = {
    "get": lambda session: session.get("user"),
    "get, absent": lambda session: session.get("nothing"),
    "[]": lambda session: session["user"],
    "in": lambda session: "user" in session,
    "len": len,
    "bool": bool,
    "for": list,
    "dict": dict,
    "**": lambda session: {**session},
    "==": lambda session: session == {"user": "ada"},
    "!=": lambda session: session != {},
    "|": lambda session: session | {"a": 1},
    "| of another": lambda session: {"a": 1} | session,
    "keys": lambda session: list(session.keys()),
    "values": lambda session: list(session.values()),
    "items": lambda session: list(session.items()),
    "reversed": lambda session: list(reversed(session)),
    "copy": lambda session: session.copy(),
    "[]=": lambda session: session.__setitem__("a", 1),
    "del": lambda session: session.__delitem__("user"),
    "pop": lambda session: session.pop("user"),
    "popitem": lambda session: session.popitem(),
    "setdefault": lambda session: session.setdefault("user", 1),
    "update": lambda session: session.update(a=1),
    "|=": lambda session: session.__ior__({"a": 1}),
    "clear": lambda session: session.clear(),
    "rotate": lambda session: session.rotate("ada"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_every_use_of_the_session_varies_the_answer_and_is_refused_to_other_origins(
    store: Sessions, faults: Faults, use: Callable[[Any], Any]
) -> None:
    token, _ = sessions.create(store, tenant="acme", data={"user": "ada"})
    site = OldSite(store, use)
    browser = site.browser()
    browser.cookies.set(COOKIE, token)
    faults.requests.clear()
    refused = browser.post("/", headers={"Sec-Fetch-Site": "cross-site"})
    assert (refused.status_code, faults.requests) == (403, [])
    answer = browser.post("/")
    assert (answer.status_code, answer.headers["vary"]) == (200, "Cookie")


def test_session_as_json_varies_the_answer_and_shows_nothing_to_other_origins(
    store: Sessions,
) -> None:
    """The encoder asks an empty dictionary nothing, so a refusal cannot be raised there."""
    token, _ = sessions.create(store, tenant="acme", data={"user": "ada"})
    browser = OldSite(store, json.dumps).browser()
    browser.cookies.set(COOKIE, token)
    assert browser.post("/", headers={"Sec-Fetch-Site": "cross-site"}).text == "'{}'"
    answer = browser.post("/")
    assert (answer.text, answer.headers["vary"]) == ('\'{"user": "ada"}\'', "Cookie")


def test_uses_are_all_methods_of_a_dictionary_but_those_that_show_it() -> None:
    own = {name for name in vars(MayflySession) if callable(getattr(dict, name, None))}
    of_object = set(dir(object)) - {"__eq__", "__ne__"}
    shown = {"__class_getitem__", "fromkeys", "__lt__", "__le__", "__gt__", "__ge__"}
    assert set(dir(dict)) - of_object - shown - own == set()


def test_representation_of_a_refused_session_is_not_a_use(store: Sessions) -> None:
    site = OldSite(store, lambda session: session.__class__.__name__ + repr(session))
    answer = site.browser().post("/", headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, "vary" in answer.headers) == (200, False)


# ---------------------------------------------------------------- plain HTTP


@pytest.mark.parametrize(
    ("base", "is_kept"),
    [
        ("http://testserver", False),
        ("http://test", False),
        ("http://192.168.1.5:8000", False),
        ("http://0.0.0.0:8000", True),
        ("http://app.localhost:8000", True),
        ("http://127.1.2.3:8000", True),
        ("http://localhost", True),
        ("https://testserver", True),
    ],
)
def test_login_is_kept_or_its_loss_is_logged_once(
    site: Site, caplog: pytest.LogCaptureFixture, base: str, is_kept: bool
) -> None:
    browser = site.browser(base)
    browser.post("/login/ada")
    assert browser.get("/look").json() == ({"user": "ada"} if is_kept else {})
    browser.post("/login/ada")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (0 if is_kept else 1)
    assert all("base_url='https://testserver'" in warning for warning in warnings)


def test_cookie_behind_a_proxy_that_ends_tls_is_not_warned_about(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.browser("http://app.example.org").post(
        "/login/ada", headers={"X-Forwarded-Proto": "https"}
    )
    assert caplog.records == []
