"""Django's settings of sessions, as Mayfly's engine for Django uses them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from mayfly.core.errors import InvalidRequest
from mayfly.sessions import SessionStore
from mayfly.sessions.rules import check_lifetime
from mayfly.sessions.web.cookies import Cookie

__all__ = ["Options", "check_options", "read_options"]

#: Settings of Django's other engines, with their defaults.
_OF_OTHER_ENGINES: Final = {"SESSION_CACHE_ALIAS": "default", "SESSION_FILE_PATH": None}


@dataclass(frozen=True)
class Options:
    """The store of the sessions, and whether each request is a use of its session."""

    store: SessionStore
    tenant: str
    saves_every_request: bool


def read_options() -> Options:
    """Returns the settings. Raises the errors of `check_options`."""
    check_options()
    return Options(
        _store(settings.MAYFLY_SESSION_STORE),
        getattr(settings, "MAYFLY_SESSION_TENANT", "default"),
        bool(settings.SESSION_SAVE_EVERY_REQUEST),
    )


def check_options() -> None:
    """Raises ImproperlyConfigured for an option that cannot be honoured, with the reason."""
    if not callable(getattr(settings, "MAYFLY_SESSION_STORE", None)):
        raise ImproperlyConfigured(
            "MAYFLY_SESSION_STORE must be a function that returns the store, such as "
            "partial(resources.session_store, os.environ)"
        )
    _check_others()
    _check_age()
    _check_cookie()
    _check_serializer()


@cache
def _store(make: Callable[[], SessionStore]) -> SessionStore:
    """Returns the store; it is made by the first request that needs it, once in a process."""
    return make()


def _check_others() -> None:
    for name, default in _OF_OTHER_ENGINES.items():
        value = getattr(settings, name)
        if value != default:
            raise ImproperlyConfigured(
                f"{name} is {value!r}, but it is for another engine of Django; remove it"
            )


def _check_age() -> None:
    age = settings.SESSION_COOKIE_AGE
    try:
        check_lifetime(age, age)
    except InvalidRequest as problem:
        raise ImproperlyConfigured(
            f"SESSION_COOKIE_AGE is {age!r}; it must be a whole number of seconds, from 1 to 400 "
            "days, the longest time that browsers keep a cookie"
        ) from problem


def _check_cookie() -> None:
    """Refuses options with which scripts read the token, or browsers drop the cookie."""
    if not settings.SESSION_COOKIE_HTTPONLY:
        raise ImproperlyConfigured(
            "SESSION_COOKIE_HTTPONLY is off: every script of a page could read the token of its "
            "session; remove the option"
        )
    name, path = settings.SESSION_COOKIE_NAME, settings.SESSION_COOKIE_PATH
    domain, same_site = settings.SESSION_COOKIE_DOMAIN, settings.SESSION_COOKIE_SAMESITE
    try:
        cookie = Cookie(name, path, domain, same_site)
    except (ValueError, TypeError, AttributeError) as problem:
        raise ImproperlyConfigured(
            f"SESSION_COOKIE_NAME, PATH, DOMAIN or SAMESITE: {problem}"
        ) from problem
    is_secure = bool(settings.SESSION_COOKIE_SECURE)
    if cookie.same_site == "None" and not is_secure:
        raise ImproperlyConfigured(
            "SESSION_COOKIE_SAMESITE is 'None', and SESSION_COOKIE_SECURE is off: browsers drop "
            "such a cookie; set SESSION_COOKIE_SECURE = True"
        )
    # The prefixes, in any case of letters (RFC 6265bis, 4.1.3).
    is_of_host = name.lower().startswith("__host-")
    if (is_of_host or name.lower().startswith("__secure-")) and not is_secure:
        raise ImproperlyConfigured(
            f"SESSION_COOKIE_NAME is {name!r}, and SESSION_COOKIE_SECURE is off: browsers drop "
            "such a cookie; set SESSION_COOKIE_SECURE = True"
        )
    if is_of_host and (domain is not None or path != "/"):
        raise ImproperlyConfigured(
            f"SESSION_COOKIE_NAME is {name!r}: browsers drop such a cookie if it has a domain, or "
            "another path than '/'; remove SESSION_COOKIE_DOMAIN and SESSION_COOKIE_PATH, or name "
            "it '__Secure-...'"
        )


def _check_serializer() -> None:
    """Refuses a serializer that does not write JSON; one of Django's interface returns bytes."""
    name = settings.SESSION_SERIALIZER
    serializer: Any = import_string(name)()
    try:
        is_json = json.loads(serializer.dumps({"a": 1})) == {"a": 1}
    except ValueError:
        is_json = False
    if not is_json:
        raise ImproperlyConfigured(
            f"SESSION_SERIALIZER is {name!r}, which does not write JSON objects; the data of a "
            "session is stored as JSON, so use one that does, such as Django's JSONSerializer"
        )
