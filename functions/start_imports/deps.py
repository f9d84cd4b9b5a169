"""Dependencies of `start_imports`, and the settings that they are made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from mayfly import resources
from mayfly.core.clock import Clock, system_clock
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.jobs import JobOperations
from mayfly.jobs.authoring.task import Declaration

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """The jobs. `bucket` is the imports bucket; notices of others are ignored.

    `dead_letters_arn` is the queue of notices that failed too often.
    """

    operations: JobOperations
    tasks: Mapping[str, Declaration]
    bucket: str
    dead_letters_arn: str
    observe: Observer
    clock: Clock


@dataclass(frozen=True)
class Settings:
    """Variables of the function. One error names all that are missing."""

    jobs_table: str
    imports_bucket: str
    uploads_dead_letters_arn: str
    due_shards: int = 1
    mayfly_tasks: str = ""
    aws_sam_local: bool = False


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings = read_settings(Settings, env)
    return Deps(
        operations=resources.job_operations(env),
        tasks=resources.declared_tasks(
            __name__, settings.mayfly_tasks, local=settings.aws_sam_local
        ),
        bucket=settings.imports_bucket,
        dead_letters_arn=settings.uploads_dead_letters_arn,
        observe=observer("start_imports", env),
        clock=system_clock,
    )
