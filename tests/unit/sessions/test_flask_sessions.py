"""The Flask adapter, with real Flask: what Flask documents of sessions, and what Mayfly adds."""

from datetime import timedelta
from typing import Any

import flask
import pytest
from flask.sessions import SecureCookieSessionInterface
from mayfly import sessions
from mayfly.sessions.web.flask import MayflySessionInterface, rotate

from tests.support.faults import Faults
from tests.support.sessions import UNSTORABLE, Sessions

COOKIE = "__Host-session"
#: Values of UNSTORABLE that Flask's own serializer keeps, or makes texts of.
FLASK_STORES = ["bytes", "datetime", "decimal"]


@pytest.fixture
def store(dynamodb: Any) -> Sessions:
    return Sessions(dynamodb)


@pytest.fixture
def app(store: Sessions) -> flask.Flask:
    app = flask.Flask(__name__)
    app.permanent_session_lifetime = timedelta(days=7)
    app.session_interface = MayflySessionInterface(
        store, tenant="acme", trusted_origins=["https://admin.example.org"]
    )

    @app.get("/plain")
    def plain() -> str:
        return "no session here"

    @app.route("/hit", methods=["GET", "POST"])
    def hit() -> str:
        flask.session["hits"] = flask.session.get("hits", 0) + 1
        return str(flask.session["hits"])

    @app.get("/look")
    def look() -> dict[str, Any]:
        return {
            "new": flask.session.new,
            **{name: repr(value) for name, value in flask.session.items()},
        }

    @app.get("/flash/<word>")
    def flash(word: str) -> str:
        flask.flash(word, "info")
        return ""

    @app.get("/flashed")
    def flashed() -> str:
        return repr(flask.get_flashed_messages(with_categories=True))

    add_more_views(app)
    return app


def add_more_views(app: flask.Flask) -> None:
    @app.get("/inner")
    def inner() -> str:
        flask.session.setdefault("list", [])
        flask.session["list"].append(1)
        flask.session.modified = True
        return repr(flask.session["list"])

    @app.post("/login/<name>")
    def login(name: str) -> str:
        flask.session["user"] = name
        flask.session.permanent = "remember" in flask.request.args
        rotate(name)
        return name

    @app.post("/logout")
    def logout() -> str:
        flask.session.clear()
        if "farewell" in flask.request.args:
            flask.flash("bye")
        return ""

    @app.get("/slow")
    def slow() -> str:
        flask.session["slow"] = 1
        if "flashes" in flask.request.args:
            flask.get_flashed_messages()
        app.extensions["meanwhile"]()
        if "logout" in flask.request.args:
            flask.session.clear()
        if "farewell" in flask.request.args:
            flask.flash("bye")
        return ""

    @app.get("/types")
    def types() -> str:
        flask.session["t"] = ((1, 2), b"x")
        return ""

    add_views_of_what_goes_wrong(app)


def add_views_of_what_goes_wrong(app: flask.Flask) -> None:
    @app.post("/forget")
    def forget() -> str:
        flask.session.permanent = False
        return ""

    @app.post("/keep")
    def keep() -> str:
        flask.session["text"] = flask.request.json["text"]
        return ""

    @app.errorhandler(403)
    def refused(_: Exception) -> tuple[str, int]:
        return f"an error page that shows flashes: {flask.get_flashed_messages()}", 403


def client(app: flask.Flask, base: str = "https://app.example.org") -> "_Client":
    return _Client(app.test_client(), base)


class _Client:
    """A browser of one site."""

    def __init__(self, inner: Any, base: str) -> None:
        self.inner, self.base = inner, base
        self.last: Any = None

    def get(self, path: str, **more: Any) -> str:
        self.last = self.inner.get(path, base_url=self.base, **more)
        return str(self.last.text)

    def post(self, path: str, **more: Any) -> str:
        self.last = self.inner.post(path, base_url=self.base, **more)
        return str(self.last.text)

    def token(self) -> str | None:
        name = "session" if self.base.startswith("http:") else COOKIE
        host = self.base.split("//")[1]
        cookie = self.inner.get_cookie(name, domain=host.split(":")[0])
        return cookie.value if cookie else None


def same(browser: _Client, app: flask.Flask) -> _Client:
    """Another window of the same browser."""
    window = client(app)
    window.inner.set_cookie(COOKIE, str(browser.token()), domain="app.example.org", secure=True)
    return window


def set_cookies(browser: _Client) -> list[str]:
    return list(browser.last.headers.getlist("Set-Cookie"))


def test_view_without_session_costs_no_call_and_sets_no_cookie(
    app: flask.Flask, faults: Faults
) -> None:
    browser = client(app)
    browser.get("/hit")
    faults.requests.clear()
    browser.get("/plain")
    assert faults.requests == []
    assert "Vary" not in browser.last.headers


def test_reading_view_makes_one_call_and_an_unread_empty_session_makes_none(
    app: flask.Flask, faults: Faults
) -> None:
    browser = client(app)
    browser.get("/look")
    assert faults.requests == []
    assert set_cookies(browser) == []
    browser.get("/hit")
    faults.requests.clear()
    assert browser.get("/look")
    assert faults.requests == ["GetItem"]
    assert browser.last.headers["Vary"] == "Cookie"
    assert set_cookies(browser) == []


def test_session_is_kept_between_requests_under_one_cookie(app: flask.Flask) -> None:
    browser = client(app)
    assert [browser.get("/hit") for _ in range(3)] == ["1", "2", "3"]
    assert set_cookies(browser) == []  # the browser has the cookie already
    assert client(app).get("/hit") == "1"
    assert browser.last.headers["Vary"] == "Cookie"


def test_cookie_is_bound_to_the_host_until_the_browser_closes(app: flask.Flask) -> None:
    browser = client(app)
    browser.get("/hit")
    (cookie,) = set_cookies(browser)
    assert cookie == f"{COOKIE}={browser.token()}; Path=/; HttpOnly; SameSite=Lax; Secure"


def test_on_plain_loopback_the_cookie_has_its_plain_name(app: flask.Flask) -> None:
    browser = client(app, "http://localhost:5000")
    assert [browser.get("/hit") for _ in range(2)] == ["1", "2"]


def test_unknown_cookie_is_never_adopted(app: flask.Flask) -> None:
    browser = client(app)
    fixed = "mfs_a" + "0" * 32 + "_" + "A" * 43
    browser.inner.set_cookie(COOKIE, fixed, domain="app.example.org", secure=True)
    assert browser.get("/hit") == "1"
    assert browser.token() not in (None, fixed)


def test_permanent_session_and_its_cookie_last_as_long_as_flask_is_configured(
    app: flask.Flask, store: Sessions
) -> None:
    browser = client(app)
    browser.post("/login/ada?remember")
    (cookie,) = set_cookies(browser)
    assert cookie.endswith("; Max-Age=34560000")  # the store, not the browser, decides when it ends
    for _ in range(3):  # each use starts the time again
        store.time.advance(7 * 24 * 3600 - 1)
        assert "'ada'" in browser.get("/look")
    store.time.advance(7 * 24 * 3600)
    assert "'ada'" not in browser.get("/look")


def test_permanent_session_that_is_not_refreshed_lasts_from_its_start(
    app: flask.Flask, store: Sessions
) -> None:
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    browser = client(app)
    browser.post("/login/ada?remember")
    assert set_cookies(browser)[0].endswith("; Max-Age=604800")
    store.time.advance(4 * 24 * 3600)
    assert "'ada'" in browser.get("/look")
    store.time.advance(3 * 24 * 3600)
    assert "'ada'" not in browser.get("/look")


def test_session_that_is_no_longer_permanent_stays_open(app: flask.Flask, store: Sessions) -> None:
    browser = client(app)
    browser.post("/login/ada?remember")
    store.time.advance(2 * 24 * 3600)
    browser.post("/forget")
    assert "Max-Age" not in set_cookies(browser)[0]
    assert "'ada'" in browser.get("/look")
    store.time.advance(1800)
    assert "'ada'" not in browser.get("/look")


def test_session_that_is_not_permanent_ends_when_it_is_idle(
    app: flask.Flask, store: Sessions
) -> None:
    browser = client(app)
    browser.get("/hit")
    store.time.advance(1799)
    assert browser.get("/hit") == "2"
    store.time.advance(1800)
    assert browser.get("/hit") == "1"


def test_flashes_are_shown_once(app: flask.Flask) -> None:
    browser = client(app)
    browser.get("/flash/one")
    browser.get("/flash/two")
    assert browser.get("/flashed") == "[('info', 'one'), ('info', 'two')]"
    assert browser.get("/flashed") == "[]"


def test_nested_changes_are_written_if_the_view_sets_modified(app: flask.Flask) -> None:
    browser = client(app)
    assert [browser.get("/inner") for _ in range(2)] == ["[1]", "[1, 1]"]


def test_values_keep_the_types_that_flask_keeps(app: flask.Flask) -> None:
    browser = client(app)
    browser.get("/types")
    assert browser.get("/look") == '{"new":false,"t":"((1, 2), b\'x\')"}\n'


def test_login_issues_a_new_token_and_revokes_the_old_one(
    app: flask.Flask, store: Sessions
) -> None:
    browser = client(app)
    browser.get("/hit")
    before = browser.token()
    browser.post("/login/ada")
    assert browser.token() != before
    assert "'1'" not in browser.get("/look")
    assert "hits" in browser.get("/look")
    thief = client(app)
    thief.inner.set_cookie(COOKIE, before, domain="app.example.org", secure=True)
    assert thief.get("/look") == '{"new":true}\n'
    assert [
        session.data["user"]
        for session in sessions.list_by_subject(store, tenant="acme", subject="ada").sessions
    ] == ["ada"]


def test_first_visit_can_log_in(app: flask.Flask, store: Sessions) -> None:
    client(app).post("/login/ada")
    assert len(sessions.list_by_subject(store, tenant="acme", subject="ada").sessions) == 1


def test_cleared_session_is_ended_in_the_store_and_its_cookie_deleted(
    app: flask.Flask, store: Sessions, dynamodb: Any
) -> None:
    browser = client(app)
    browser.get("/hit")
    browser.post("/logout")
    assert set_cookies(browser) == [f"{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0"]
    assert dynamodb.scan(TableName="SessionsTable")["Items"] == []
    assert browser.get("/hit") == "1"


def test_logout_with_a_farewell_message_is_a_logout(app: flask.Flask, store: Sessions) -> None:
    browser = client(app)
    browser.post("/login/ada")
    before = same(browser, app)
    browser.post("/logout?farewell")
    assert browser.get("/flashed") == "[('message', 'bye')]"
    assert before.get("/look") == '{"new":true}\n'
    assert sessions.list_by_subject(store, tenant="acme", subject="ada").sessions == []


def test_logout_that_overlaps_a_rotation_ends_the_session_under_its_new_token(
    app: flask.Flask, store: Sessions
) -> None:
    browser = client(app)
    browser.post("/login/ada")
    other = same(browser, app)
    app.extensions["meanwhile"] = lambda: other.post("/login/ada")
    browser.get("/slow?logout")
    assert other.get("/look") == '{"new":true}\n'


def test_request_that_empties_the_session_loses_no_change_of_another_request(
    app: flask.Flask,
) -> None:
    browser = client(app)
    browser.get("/flash/one")
    other = same(browser, app)
    app.extensions["meanwhile"] = lambda: other.get("/hit")
    browser.get("/slow?flashes")
    assert browser.get("/look") == '{"hits":"1","new":false,"slow":"1"}\n'


def test_request_that_overlaps_a_login_gets_no_other_session(
    app: flask.Flask, store: Sessions
) -> None:
    browser = client(app)
    browser.get("/hit")
    beside = same(browser, app)
    browser.post("/login/ada")
    beside.get("/hit")
    assert set_cookies(beside) == []  # this answer may reach the browser after the login's answer
    store.time.advance(60)
    beside.get("/hit")
    assert len(set_cookies(beside)) == 1


def test_overlapping_requests_lose_no_change_of_each_other(app: flask.Flask) -> None:
    browser = client(app)
    browser.get("/hit")
    other = same(browser, app)
    # Between this request's read and its write.
    app.extensions["meanwhile"] = lambda: other.get("/hit")
    browser.get("/slow")
    assert browser.get("/look") == '{"hits":"2","new":false,"slow":"1"}\n'


def test_slow_request_does_not_restore_a_session_that_ended_meanwhile(
    app: flask.Flask, dynamodb: Any
) -> None:
    browser = client(app)
    browser.get("/hit")
    other = same(browser, app)
    app.extensions["meanwhile"] = lambda: other.post("/logout")
    browser.get("/slow")
    assert browser.last.status_code == 200
    assert set_cookies(browser) == []
    assert dynamodb.scan(TableName="SessionsTable")["Items"] == []


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "http://[x"}],
)
def test_request_from_another_site_cannot_use_the_session(
    app: flask.Flask, faults: Faults, headers: dict[str, str]
) -> None:
    browser = client(app)
    browser.get("/hit")
    faults.requests.clear()
    browser.post("/hit", headers=headers)
    assert browser.last.status_code == 403
    assert browser.last.text == "an error page that shows flashes: []"
    assert faults.requests == []
    browser.post("/hit", headers={"Origin": "https://admin.example.org"})
    assert browser.last.status_code == 200


def test_store_that_does_not_answer_a_read_is_503_and_not_a_logout(
    app: flask.Flask, faults: Faults
) -> None:
    browser = client(app)
    browser.get("/hit")
    faults.refuse("GetItem", "ProvisionedThroughputExceededException")
    browser.get("/look")
    assert (
        browser.last.status_code,
        browser.last.headers["Retry-After"],
        set_cookies(browser),
    ) == (503, "1", [])
    faults.plan = lambda operation, number: None
    assert browser.get("/hit") == "2"


def test_no_change_is_acknowledged_before_it_is_written(app: flask.Flask, faults: Faults) -> None:
    browser = client(app)
    faults.refuse("TransactWriteItems", "ProvisionedThroughputExceededException")
    browser.get("/hit")
    assert (
        browser.last.status_code,
        browser.last.headers["Retry-After"],
        set_cookies(browser),
    ) == (503, "1", [])


@pytest.mark.parametrize("is_new", [True, False], ids=["new session", "session there"])
@pytest.mark.parametrize(
    ("value", "error"),
    [UNSTORABLE[name] for name in UNSTORABLE if name not in (*FLASK_STORES, "mixed keys")],
    ids=[name for name in UNSTORABLE if name not in (*FLASK_STORES, "mixed keys")],
)
def test_value_that_json_cannot_hold_is_an_error_of_the_application(
    app: flask.Flask, value: Any, error: type[Exception], is_new: bool
) -> None:
    @app.get("/value")
    def set_value() -> str:
        flask.session["x"] = value
        return ""

    browser = client(app)
    if not is_new:
        browser.get("/hit")
    browser.get("/value")
    assert (browser.last.status_code, set_cookies(browser)) == (500, [])
    app.testing = True
    with pytest.raises(error, match=r"session\['x'\]"):
        browser.get("/value")


@pytest.mark.parametrize("name", FLASK_STORES)
def test_value_that_flask_stores_is_read_back_as_from_flasks_own_session(
    app: flask.Flask, name: str
) -> None:
    @app.get("/value")
    def set_value() -> str:
        flask.session["x"] = UNSTORABLE[name][0]
        return ""

    browser = client(app)
    browser.get("/value")
    mine = browser.get("/look")
    app.session_interface, app.secret_key = SecureCookieSessionInterface(), "s"
    other = client(app)
    other.get("/value")
    assert mine == other.get("/look")
    assert '"x":' in mine


def test_data_above_the_limit_is_named_in_the_error(app: flask.Flask) -> None:
    browser = client(app)
    browser.get("/hit")
    browser.post("/keep", json={"text": "x" * 256 * 1024})
    assert (browser.last.status_code, set_cookies(browser)) == (413, [])
    assert "data" in browser.last.text
    assert browser.get("/hit") == "2"


def test_login_of_a_subject_that_cannot_be_listed_is_rejected(app: flask.Flask) -> None:
    browser = client(app)
    browser.post("/login/ada lovelace")
    assert (browser.last.status_code, set_cookies(browser)) == (400, [])
