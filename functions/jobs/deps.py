"""Dependencies of `jobs`, and the settings that they are made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mayfly import resources
from mayfly.core.clock import Clock, system_clock
from mayfly.core.ids import new_id
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.jobs import JobOperations, JobStore
from mayfly.jobs.authoring.task import Declaration
from mayfly.web.access import Quota

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """Stores of the jobs API, and the tasks that exist."""

    store: JobStore
    operations: JobOperations
    tasks: Mapping[str, Declaration]
    observe: Observer
    clock: Clock
    new_id: Callable[[], str]
    quota: Quota | None = None


@dataclass(frozen=True)
class Settings:
    """Variables of the function."""

    jobs_table: str
    counters_table: str
    tenant_limit: int
    lambda_task_root: str
    mayfly_tasks: str = "tasks"
    aws_sam_local: bool = False


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings, db = read_settings(Settings, env), resources.dynamodb()
    store, operations = resources.job_stores(settings.jobs_table, db)
    tasks = resources.declared_tasks(
        settings.lambda_task_root, settings.mayfly_tasks, local=settings.aws_sam_local
    )
    return Deps(
        store=store,
        operations=operations,
        tasks=tasks,
        observe=observer("jobs"),
        clock=system_clock,
        new_id=new_id,
        quota=resources.quota(settings.counters_table, settings.tenant_limit, db),
    )
