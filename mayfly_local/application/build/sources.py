"""Event source mappings: the queues and streams whose records call a function."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mayfly_local.application.build.functions import find_function
from mayfly_local.application.build.resources import Report, Resources
from mayfly_local.application.model import Function, QueueSource, StreamSource
from mayfly_local.application.patterns import check_pattern

__all__ = ["build_sources"]

_SQS_BATCH_WITHOUT_WINDOW: Final = 10
_CONSUMER: Final = "AWS::Kinesis::StreamConsumer"
#: The service of an ARN whose queue or stream calls a function here.
_READ: Final = (["sqs"], ["dynamodb"], ["kinesis"])


def build_sources(
    resources: Resources, functions: Mapping[str, Function], report: Report
) -> list[QueueSource | StreamSource]:
    """Returns the queues and streams of all enabled event source mappings.

    Raises TemplateError.
    """
    sources = [
        _source(name, properties, resources, functions, report)
        for name, properties in resources.of_type("AWS::Lambda::EventSourceMapping")
        if properties.get("Enabled", True)
    ]
    return [source for source in sources if source is not None]


@dataclass(frozen=True)
class _Mapping:
    """The part of an event source mapping that queues and streams have in common."""

    name: str
    function: str
    source_arn: str
    window_seconds: int
    reports_failures: bool
    patterns: tuple[dict[str, Any], ...]


def _source(
    name: str,
    properties: dict[str, Any],
    resources: Resources,
    functions: Mapping[str, Function],
    report: Report,
) -> QueueSource | StreamSource | None:
    function = find_function(functions, name, properties.get("FunctionName", ""), report)
    if (called := functions.get(function)) is None:
        return None  # It is reported as absent.
    mapping = _Mapping(
        name=name,
        function=function,
        source_arn=_stream_of_consumer(str(properties.get("EventSourceArn", "")), resources),
        reports_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
        window_seconds=int(properties.get("MaximumBatchingWindowInSeconds", 0)),
        patterns=_patterns(name, properties, report),
    )
    arn = mapping.source_arn
    if reason := _absence_of_source(arn, properties, resources):
        report.leave_out(name, f"the event source {reason}")
        return None
    if ":sqs:" in arn:
        _check_visibility(mapping, called.timeout_seconds, resources, report)
        return _queue_source(mapping, properties, report)
    return _stream_source(mapping, properties, called, report)


def _absence_of_source(arn: str, properties: Mapping[str, Any], resources: Resources) -> str | None:
    """Returns why nothing here can be read under an ARN, None if the emulator holds it.

    The scope has ARNs of absent parts, too: of those, nothing is there.
    """
    if not arn:
        brokers = (properties.get("SelfManagedEventSource") or {}).get("Endpoints") or {}
        hosts = brokers.get("KafkaBootstrapServers") or []
        return f"Apache Kafka at {', '.join(map(str, hosts))}" if hosts else "(none)"
    owners = {name for (name, _), value in resources.scope.items() if value == arn}
    if not owners:
        return f"{arn} is not in this template" if arn.startswith("arn:") else arn
    is_held = not owners.isdisjoint(resources.template.state())
    return None if is_held and arn.split(":")[2:3] in _READ else arn


def _stream_of_consumer(arn: str, resources: Resources) -> str:
    """Returns the ARN of the stream that a stream consumer reads; any other ARN as it is.

    A consumer has a throughput of its own on AWS. Here it reads the stream as every mapping does.
    https://docs.aws.amazon.com/streams/latest/dev/enhanced-consumers.html
    """
    for name, properties in resources.of_type(_CONSUMER):
        if arn in (resources.scope.get((name, None)), resources.scope.get((name, "ConsumerARN"))):
            return str(properties.get("StreamARN", arn))
    return arn


def _queue_source(mapping: _Mapping, properties: dict[str, Any], report: Report) -> QueueSource:
    size = int(properties.get("BatchSize", _SQS_BATCH_WITHOUT_WINDOW))
    if size > _SQS_BATCH_WITHOUT_WINDOW and not mapping.window_seconds:
        report(
            f"resource {mapping.name}: a BatchSize above {_SQS_BATCH_WITHOUT_WINDOW} needs "
            "MaximumBatchingWindowInSeconds"
        )
    concurrency = properties.get("ScalingConfig", {}).get("MaximumConcurrency")
    return QueueSource(
        function=mapping.function,
        queue_arn=mapping.source_arn,
        batch_size=size,
        window_seconds=mapping.window_seconds,
        reports_failures=mapping.reports_failures,
        concurrency=None if concurrency is None else int(concurrency),
        patterns=mapping.patterns,
    )


def _stream_source(
    mapping: _Mapping, properties: dict[str, Any], function: Function, report: Report
) -> StreamSource:
    # -1 means "without limit", as does leaving them out.
    retries, age = (
        int(properties.get(key, -1))
        for key in ("MaximumRetryAttempts", "MaximumRecordAgeInSeconds")
    )
    on_failure = properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    if on_failure is not None and str(on_failure).split(":")[2:3] not in (["sqs"], ["sns"], ["s3"]):
        report.absent(mapping.name, f"the on-failure destination {on_failure}")
        on_failure = None
    return StreamSource(
        name=mapping.name,
        function=mapping.function,
        stream_arn=mapping.source_arn,
        batch_size=int(properties.get("BatchSize", 100)),
        window_seconds=mapping.window_seconds,
        reports_failures=mapping.reports_failures,
        starts_at=properties.get("StartingPosition", ""),
        bisects=bool(properties.get("BisectBatchOnFunctionError", False)),
        max_retries=None if retries < 0 else retries,
        max_age_seconds=None if age < 0 else age,
        on_failure_arn=on_failure,
        patterns=mapping.patterns,
        role=function.role.name if function.role else function.name,
        function_arn=function.arn,
    )


def _check_visibility(
    mapping: _Mapping, timeout: int, resources: Resources, report: Report
) -> None:
    """Reports a mapping if its queue's visibility timeout is below the function's timeout.

    Lambda refuses such a mapping:
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    """
    queues = resources.template.of_type("AWS::SQS::Queue")
    queue = next(
        (name for name in queues if resources.scope.get((name, "Arn")) == mapping.source_arn), None
    )
    if queue is None:
        return
    visibility = int(
        resources.template.resolve(queues[queue].get("VisibilityTimeout", 30), resources.scope)
    )
    if visibility < timeout:
        report(
            f"resource {mapping.name}: the visibility timeout of {queue} ({visibility} s) is below "
            f"the timeout of {mapping.function} ({timeout} s)"
        )


def _patterns(name: str, properties: dict[str, Any], report: Report) -> tuple[dict[str, Any], ...]:
    """Returns the patterns of a mapping's filters."""
    patterns = []
    for criterion in properties.get("FilterCriteria", {}).get("Filters", []):
        try:
            pattern = json.loads(criterion["Pattern"])
            check_pattern(pattern)
            patterns.append(pattern)
        except (ValueError, KeyError) as problem:
            report(f"resource {name}: FilterCriteria is not usable: {problem}")
    return tuple(patterns)
