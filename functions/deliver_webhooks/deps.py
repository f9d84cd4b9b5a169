"""Dependencies of `deliver_webhooks`, and the settings that they are made from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mayfly import resources
from mayfly.aws.queue import Queue
from mayfly.core.clock import system_clock
from mayfly.core.errors import ConfigError, InvalidRequest
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.jobs.authoring.built_in import DELIVER
from mayfly.jobs.authoring.task import Task
from mayfly.jobs.worker.deps import Deps as WorkerDeps
from mayfly.webhooks import Deps as Webhooks
from mayfly.webhooks import deliver, rest_seconds
from mayfly.webhooks.model import LOCAL, PUBLIC
from mayfly.webhooks.rules import read_pauses
from mayfly.webhooks.store import Endpoints, Secrets
from mayfly.webhooks.wire import resolve

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """The worker of webhooks and the queue that feeds it."""

    worker: WorkerDeps
    queue: Queue
    observe: Observer


@dataclass(frozen=True)
class Settings:
    """Variables of the function.

    `secrets_prefix` is the path of the signing secrets in Parameter Store.
    """

    jobs_table: str
    endpoints_table: str
    webhooks_queue_url: str
    secrets_prefix: str
    webhook_pauses: str
    default_tenant: str
    due_shards: int = 1
    lease_seconds: int = 15
    aws_sam_local: bool = False


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings, observe = read_settings(Settings, env), observer("deliver_webhooks", env)
    try:
        pauses = read_pauses(settings.webhook_pauses)
    except InvalidRequest as problem:
        raise ConfigError([f"WEBHOOK_{problem}"]) from None
    webhooks = Webhooks(
        secrets=Secrets(resources.parameters(), settings.secrets_prefix),
        endpoints=Endpoints(resources.dynamodb(), settings.endpoints_table, system_clock),
        policy=LOCAL if settings.aws_sam_local else PUBLIC,
        pauses=pauses,
        resolve=resolve,
        clock=system_clock,
        receivers=resources.receivers(settings.endpoints_table),
    )
    worker = resources.worker(
        env,
        counters_table="",
        producer_tenant=settings.default_tenant,
        lease_seconds=settings.lease_seconds,
        tasks={DELIVER.name: Task(DELIVER, lambda job, effects: deliver(job, effects, webhooks))},
        known={},
        observe=observe,
    )
    return Deps(
        worker=replace(
            worker,
            rest_seconds=lambda job, receives: rest_seconds(job, receives, webhooks),
            # Its one task is the library's own, and mostly waits.
            trusts_last_attempts=True,
        ),
        queue=resources.queue(settings.webhooks_queue_url),
        observe=observe,
    )
