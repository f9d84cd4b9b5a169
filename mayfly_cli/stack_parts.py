"""The parts of a stack that its release matters to: functions, mappings, queues and tables.

They are read from a template here; `stack_reading.py` reads those of a stack that exists. Names are
logical ids without what a nested application puts before them, so that both compare with the parts
of the installed release.
"""

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mayfly_cli.nested_stack import ANY_STACK_HAS
from mayfly_cli.new_application import RUNTIMES
from mayfly_cli.parts import FEATURES, Wanted, nested, source
from mayfly_local.application.intrinsics import references
from mayfly_local.application.source import parse
from mayfly_local.application.template import Template, load
from mayfly_local.errors import TemplateError

__all__ = ["RELEASE", "Function", "Mapped", "Queue", "StackParts", "Table", "installed_parts"]

#: The variable with the release of the template that made a function.
RELEASE: Final = "MAYFLY_RELEASE"
#: The function that only the whole template has.
_OF_THE_WHOLE: Final = "Hello"


@dataclass(frozen=True)
class Function:
    """A function: its timeout in seconds, and its variables. A value that is unknown is None."""

    timeout: float | None
    variables: Mapping[str, str | None]


@dataclass(frozen=True)
class Mapped:
    """A mapping of a queue or a stream to a function, by the names of both."""

    source: str
    function: str
    reports_failures: bool


@dataclass(frozen=True)
class Queue:
    """A queue: its visibility timeout in seconds, and the receives before a message is moved.

    `receives` is None if the queue has no dead-letter queue.
    """

    visibility: int | None
    receives: int | None


@dataclass(frozen=True)
class Table:
    """A table: its keys, its indexes, the view of its stream, and the attribute of its TTL.

    A stream or TTL that it does not have is an empty text; None is one that is not known.
    """

    keys: tuple[str, ...]
    indexes: Mapping[str, tuple[str, ...]]
    stream: str
    ttl: str | None


@dataclass(frozen=True)
class StackParts:
    """The parts of one stack. `mapped` is None if the mappings are not known."""

    functions: Mapping[str, Function]
    queues: Mapping[str, Queue]
    tables: Mapping[str, Table]
    buckets: Collection[str] = ()
    mapped: Collection[Mapped] | None = None

    @property
    def is_mayfly(self) -> bool:
        """True if the stack has a part of Mayfly."""
        return ANY_STACK_HAS in self.tables

    @property
    def features(self) -> tuple[str, ...] | None:
        """The features that the stack has functions of. None if it has the whole template."""
        if _OF_THE_WHOLE in self.functions:
            return None
        return tuple(
            feature
            for feature, names in FEATURES.items()
            # The first function is the feature's own; the others run its jobs.
            if names[0] in self.functions
        )

    @classmethod
    def of(cls, template: Template) -> "StackParts":
        """Returns the parts of a transformed template."""
        prefix = _prefix(template.resources)
        named = {
            name.removeprefix(prefix): resource
            for name, resource in template.resources.items()
            if name.startswith(prefix)
        }
        return cls(
            functions=dict(_functions(template, named)),
            queues={
                name: _queue(template, resource.get("Properties") or {})
                for name, resource in named.items()
                if resource["Type"] == "AWS::SQS::Queue"
            },
            tables={
                name: _table(resource.get("Properties") or {})
                for name, resource in named.items()
                if resource["Type"] == "AWS::DynamoDB::Table"
            },
            buckets=[n for n, resource in named.items() if resource["Type"] == "AWS::S3::Bucket"],
            mapped=list(_mapped(named, prefix)),
        )


def installed_parts(features: Collection[str] | None) -> StackParts:
    """Returns the parts of some features in the installed release; None is the whole template."""
    if features is None:
        template = parse(Path("template.yaml"), source())
        template.pop("Metadata", None)  # It names folders of the repository.
        text = json.dumps(template)
    else:
        text = nested(Wanted(features, code="code", runtime=RUNTIMES[-1]))
    with tempfile.TemporaryDirectory(prefix="mayfly-") as folder:
        path = Path(folder) / "template.yaml"
        path.write_text(text, encoding="utf-8")
        return StackParts.of(load(path, cache=Path(folder)))


def _prefix(resources: Collection[str]) -> str:
    names = sorted((name for name in resources if name.endswith(ANY_STACK_HAS)), key=len)
    return names[0].removesuffix(ANY_STACK_HAS) if names else ""


def _functions(
    template: Template, named: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[str, Function]]:
    for name, resource in named.items():
        if resource["Type"] == "AWS::Lambda::Function":
            properties = resource.get("Properties") or {}
            variables = (properties.get("Environment") or {}).get("Variables") or {}
            timeout = _known(template, properties.get("Timeout", 3))
            yield (
                name,
                Function(
                    None if timeout is None else float(timeout),
                    {key: _text(_known(template, value)) for key, value in variables.items()},
                ),
            )


def _queue(template: Template, properties: Mapping[str, Any]) -> Queue:
    visibility = _known(template, properties.get("VisibilityTimeout", 30))
    policy = properties.get("RedrivePolicy")
    receives = _known(template, policy.get("maxReceiveCount")) if policy else None
    return Queue(
        None if visibility is None else int(visibility),
        None if receives is None else int(receives),
    )


def _table(properties: Mapping[str, Any]) -> Table:
    ttl = properties.get("TimeToLiveSpecification") or {}
    return Table(
        _keys(properties.get("KeySchema") or ()),
        {
            index["IndexName"]: _keys(index["KeySchema"])
            for index in properties.get("GlobalSecondaryIndexes") or ()
        },
        str((properties.get("StreamSpecification") or {}).get("StreamViewType", "")),
        str(ttl["AttributeName"]) if str(ttl.get("Enabled")).lower() == "true" else "",
    )


def _keys(schema: Any) -> tuple[str, ...]:
    return tuple(str(part["AttributeName"]) for part in schema)


def _mapped(named: Mapping[str, dict[str, Any]], prefix: str) -> Iterator[Mapped]:
    for resource in named.values():
        if resource["Type"] != "AWS::Lambda::EventSourceMapping":
            continue
        properties = resource["Properties"]
        sources = [name for name, _ in references(properties.get("EventSourceArn"))]
        functions = [name for name, _ in references(properties.get("FunctionName"))]
        if sources and functions:
            yield Mapped(
                sources[0].removeprefix(prefix),
                functions[0].removeprefix(prefix),
                "ReportBatchItemFailures" in (properties.get("FunctionResponseTypes") or ()),
            )


def _known(template: Template, value: Any) -> Any:
    """Returns the value of a property, None if only the deployment knows it."""
    try:
        return template.resolve(value, {})
    except TemplateError:
        return None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
