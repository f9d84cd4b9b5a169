"""A plugin of pytest that replaces the sessions of Flask or Starlette by Mayfly's, on moto.

MAYFLY_SESSIONS names the framework.
"""

import os
from typing import Any

import flask
from mayfly.sessions import SessionStore
from mayfly.sessions.web.asgi import SessionMiddleware
from mayfly.sessions.web.flask import MayflySessionInterface
from starlette.middleware import sessions
from starlette.testclient import TestClient

from tools.framework_tests.store import make_store


def pytest_configure() -> None:
    """Replaces the sessions of the framework, in the process of its tests."""
    store = make_store()
    replace = {"flask": _replace_flasks, "starlette": _replace_starlettes}
    replace[os.environ["MAYFLY_SESSIONS"]](store)


def _replace_flasks(store: SessionStore) -> None:
    flask.Flask.session_interface = MayflySessionInterface(store)


def _replace_starlettes(store: SessionStore) -> None:
    def middleware(app: Any, secret_key: str, **options: Any) -> SessionMiddleware:
        return SessionMiddleware(app, store, **options)

    sessions.SessionMiddleware = middleware  # type: ignore[assignment,misc]
    # As docs/sessions.md advises: the client's usual origin is plain HTTP, and no loopback name.
    usual = list(TestClient.__init__.__defaults__ or ())
    usual[usual.index("http://testserver")] = "https://testserver"
    TestClient.__init__.__defaults__ = tuple(usual)
