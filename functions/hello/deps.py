"""Dependencies of `hello`, and the settings that they are made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from mayfly import resources
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.counters import CounterStore
from mayfly.limits import LimitStore
from mayfly.sessions import SessionStore

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """Stores of the page, and its settings.

    The stores of sessions and limits are made on first use. `tenant` owns the page's counter, its
    limit and its visitors' sessions. `page_limit` is the number of requests that a client address
    may make to the page in a minute, 0 for no limit.
    """

    counters: CounterStore
    sessions: Callable[[], SessionStore]
    limits: Callable[[], LimitStore]
    page_limit: int
    tenant: str
    observe: Observer


@dataclass(frozen=True)
class Settings:
    """Variables of the function. One error names all that are missing."""

    sessions_table: str
    subject_key: str
    counters_table: str
    default_tenant: str
    page_limit: int


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings, db = read_settings(Settings, env), cache(resources.dynamodb)
    return Deps(
        counters=resources.lazy_counters(settings.counters_table, db),
        sessions=cache(lambda: resources.session_store(env, db())),
        limits=cache(lambda: resources.limits_of(settings.counters_table, db())),
        page_limit=settings.page_limit,
        tenant=settings.default_tenant,
        observe=observer("hello", env),
    )
