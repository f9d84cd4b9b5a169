"""Dependencies of `jobs`, and the settings that they are made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from mayfly import resources
from mayfly.core.clock import Clock, system_clock
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.jobs import JobOperations
from mayfly.jobs.authoring.task import Declaration
from mayfly.web.access import Quota

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """The jobs, and the tasks that exist."""

    operations: JobOperations
    tasks: Mapping[str, Declaration]
    observe: Observer
    clock: Clock
    quota: Quota | None = None


@dataclass(frozen=True)
class Settings:
    """Variables of the function. One error names all that are missing."""

    jobs_table: str
    counters_table: str
    tenant_limit: int
    due_shards: int = 1
    mayfly_tasks: str = ""
    aws_sam_local: bool = False


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings, db = read_settings(Settings, env), resources.dynamodb()
    tasks = resources.declared_tasks(__name__, settings.mayfly_tasks, local=settings.aws_sam_local)
    observe = observer("jobs", env)
    return Deps(
        operations=resources.job_operations(env, db),
        tasks=tasks,
        observe=observe,
        clock=system_clock,
        quota=resources.quota(settings.counters_table, settings.tenant_limit, db, observe),
    )
