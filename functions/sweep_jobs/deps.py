"""Dependencies of `sweep_jobs`, and the settings that they are made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mayfly import resources
from mayfly.core.clock import Clock, system_clock
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.jobs import JobOperations
from mayfly.schedules import Deps as Schedules

if TYPE_CHECKING:
    from mayfly.jobs.routing.reports import Reports

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """Stores of jobs and schedules.

    `reports` makes the store of the relay's reports, which few sweeps need.
    """

    operations: JobOperations
    schedules: Schedules
    observe: Observer
    clock: Clock
    reports: Callable[[], "Reports"]


@dataclass(frozen=True)
class Settings:
    """Variables of the function. One error names all that are missing."""

    jobs_table: str
    relay_reports_bucket: str
    relay_failures_url: str
    due_shards: int = 1
    mayfly_tasks: str = ""
    aws_sam_local: bool = False


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings, operations = read_settings(Settings, env), resources.job_operations(env)
    tasks = resources.declared_tasks(__name__, settings.mayfly_tasks, local=settings.aws_sam_local)
    return Deps(
        operations=operations,
        schedules=resources.schedules(operations, tasks),
        observe=observer("sweep_jobs", env),
        clock=system_clock,
        reports=lambda: resources.reports(
            settings.relay_reports_bucket, settings.relay_failures_url
        ),
    )
