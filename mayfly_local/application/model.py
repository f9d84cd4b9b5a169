"""A template's application: functions and what calls them, resolved and frozen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly_local.application.schedule_times import ScheduleTimes
from mayfly_local.iam.permissions import Role

__all__ = [
    "Application",
    "Authorizer",
    "Cors",
    "Function",
    "QueueSource",
    "Route",
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
    #: The size of /tmp.
    tmp_mb: int = 512


@dataclass(frozen=True)
class Authorizer:
    """A Lambda request authorizer, format 2.0."""

    name: str
    function: str
    identity_sources: tuple[str, ...]
    cache_seconds: int
    is_simple: bool


@dataclass(frozen=True)
class Route:
    """A route of the HTTP API.

    The method is upper case, or ANY. The path is `$default` for the route that takes unmatched
    requests.
    """

    method: str
    path: str
    function: str
    authorizer: Authorizer | None

    @property
    def key(self) -> str:
        """The route key, in the form that events carry."""
        return self.path if self.path == "$default" else f"{self.method} {self.path}"


@dataclass(frozen=True)
class Cors:
    """The API's answers to browsers' preflight requests.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html
    """

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    exposed: tuple[str, ...]
    max_age: int | None
    credentials: bool


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
    routes: tuple[Route, ...]
    cors: Cors | None
    stage_variables: dict[str, str]
    queues: tuple[QueueSource, ...]
    streams: tuple[StreamSource, ...]
    schedules: tuple[Schedule, ...]
    outputs: dict[str, str]
    after_deploy: tuple[str, ...]
