"""Dependencies of `counters`, and the settings that they are made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from mayfly import resources
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.counters import CounterStore
from mayfly.limits import LimitStore
from mayfly.web.access import Quota

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """Stores of the counters and limits API."""

    counters: CounterStore
    limits: LimitStore
    observe: Observer
    quota: Quota | None = None


@dataclass(frozen=True)
class Settings:
    """Environment variables of the function.

    `tenant_limit` is the number of requests that a tenant may make in a minute to the whole API, 0
    for no limit.
    """

    counters_table: str
    tenant_limit: int


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings, db = read_settings(Settings, env), resources.dynamodb()
    observe = observer("counters", env)
    return Deps(
        counters=resources.lazy_counters(settings.counters_table, lambda: db),
        limits=resources.limits_of(settings.counters_table, db),
        observe=observe,
        quota=resources.quota(settings.counters_table, settings.tenant_limit, db, observe),
    )
