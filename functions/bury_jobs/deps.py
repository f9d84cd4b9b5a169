"""Dependencies of `bury_jobs`, and the settings that they are made from."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from mayfly import resources
from mayfly.core.clock import system_clock
from mayfly.core.ids import new_nonce
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.jobs.routing.dead_letters import DeadLetters
from mayfly.jobs.routing.stranded import StrandedSearch

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """The handling of dead letters.

    `relay_failures_arn` is the queue of the relay's reports.
    """

    dead_letters: DeadLetters
    relay_failures_arn: str
    observe: Observer


@dataclass(frozen=True)
class Settings:
    """Variables of the function. One error names all that are missing."""

    jobs_table: str
    jobs_queue_url: str
    webhooks_queue_url: str
    relay_failures_arn: str
    default_tenant: str
    due_shards: int = 1
    mayfly_tasks: str = ""
    aws_sam_local: bool = False


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings, observe = read_settings(Settings, env), observer("bury_jobs", env)
    outbox = resources.outbox(settings.jobs_queue_url, settings.webhooks_queue_url)
    operations = resources.job_operations(env)
    search = StrandedSearch(
        operations=operations,
        outbox=outbox,
        observe=observe,
        clock=system_clock,
        pause=time.sleep,
        new_nonce=new_nonce,
    )
    dead_letters = DeadLetters(
        operations=operations,
        outbox=outbox,
        images=resources.streams().images,
        search=search,
        tasks=resources.declared_tasks(
            __name__, settings.mayfly_tasks, local=settings.aws_sam_local
        ),
        producer_tenant=settings.default_tenant,
        observe=observe,
        clock=system_clock,
    )
    return Deps(
        dead_letters=dead_letters, relay_failures_arn=settings.relay_failures_arn, observe=observe
    )
