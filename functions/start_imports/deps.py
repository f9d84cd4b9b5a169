"""Dependencies of `start_imports`, and the settings that they are made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mayfly import resources
from mayfly.core.clock import Clock, system_clock
from mayfly.core.ids import new_id
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.jobs import JobOperations, JobStore
from mayfly.jobs.authoring.task import Declaration

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """Stores of jobs. `bucket` is the imports bucket; notices of others are ignored."""

    store: JobStore
    operations: JobOperations
    tasks: Mapping[str, Declaration]
    bucket: str
    observe: Observer
    clock: Clock
    new_id: Callable[[], str]


@dataclass(frozen=True)
class Settings:
    """Variables of the function."""

    jobs_table: str
    imports_bucket: str
    lambda_task_root: str
    mayfly_tasks: str = "tasks"
    aws_sam_local: bool = False


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings = read_settings(Settings, env)
    store, operations = resources.job_stores(settings.jobs_table)
    return Deps(
        store=store,
        operations=operations,
        tasks=resources.declared_tasks(
            settings.lambda_task_root, settings.mayfly_tasks, local=settings.aws_sam_local
        ),
        bucket=settings.imports_bucket,
        observe=observer("start_imports"),
        clock=system_clock,
        new_id=new_id,
    )
