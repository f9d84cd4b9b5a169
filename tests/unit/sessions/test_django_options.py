"""Every SESSION_* option of Django, and what Mayfly's engine does about it.

An option is honoured, or refused at start with the reason; none is ignored in silence.
"""

import json
import re
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from django.conf import global_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.core.serializers.json import DjangoJSONEncoder
from django.test import override_settings
from mayfly.sessions import SessionStore

from tests.conftest import ROOT
from tests.support.django_site import MIDDLEWARE, Browser
from tests.support.sessions import Sessions

TWO_WEEKS = 14 * 24 * 3600
DAYS_400 = 400 * 24 * 3600
DEFAULT = f"sessionid=T; HttpOnly; Max-Age={TWO_WEEKS}; Path=/; SameSite=Lax; Secure"


class Dates:
    """A serializer that keeps dates as texts."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value, cls=DjangoJSONEncoder).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


class NotJson:
    """A serializer whose bytes are not JSON."""

    def dumps(self, value: Any) -> bytes:
        return b"\x80"

    def loads(self, data: bytes) -> Any:
        return {}


#: Options of Django: a value, and the cookie of a session, or the reason for the refusal. `T` is
#: the token. SESSION_COOKIE_SECURE is on unless it is the option.
DJANGO: list[tuple[str, Any, str]] = [
    ("SESSION_CACHE_ALIAS", "default", DEFAULT),
    ("SESSION_CACHE_ALIAS", "sessions", "SESSION_CACHE_ALIAS is 'sessions', but it is for another"),
    ("SESSION_COOKIE_AGE", 60, DEFAULT.replace(str(TWO_WEEKS), "60")),
    ("SESSION_COOKIE_AGE", DAYS_400, DEFAULT.replace(str(TWO_WEEKS), str(DAYS_400))),
    ("SESSION_COOKIE_AGE", DAYS_400 + 1, "from 1 to 400 days"),
    ("SESSION_COOKIE_AGE", 0, "from 1 to 400 days"),
    ("SESSION_COOKIE_AGE", -1, "from 1 to 400 days"),
    ("SESSION_COOKIE_AGE", 1.5, "a whole number of seconds"),
    ("SESSION_COOKIE_AGE", "60", "a whole number of seconds"),
    ("SESSION_COOKIE_AGE", None, "a whole number of seconds"),
    ("SESSION_COOKIE_DOMAIN", None, DEFAULT),
    ("SESSION_COOKIE_DOMAIN", "example.org", f"sessionid=T; Domain=example.org{DEFAULT[11:]}"),
    ("SESSION_COOKIE_DOMAIN", "example.org:443", "must be a host name"),
    ("SESSION_COOKIE_HTTPONLY", True, DEFAULT),
    ("SESSION_COOKIE_HTTPONLY", False, "SESSION_COOKIE_HTTPONLY is off: every script"),
    ("SESSION_COOKIE_NAME", "shop", DEFAULT.replace("sessionid", "shop")),
    ("SESSION_COOKIE_NAME", "__Host-shop", DEFAULT.replace("sessionid", "__Host-shop")),
    ("SESSION_COOKIE_NAME", "a b", "the cookie's name 'a b' must have"),
    ("SESSION_COOKIE_NAME", "", "the cookie's name '' must have"),
    ("SESSION_COOKIE_PATH", "/shop", DEFAULT.replace("Path=/", "Path=/shop")),
    ("SESSION_COOKIE_PATH", "shop", "must begin with '/'"),
    ("SESSION_COOKIE_PATH", "/a;b", "must begin with '/', and be ASCII without ';'"),
    ("SESSION_COOKIE_SAMESITE", "Lax", DEFAULT),
    ("SESSION_COOKIE_SAMESITE", "Strict", DEFAULT.replace("Lax", "Strict")),
    ("SESSION_COOKIE_SAMESITE", "None", DEFAULT.replace("Lax", "None")),
    ("SESSION_COOKIE_SAMESITE", False, "must be 'Lax', 'Strict' or 'None'"),
    ("SESSION_COOKIE_SAMESITE", "Loose", "must be 'Lax', 'Strict' or 'None'"),
    ("SESSION_COOKIE_SECURE", True, DEFAULT),
    ("SESSION_COOKIE_SECURE", False, DEFAULT.removesuffix("; Secure")),
    ("SESSION_ENGINE", "mayfly.sessions.web.django", DEFAULT),
    ("SESSION_EXPIRE_AT_BROWSER_CLOSE", True, DEFAULT.replace(f" Max-Age={TWO_WEEKS};", "")),
    ("SESSION_EXPIRE_AT_BROWSER_CLOSE", False, DEFAULT),
    ("SESSION_FILE_PATH", None, DEFAULT),
    ("SESSION_FILE_PATH", "/tmp/sessions", "but it is for another engine of Django"),
    ("SESSION_SAVE_EVERY_REQUEST", True, DEFAULT),
    ("SESSION_SAVE_EVERY_REQUEST", False, DEFAULT),
    ("SESSION_SERIALIZER", "django.contrib.sessions.serializers.JSONSerializer", DEFAULT),
    ("SESSION_SERIALIZER", f"{__name__}.Dates", DEFAULT),
    ("SESSION_SERIALIZER", f"{__name__}.NotJson", "which does not write JSON objects"),
]

#: Options that browsers refuse together.
TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"NAME": "__Host-shop", "SECURE": False}, "set SESSION_COOKIE_SECURE = True"),
    ({"NAME": "__Secure-shop", "SECURE": False}, "set SESSION_COOKIE_SECURE = True"),
    ({"NAME": "__host-shop", "SECURE": False}, "set SESSION_COOKIE_SECURE = True"),
    ({"NAME": "__Host-shop", "DOMAIN": "example.org"}, "if it has a domain"),
    ({"NAME": "__Host-shop", "PATH": "/shop"}, "another path than '/'"),
    ({"SAMESITE": "None", "SECURE": False}, "set SESSION_COOKIE_SECURE = True"),
]


@pytest.fixture(autouse=True)
def store(dynamodb: Any) -> Iterator[Sessions]:
    store = Sessions(dynamodb)
    with override_settings(MAYFLY_SESSION_STORE=lambda: store):
        yield store


def cookie_of_a_visit() -> str:
    browser = Browser()
    browser.get("/hit")
    (cookie,) = browser.last.cookies.values()
    text = re.sub(r"expires=[^;]+; ", "", cookie.OutputString())
    return re.sub("=[^;]+", "=T", text, count=1)


def start() -> None:
    """Loads the middleware, as a server does at its start."""
    WSGIHandler()


def test_every_option_of_django_is_listed() -> None:
    options = {name for name in dir(global_settings) if name.startswith("SESSION_")}
    assert {name for name, _, _ in DJANGO} == options


def test_page_says_what_happens_to_every_option_of_django() -> None:
    page = (ROOT / "docs/sessions.md").read_text()
    assert [name for name, _, _ in DJANGO if f"`{name}" not in page] == []


@pytest.mark.parametrize(("option", "value", "expected"), DJANGO, ids=str)
def test_option_of_django_is_honoured_or_refused_at_start(
    option: str, value: Any, expected: str
) -> None:
    with override_settings(**{option: value}):
        if "=T" in expected:
            start()
            assert cookie_of_a_visit() == expected
            return
        with pytest.raises(ImproperlyConfigured, match=re.escape(expected)):
            start()


@pytest.mark.parametrize(("options", "reason"), TOGETHER, ids=str)
def test_options_that_make_browsers_drop_the_cookie_are_refused_at_start(
    options: dict[str, Any], reason: str
) -> None:
    named = {f"SESSION_COOKIE_{name}": value for name, value in options.items()}
    with override_settings(**named), pytest.raises(ImproperlyConfigured, match=reason):
        start()


def test_option_is_refused_by_the_first_request_with_djangos_own_middleware() -> None:
    own = ["django.contrib.sessions.middleware.SessionMiddleware", *MIDDLEWARE[1:]]
    with override_settings(MIDDLEWARE=own, SESSION_COOKIE_HTTPONLY=False):
        start()
        browser = Browser()
        browser.get("/hit")
        assert browser.last.status_code == 500


@pytest.mark.parametrize("value", [None, "shop.store"], ids=str)
def test_store_that_is_not_a_function_is_refused_at_start(value: Any) -> None:
    with (
        override_settings(MAYFLY_SESSION_STORE=value),
        pytest.raises(ImproperlyConfigured, match="MAYFLY_SESSION_STORE must be a function"),
    ):
        start()


def test_store_is_made_once_and_not_at_start(store: Sessions) -> None:
    made = []

    def make() -> SessionStore:
        made.append(store)
        return store

    with override_settings(MAYFLY_SESSION_STORE=make):
        start()
        assert made == []
        for _ in range(2):
            Browser().get("/hit")
    assert made == [store]


def test_serializer_of_the_application_is_used() -> None:
    with override_settings(SESSION_SERIALIZER=f"{__name__}.Dates"):
        browser = Browser()
        browser.get("/use", use=lambda session: session.update({"day": date(2027, 1, 15)}))
        assert browser.get("/look") == '{"day": "2027-01-15"}'


def test_session_until_the_browser_closes_ends_after_its_age_in_the_store(
    store: Sessions,
) -> None:
    with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=True):
        browser = Browser()
        browser.get("/hit")
        store.time.advance(TWO_WEEKS - 1)
        assert browser.get("/look") == '{"hits": 1}'
        store.time.advance(1)
        assert browser.get("/look") == "{}"
