"""Dependencies of `relay_jobs`, and the settings that they are made from."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mayfly import resources
from mayfly.core.clock import Clock, system_clock
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.jobs.routing.outbox import Outbox

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """The queues to which jobs are announced."""

    outbox: Outbox
    observe: Observer
    clock: Clock
    #: Seconds of the clock that measures an invocation.
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Settings:
    """Variables of the function. One error names all that are missing."""

    jobs_queue_url: str
    webhooks_queue_url: str


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings = read_settings(Settings, env)
    outbox = resources.outbox(settings.jobs_queue_url, settings.webhooks_queue_url)
    return Deps(outbox=outbox, observe=observer("relay_jobs", env), clock=system_clock)
