"""Dependencies of `sessions`, and the settings that they are made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from mayfly import resources
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.sessions import SessionStore
from mayfly.web.access import Quota

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """The store of the sessions API."""

    store: SessionStore
    observe: Observer
    quota: Quota | None = None


@dataclass(frozen=True)
class Settings:
    """Variables of the function. One error names all that are missing."""

    sessions_table: str
    subject_key: str
    counters_table: str
    tenant_limit: int


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings, db = read_settings(Settings, env), resources.dynamodb()
    observe = observer("sessions", env)
    return Deps(
        store=resources.session_store(env, db),
        observe=observe,
        quota=resources.quota(settings.counters_table, settings.tenant_limit, db, observe),
    )
