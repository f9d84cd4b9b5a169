"""Dependencies of `run_jobs`, and the settings that they are made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from mayfly import resources
from mayfly.aws.queue import Queue
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.jobs.authoring.built_in import BUILT_IN
from mayfly.jobs.worker.deps import Deps as WorkerDeps

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """The worker and the queue that feeds it."""

    worker: WorkerDeps
    queue: Queue
    observe: Observer


@dataclass(frozen=True)
class Settings:
    """Variables of the function.

    `lease_seconds` is the time for which a claim holds without a renewal: a crash delays a job by
    at most this and 2 s. `imports_bucket` is read by the import task, when it first runs;
    it is missing where files are not imported.
    `mayfly_tasks` is a package of tasks next to the function's own `tasks`.
    """

    jobs_table: str
    counters_table: str
    jobs_queue_url: str
    default_tenant: str
    due_shards: int = 1
    lease_seconds: int = 15
    imports_bucket: str = ""
    mayfly_tasks: str = ""
    aws_sam_local: bool = False


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies; imports every task. Raises ConfigError."""
    settings, observe = read_settings(Settings, env), observer("run_jobs", env)
    worker = resources.worker(
        env,
        counters_table=settings.counters_table,
        producer_tenant=settings.default_tenant,
        lease_seconds=settings.lease_seconds,
        tasks=resources.imported_tasks(
            __name__, settings.mayfly_tasks, local=settings.aws_sam_local
        ),
        known=BUILT_IN,
        observe=observe,
    )
    return Deps(worker=worker, queue=resources.queue(settings.jobs_queue_url), observe=observe)
