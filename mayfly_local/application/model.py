"""A template's application: functions and what calls them, resolved and frozen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly_local.application.apis import Api
from mayfly_local.application.classes import Part
from mayfly_local.application.schedule_times import ScheduleTimes
from mayfly_local.iam.permissions import Role

__all__ = [
    "Application",
    "Function",
    "QueueSource",
    "Schedule",
    "StreamSource",
]


@dataclass(frozen=True)
class Function:
    """A Lambda function.

    `code` is a folder, or None with `inline` source. `libraries` are folders that the build puts
    next to the code, and `layers` are folders of layer content; both have the same form.
    """

    name: str
    arn: str
    handler: str
    runtime: str
    timeout_seconds: int
    memory_mb: int
    variables: dict[str, str]
    code: Path | None
    inline: str | None
    brings_packages: bool
    libraries: tuple[Path, ...]
    layers: tuple[Path, ...]
    limit: int | None
    log_group: str
    #: None if the role is not in the template.
    role: Role | None


@dataclass(frozen=True)
class QueueSource:
    """An SQS event source mapping."""

    function: str
    queue_arn: str
    batch_size: int
    window_seconds: int
    reports_failures: bool
    concurrency: int | None
    patterns: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class StreamSource:
    """A DynamoDB stream event source mapping."""

    name: str
    function: str
    stream_arn: str
    batch_size: int
    window_seconds: int
    reports_failures: bool
    starts_at: str
    bisects: bool
    max_retries: int | None
    max_age_seconds: int | None
    on_failure_arn: str | None
    patterns: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Schedule:
    """An EventBridge rule or schedule that calls a function."""

    name: str
    arn: str
    function: str
    times: ScheduleTimes
    event: Any


@dataclass(frozen=True)
class Application:
    """A whole application, ready to run."""

    name: str
    functions: dict[str, Function]
    apis: tuple[Api, ...]
    queues: tuple[QueueSource, ...]
    streams: tuple[StreamSource, ...]
    schedules: tuple[Schedule, ...]
    outputs: dict[str, str]
    after_deploy: tuple[str, ...]
    #: Every part of the template with its class.
    parts: tuple[Part, ...] = ()
