"""Settings of Django's tests in which sessions are on Mayfly, on moto.

Django's tests of the cache engine run on Mayfly's instead: they are those of every engine, with
four of the cache.
"""

from django.contrib.sessions import middleware
from django.contrib.sessions.backends import cache
from mayfly.sessions.web.django import SessionMiddleware, SessionStore
from test_sqlite import *  # noqa: F403  # the settings of Django's tests, on their path

from tools.framework_tests.store import make_store

_STORE = make_store()
SESSION_ENGINE = "mayfly.sessions.web.django"


def MAYFLY_SESSION_STORE() -> object:  # noqa: N802  # the name of the setting
    """Returns the one store of this process."""
    return _STORE


cache.SessionStore = SessionStore
middleware.SessionMiddleware = SessionMiddleware
