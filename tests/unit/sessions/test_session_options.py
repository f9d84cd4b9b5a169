"""Every option of Flask's and Starlette's own sessions, and what Mayfly does about it.

An option is honoured, or refused at start with the reason; none is ignored in silence.
"""

import inspect
import re
from datetime import timedelta
from typing import Any

import flask
import flask.sessions
import pytest
import starlette
from mayfly import sessions
from mayfly.core.errors import InvalidRequest
from mayfly.sessions import SessionStore
from mayfly.sessions.web.asgi import SessionMiddleware
from mayfly.sessions.web.flask import MayflySessionInterface
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as StarletteMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.conftest import ROOT
from tests.support.sessions import Sessions
from tools.framework_tests.__main__ import DIFFERENCES

DEFAULT = "__Host-session=T; Path=/; HttpOnly; SameSite=Lax; Secure"
DAYS_400 = 400 * 24 * 3600

#: Options of Flask: a value, and the cookie of a session that is not permanent, or the reason for
#: the refusal at start. `T` is the token.
FLASK: list[tuple[str, Any, str]] = [
    ("APPLICATION_ROOT", "/", DEFAULT),
    ("APPLICATION_ROOT", "/shop", DEFAULT.replace("Host", "Secure").replace("=/", "=/shop")),
    ("APPLICATION_ROOT", "shop", "must begin with '/'"),
    ("PERMANENT_SESSION_LIFETIME", timedelta(days=400), DEFAULT),
    ("PERMANENT_SESSION_LIFETIME", 3600, DEFAULT),
    ("PERMANENT_SESSION_LIFETIME", timedelta(days=400, seconds=1), "from 1 second to 400 days"),
    ("PERMANENT_SESSION_LIFETIME", timedelta(days=4000), "from 1 second to 400 days"),
    ("PERMANENT_SESSION_LIFETIME", timedelta(seconds=0.5), "from 1 second to 400 days"),
    ("PERMANENT_SESSION_LIFETIME", timedelta(0), "from 1 second to 400 days"),
    ("PERMANENT_SESSION_LIFETIME", timedelta(days=-1), "from 1 second to 400 days"),
    ("SECRET_KEY", "s", DEFAULT),  # not used: nothing is signed
    ("SECRET_KEY_FALLBACKS", ["s"], DEFAULT),
    ("SESSION_COOKIE_DOMAIN", None, DEFAULT),
    ("SESSION_COOKIE_DOMAIN", False, DEFAULT),  # as before Flask 2.3
    *(
        (
            "SESSION_COOKIE_DOMAIN",
            domain,
            "__Secure-session=T; Domain=example.org; Path=/; HttpOnly; SameSite=Lax; Secure",
        )
        for domain in ("example.org", ".example.org")
    ),
    ("SESSION_COOKIE_DOMAIN", "example.org:443", "must be a host name"),
    ("SESSION_COOKIE_DOMAIN", "a;b", "must be a host name"),
    ("SESSION_COOKIE_DOMAIN", "b\N{LATIN SMALL LETTER U WITH DIAERESIS}.example", "in ASCII"),
    ("SESSION_COOKIE_HTTPONLY", True, DEFAULT),
    ("SESSION_COOKIE_HTTPONLY", False, "SESSION_COOKIE_HTTPONLY is off: every script"),
    ("SESSION_COOKIE_NAME", "shop", DEFAULT.replace("session", "shop")),
    ("SESSION_COOKIE_NAME", "a b", "the cookie's name 'a b' must have"),
    ("SESSION_COOKIE_NAME", "", "the cookie's name '' must have"),
    ("SESSION_COOKIE_PARTITIONED", True, DEFAULT + "; Partitioned"),
    ("SESSION_COOKIE_PATH", "/", DEFAULT),
    ("SESSION_COOKIE_PATH", "/shop", DEFAULT.replace("Host", "Secure").replace("=/", "=/shop")),
    ("SESSION_COOKIE_PATH", "/a;b", "must begin with '/', and be ASCII without ';'"),
    ("SESSION_COOKIE_SAMESITE", None, DEFAULT),
    ("SESSION_COOKIE_SAMESITE", "Lax", DEFAULT),
    ("SESSION_COOKIE_SAMESITE", "Strict", DEFAULT.replace("Lax", "Strict")),
    ("SESSION_COOKIE_SAMESITE", "strict", DEFAULT.replace("Lax", "Strict")),
    ("SESSION_COOKIE_SAMESITE", "None", DEFAULT.replace("Lax", "None")),
    ("SESSION_COOKIE_SAMESITE", "Loose", "must be 'Lax', 'Strict' or 'None'"),
    ("SESSION_COOKIE_SECURE", True, DEFAULT),
    ("SESSION_COOKIE_SECURE", False, DEFAULT),
    ("SESSION_REFRESH_EACH_REQUEST", False, DEFAULT),
    ("SESSION_REFRESH_EACH_REQUEST", True, DEFAULT),
]

#: Options of Starlette: a value, and the cookie, or the reason for the refusal.
STARLETTE: list[tuple[str, Any, str]] = [
    ("session_cookie", "shop", f"{DEFAULT.replace('session', 'shop')}; Max-Age=43200"),
    ("session_cookie", "a;b", "the cookie's name"),
    ("max_age", None, DEFAULT),
    ("max_age", 60, f"{DEFAULT}; Max-Age={DAYS_400}"),
    ("max_age", 0, "idle_seconds: must be a whole number from 1"),
    ("max_age", DAYS_400 + 1, "idle_seconds: must be a whole number from 1"),
    ("path", "/", f"{DEFAULT}; Max-Age=43200"),
    (
        "path",
        "/shop",
        "__Secure-session=T; Path=/shop; HttpOnly; SameSite=Lax; Secure; Max-Age=43200",
    ),
    ("path", "shop", "must begin with '/'"),
    ("same_site", "lax", f"{DEFAULT}; Max-Age=43200"),
    ("same_site", "strict", f"{DEFAULT.replace('Lax', 'Strict')}; Max-Age=43200"),
    ("same_site", "none", f"{DEFAULT.replace('Lax', 'None')}; Max-Age=43200"),
    ("same_site", "loose", "must be 'Lax', 'Strict' or 'None'"),
    ("https_only", True, f"{DEFAULT}; Max-Age=43200"),
    ("https_only", False, f"{DEFAULT}; Max-Age=43200"),
    (
        "domain",
        "example.org",
        "__Secure-session=T; Domain=example.org; Path=/; HttpOnly; SameSite=Lax; Secure; "
        "Max-Age=43200",
    ),
    ("domain", None, f"{DEFAULT}; Max-Age=43200"),
    ("domain", "https://example.org", "must be a host name"),
    ("partitioned", True, f"{DEFAULT}; Partitioned; Max-Age=43200"),
    ("secret_key", "s", "unexpected keyword argument 'secret_key'"),  # nothing is signed
]


@pytest.fixture
def store(dynamodb: Any) -> Sessions:
    return Sessions(dynamodb)


def flask_app(store: SessionStore, **options: Any) -> flask.Flask:
    app = flask.Flask(__name__)
    app.config.update(options)
    MayflySessionInterface(store, tenant="acme").init_app(app)

    @app.get("/<path:path>")
    def hit(path: str) -> str:
        flask.session["hits"] = flask.session.get("hits", 0) + 1
        flask.session.permanent = path.endswith("permanent")
        return str(flask.session["hits"])

    return app


async def hit(request: Request) -> Response:
    request.session["hits"] = request.session.get("hits", 0) + 1
    return PlainTextResponse(str(request.session["hits"]))


def starlette_browser(store: SessionStore, base: str, **options: Any) -> TestClient:
    app = Starlette(
        routes=[Route("/{path:path}", hit)],
        middleware=[Middleware(SessionMiddleware, store=store, **options)],
    )
    return TestClient(app, base_url=base)


def without_token(cookie: str) -> str:
    return re.sub("=[^;]+", "=T", cookie, count=1)


# ---------------------------------------------------------------- the lists are complete


def test_every_option_of_flask_is_listed() -> None:
    source = inspect.getsource(flask.sessions)
    read = set(re.findall(r'config\["([A-Z_]+)"\]', source))
    of_app = {name for name in flask.Flask.default_config if "SESSION" in name}
    signing = {name for name in flask.Flask.default_config if name.startswith("SECRET_KEY")}
    assert {name for name, _, _ in FLASK} == read | of_app | signing


def test_every_option_of_starlette_is_listed() -> None:
    options = set(inspect.signature(StarletteMiddleware).parameters) - {"app"}
    later = {"partitioned"} if starlette.__version__.startswith("0.") else set()
    assert {name for name, _, _ in STARLETTE} == options | later


def test_page_says_what_happens_to_every_option() -> None:
    page = (ROOT / "docs/sessions.md").read_text()
    options = {name for name, _, _ in [*FLASK, *STARLETTE]}
    assert [name for name in sorted(options) if f"`{name}" not in page] == []


def test_page_names_each_test_of_the_frameworks_that_fails() -> None:
    page = (ROOT / "docs/sessions.md").read_text()
    assert [name for name in DIFFERENCES if f"`{name}`" not in page] == []


# ---------------------------------------------------------------- each option


@pytest.mark.parametrize(("option", "value", "expected"), FLASK, ids=str)
def test_option_of_flask_is_honoured_or_refused_at_start(
    store: Sessions, option: str, value: Any, expected: str
) -> None:
    if "session=" not in expected and "shop=" not in expected:
        with pytest.raises(ValueError, match=re.escape(expected)):
            flask_app(store, **{option: value})
        return
    browser = flask_app(store, **{option: value}).test_client()
    first, second = (browser.get("/shop/x", base_url="https://www.example.org") for _ in range(2))
    assert without_token(first.headers["Set-Cookie"]) == expected
    assert second.text == "2"  # so the cookie came back


@pytest.mark.parametrize(("option", "value", "expected"), STARLETTE, ids=str)
def test_option_of_starlette_is_honoured_or_refused_at_start(
    store: Sessions, option: str, value: Any, expected: str
) -> None:
    browser = starlette_browser(store, "https://www.example.org", **{option: value})
    if "=T" not in expected:
        with pytest.raises((ValueError, TypeError), match=re.escape(expected)):
            browser.get("/shop/x")
        return
    first, second = (browser.get("/shop/x") for _ in range(2))
    assert without_token(first.headers["set-cookie"]) == expected
    assert second.text == "2"


# ---------------------------------------------------------------- what they do


def test_option_that_is_set_too_late_for_the_start_is_refused_by_the_first_request(
    store: Sessions,
) -> None:
    app = flask_app(store)
    app.config["SESSION_COOKIE_HTTPONLY"] = False
    assert app.test_client().get("/x").status_code == 500
    app.testing = True
    with pytest.raises(ValueError, match="SESSION_COOKIE_HTTPONLY"):
        app.test_client().get("/x")
    app.config["SESSION_COOKIE_HTTPONLY"] = True
    assert app.test_client().get("/x").text == "1"


def test_cookie_of_a_domain_is_shared_by_its_hosts(store: Sessions) -> None:
    browser = starlette_browser(store, "https://www.example.org", domain="example.org")
    assert [
        browser.get("/x").text,
        browser.get("https://shop.example.org/x").text,
        browser.get("https://example.org/x").text,
    ] == ["1", "2", "3"]


def test_cookie_of_a_host_is_not_shared(store: Sessions) -> None:
    browser = starlette_browser(store, "https://www.example.org")
    assert [browser.get("/x").text, browser.get("https://shop.example.org/x").text] == ["1", "1"]


def test_cookie_for_another_domain_than_the_requests_is_logged_once(
    store: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    browser = starlette_browser(store, "https://www.example.net", domain="example.org")
    assert [browser.get("/x").text for _ in range(3)] == ["1", "1", "1"]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "for the domain 'example.org', but the request came to 'www.example.net'" in warning


@pytest.mark.parametrize(
    "options",
    [
        {"domain": "example.org"},
        {"same_site": "none", "partitioned": True},
        {"path": "/shop"},
    ],
    ids=str,
)
def test_options_do_not_lose_the_cookie_on_plain_loopback(
    store: Sessions, options: dict[str, Any]
) -> None:
    browser = starlette_browser(store, "http://localhost:8000", **options)
    first = browser.get("/shop/x").headers["set-cookie"]
    assert without_token(first) == (
        f"session=T; Path={options.get('path', '/')}; HttpOnly; SameSite=Lax; Max-Age=43200"
    )
    assert browser.get("/shop/x").text == "2"


def test_cookie_that_is_always_secure_is_so_on_plain_loopback(store: Sessions) -> None:
    browser = starlette_browser(store, "http://localhost:8000", https_only=True)
    assert "__Host-session=" in browser.get("/x").headers["set-cookie"]
    app = flask_app(store, SESSION_COOKIE_SECURE=True)
    assert "; Secure" in app.test_client().get("/x").headers["Set-Cookie"]


def test_cleared_cookie_has_the_attributes_of_the_one_that_was_set(store: Sessions) -> None:
    app = flask_app(store, SESSION_COOKIE_DOMAIN="example.org", SESSION_COOKIE_PATH="/shop")

    @app.post("/shop/logout")
    def logout() -> str:
        flask.session.clear()
        return ""

    browser = app.test_client()
    browser.get("/shop/x", base_url="https://www.example.org")
    answer = browser.post("/shop/logout", base_url="https://www.example.org")
    assert answer.headers["Set-Cookie"] == (
        "__Secure-session=; Domain=example.org; Path=/shop; HttpOnly; SameSite=Lax; Secure; "
        "Max-Age=0"
    )
    assert browser.get_cookie("__Secure-session", domain="example.org", path="/shop") is None


@pytest.mark.parametrize("refresh", [True, False])
def test_permanent_session_ends_as_flask_is_configured(store: Sessions, refresh: bool) -> None:
    """A use starts the time again in the store; the browser keeps the cookie for longer."""
    app = flask_app(store, PERMANENT_SESSION_LIFETIME=3600, SESSION_REFRESH_EACH_REQUEST=refresh)
    browser = app.test_client()
    browser.get("/permanent")
    seen = []
    for _ in range(3):
        store.time.advance(1799)
        seen.append(browser.get("/permanent").text)
    assert seen == (["2", "3", "4"] if refresh else ["2", "3", "1"])


def test_max_age_is_the_time_since_the_last_use(store: Sessions) -> None:
    browser = starlette_browser(store, "https://www.example.org", max_age=60)
    seen = []
    for pause in (0, 59, 59, 60):
        store.time.advance(pause)
        seen.append(browser.get("/x").text)
    assert seen == ["1", "2", "3", "1"]


def test_max_age_and_idle_seconds_are_one_option(store: Sessions) -> None:
    browser = starlette_browser(store, "https://www.example.org", max_age=60, idle_seconds=60)
    with pytest.raises(ValueError, match="max_age and idle_seconds"):
        browser.get("/x")


# ---------------------------------------------------------------- lifetimes and origins


LIFETIMES = [
    {"idle_seconds": 0},
    {"idle_seconds": -5},
    {"idle_seconds": 1.5},
    {"idle_seconds": True},
    {"idle_seconds": "60"},
    {"idle_seconds": DAYS_400 + 1},
    {"absolute_seconds": 0},
    {"absolute_seconds": -5},
    {"absolute_seconds": 10**13},
]
every_lifetime = pytest.mark.parametrize("lifetime", LIFETIMES, ids=str)


@every_lifetime
def test_lifetime_that_cannot_be_is_refused_by_the_adapters(
    store: Sessions, lifetime: dict[str, Any]
) -> None:
    (field,) = lifetime
    reason = f"{field}: must be a whole number from 1 to {DAYS_400}"
    with pytest.raises(ValueError, match=reason):
        MayflySessionInterface(store, **lifetime)
    with pytest.raises(ValueError, match=reason):
        SessionMiddleware(Starlette(), store, **lifetime)


@every_lifetime
def test_lifetime_that_cannot_be_is_refused_by_the_verbs(
    store: Sessions, lifetime: dict[str, Any]
) -> None:
    (field,) = lifetime
    both = (lifetime.get("idle_seconds", 60), lifetime.get("absolute_seconds", 60))
    with pytest.raises(InvalidRequest, match=f"{field}: must be a whole number"):
        sessions.create(store, tenant="acme", **lifetime)
    token, _ = sessions.create(store, tenant="acme")
    with pytest.raises(InvalidRequest, match=f"{field}: must be a whole number"):
        sessions.change(store, token, dict, tenant="acme", lifetime=both)
    with pytest.raises(InvalidRequest, match=f"{field}: must be a whole number"):
        sessions.rotate(store, token, tenant="acme", lifetime=both)
    assert sessions.read(store, token, tenant="acme").version == 1  # nothing was written


@pytest.mark.parametrize("seconds", [1, DAYS_400])
def test_shortest_and_longest_lifetime_are_accepted(store: Sessions, seconds: int) -> None:
    token, _ = sessions.create(store, tenant="acme", idle_seconds=seconds, absolute_seconds=seconds)
    store.time.now_ms += seconds * 1000 - 1
    assert sessions.read(store, token, tenant="acme").version == 1
    MayflySessionInterface(store, idle_seconds=seconds, absolute_seconds=seconds)


@pytest.mark.parametrize(
    "origins",
    [
        "https://admin.example.org",  # not a list: each letter would be one
        ["https://admin.example.org/"],
        ["https://admin.example.org/path"],
        ["https://Admin.example.org"],
        ["https://admin.example.org:443"],
        ["http://admin.example.org:80"],
        ["admin.example.org"],
        ["*"],
        ["https://*.example.org"],
        ["null"],
        [""],
    ],
    ids=str,
)
def test_origin_that_no_browser_sends_is_refused(store: Sessions, origins: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="origin"):
        MayflySessionInterface(store, trusted_origins=origins)
    with pytest.raises((ValueError, TypeError), match="origin"):
        SessionMiddleware(Starlette(), store, trusted_origins=origins)


@pytest.mark.parametrize(
    "origin",
    [
        "https://admin.example.org",
        "http://localhost:3000",
        "https://admin.example.org:8443",
        "http://admin.example.org:443",
        "http://[::1]:3000",
        "chrome-extension://abcdefgh",
    ],
)
def test_origin_that_browsers_send_is_accepted(store: Sessions, origin: str) -> None:
    MayflySessionInterface(store, trusted_origins=[origin])
