"""Dependencies of `await_job`, and the settings that they are made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from mayfly import resources
from mayfly.core.clock import Clock, system_clock
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.core.shutdown import Stopping
from mayfly.jobs import JobStore
from mayfly.web.access import Quota

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """The store of jobs. `stopping` ends a wait early when the process must stop."""

    store: JobStore
    observe: Observer
    clock: Clock
    stopping: Stopping
    quota: Quota | None = None


@dataclass(frozen=True)
class Settings:
    """Variables of the function. One error names all that are missing."""

    jobs_table: str
    counters_table: str
    tenant_limit: int
    due_shards: int = 1


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings, db = read_settings(Settings, env), resources.dynamodb()
    observe = observer("await_job", env)
    return Deps(
        store=resources.job_store(env, db),
        observe=observe,
        clock=system_clock,
        stopping=Stopping().listen(),
        quota=resources.quota(settings.counters_table, settings.tenant_limit, db, observe),
    )
