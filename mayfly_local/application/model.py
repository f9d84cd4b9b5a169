"""A template's application: functions and what calls them, resolved and frozen."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from mayfly_local.application.apis import Api
from mayfly_local.application.classes import Class, Part
from mayfly_local.application.schedule_times import ScheduleTimes
from mayfly_local.iam.permissions import Role

__all__ = [
    "Application",
    "AsynchronousRules",
    "Description",
    "Function",
    "QueueSource",
    "Schedule",
    "StreamSource",
]


#: A time this long before a start is not after it.
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class AsynchronousRules:
    """The settings of asynchronous invocations. The defaults are Lambda's.

    Destinations are ARNs of queues, topics, functions and event buses, or None.
    """

    max_retries: int = 2
    max_age_seconds: int = 6 * 60 * 60
    on_success_arn: str | None = None
    on_failure_arn: str | None = None
    dead_letter_arn: str | None = None

    @property
    def destinations(self) -> tuple[str, ...]:
        """The ARNs of everything that outcomes are sent to."""
        wanted = (self.on_success_arn, self.on_failure_arn, self.dead_letter_arn)
        return tuple(arn for arn in wanted if arn is not None)


@dataclass(frozen=True)
class Function:
    """A Lambda function.

    `code` is a folder, or None with `inline` source. `libraries` are folders that the build puts
    next to the code, and `layers` are folders of layer content; both have the same form. Code and
    layers may be zip archives until they are unpacked.
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
    #: The name that clients call it by.
    function_name: str = ""
    #: Requirements of packages in place of published layers.
    packages: tuple[str, ...] = ()
    #: Aliases and versions of the template. All of them run the one code that there is.
    qualifiers: tuple[str, ...] = ()
    asynchronous: AsynchronousRules = AsynchronousRules()
    #: The size of /tmp.
    tmp_mb: int = 512


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
    """The event source mapping of a stream of DynamoDB or Kinesis."""

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
    #: The name of the role that reads it; only events of Kinesis have it.
    role: str
    #: The function's ARN, which reports of failed batches name.
    function_arn: str


@dataclass(frozen=True)
class Schedule:
    """An EventBridge rule or schedule that calls a function, or sends its event elsewhere.

    Exactly one of `function`, a logical id, and `target_arn`, of a queue, topic or bus, is set.
    """

    name: str
    arn: str
    function: str | None
    target_arn: str | None
    times: ScheduleTimes
    event: Any
    #: Times outside these are left out. Without a limit it is None.
    starts: datetime | None = None
    ends: datetime | None = None

    def after(self, moment: datetime) -> datetime | None:
        """Returns the first time after `moment` (aware), or None if there is none.

        The first time of a rate is its start.
        """
        if self.starts is not None and moment < self.starts:
            due = self.starts if self.times.every else self.times.after(self.starts - _INSTANT)
        else:
            due = self.times.after(moment)
        return due if due is None or self.ends is None or due <= self.ends else None


@dataclass(frozen=True)
class Description:
    """The stack as CloudFormation describes it to its clients."""

    #: The template's `Description`.
    text: str = ""
    #: Each has OutputKey and OutputValue, and Description and ExportName if the template has them.
    outputs: tuple[dict[str, str], ...] = ()
    #: The type and the Ref of each resource, by logical id. The Ref is empty if only the emulator
    #: knows it.
    resources: dict[str, tuple[str, str]] = field(default_factory=dict)


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
    description: Description = Description()

    @property
    def absent(self) -> dict[str, list[str]]:
        """The absent parts of each resource, as the start names them, by logical id."""
        found: dict[str, list[str]] = {}
        for part in self.parts:
            if part.group is Class.ABSENT:
                found.setdefault(part.name, []).append(str(part))
        return found
