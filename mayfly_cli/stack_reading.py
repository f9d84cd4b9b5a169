"""The parts of a stack that exists: the local one that runs, or a deployed one.

All calls only read. A part that cannot be read is a finding that says why, and the others are read.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from mayfly_cli.findings import Finding, unchecked
from mayfly_cli.stack_parts import Function, Mapped, Queue, StackParts, Table
from mayfly_cli.target import Target

__all__ = ["StackReading"]

_TABLE: Final = "AWS::DynamoDB::Table"
_QUEUE: Final = "AWS::SQS::Queue"
_FUNCTION: Final = "AWS::Lambda::Function"
_MAPPING: Final = "AWS::Lambda::EventSourceMapping"
_BUCKET: Final = "AWS::S3::Bucket"


class StackReading:
    """Reads a stack. `findings` has what could not be read; `tables` their names by logical id."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.findings: list[Finding] = []
        self.tables: dict[str, str] = {}

    def parts(self) -> StackParts:
        """Returns the parts of the stack. Raises ClientError if its resources cannot be listed."""
        resources = self._target.resources
        self.tables = dict(_of(resources, _TABLE))
        queues = dict(_of(resources, _QUEUE))
        functions = self._functions(dict(_of(resources, _FUNCTION)))
        mapped = self._mapped(dict(_of(resources, _MAPPING)), queues)
        return StackParts(
            functions=functions,
            queues=dict(self._each(queues, "queue", self._queue)),
            tables=dict(self._each(self.tables, "table", self._table)),
            buckets=[name for name, _ in _of(resources, _BUCKET)],
            mapped=mapped,
        )

    def _each(
        self, names: Mapping[str, str], kind: str, read: Callable[[str], Any]
    ) -> Iterator[tuple[str, Any]]:
        """Yields what is read of each resource; notes those that cannot be read."""
        for name, physical in names.items():
            try:
                yield name, read(physical)
            except ClientError as failure:
                self.findings.append(unchecked(kind, name, _reason(failure)))

    def _functions(self, names: Mapping[str, str]) -> dict[str, Function]:
        launches = self._target.launches
        if launches is not None:
            return {
                name: Function(float(launch["timeout_seconds"]), launch["variables"])
                for name, launch in launches.items()
            }
        return dict(self._each(names, "function", self._function))

    def _function(self, physical: str) -> Function:
        known = self._target.client("lambda").get_function_configuration(FunctionName=physical)
        variables = (known.get("Environment") or {}).get("Variables") or {}
        return Function(float(known["Timeout"]), variables)

    def _queue(self, url: str) -> Queue:
        names = ["VisibilityTimeout", "RedrivePolicy"]
        found = self._target.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)
        known = found.get("Attributes") or {}
        redrive = json.loads(known.get("RedrivePolicy") or "{}")
        receives = redrive.get("maxReceiveCount")
        return Queue(
            int(known["VisibilityTimeout"]) if "VisibilityTimeout" in known else None,
            None if receives is None else int(receives),
        )

    def _table(self, name: str) -> Table:
        client = self._target.client("dynamodb")
        known = client.describe_table(TableName=name)["Table"]
        stream = known.get("StreamSpecification") or {}
        return Table(
            _keys(known["KeySchema"]),
            {
                index["IndexName"]: _keys(index["KeySchema"])
                for index in known.get("GlobalSecondaryIndexes") or ()
                if index.get("IndexStatus", "ACTIVE") == "ACTIVE"
            },
            str(stream.get("StreamViewType", "")) if stream.get("StreamEnabled", True) else "",
            # The local runtime deletes expired items itself, as the template says.
            None if self._target.is_local else _ttl(client, name),
        )

    def _mapped(self, names: Mapping[str, str], queues: Mapping[str, str]) -> list[Mapped] | None:
        """Returns the mappings; None on the local stack, whose runtime takes the template's."""
        if self._target.is_local:
            return None
        found: list[Mapped] = []
        sources = {_last(url): name for name, url in queues.items()}
        sources |= {table: name for name, table in self.tables.items()}
        client = self._target.client("lambda")
        functions = {physical: name for name, physical in _of(self._target.resources, _FUNCTION)}
        for name, uuid in names.items():
            try:
                known = client.get_event_source_mapping(UUID=uuid)
            except ClientError as failure:
                self.findings.append(unchecked("mapping", name, _reason(failure)))
                return None
            arn = str(known["EventSourceArn"])
            _, is_table, table = arn.partition(":table/")
            source = table.partition("/")[0] if is_table else _last(arn)
            function = str(known["FunctionArn"]).partition(":function:")[2].partition(":")[0]
            found.append(
                Mapped(
                    sources.get(source, source),
                    functions.get(function, function),
                    "ReportBatchItemFailures" in (known.get("FunctionResponseTypes") or ()),
                )
            )
        return found


def _of(resources: Mapping[str, tuple[str, str]], kind: str) -> Iterator[tuple[str, str]]:
    for name, (found, physical) in resources.items():
        if found == kind:
            yield name, physical


def _keys(schema: Any) -> tuple[str, ...]:
    order = {"HASH": 0, "RANGE": 1}
    return tuple(
        str(part["AttributeName"]) for part in sorted(schema, key=lambda one: order[one["KeyType"]])
    )


def _ttl(client: Any, table: str) -> str:
    known = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    is_on = known.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
    return str(known["AttributeName"]) if is_on else ""


def _last(name: str) -> str:
    """Returns the name of a queue, by its URL or its ARN."""
    return name.replace(":", "/").rsplit("/", 1)[1]


def _reason(failure: ClientError) -> str:
    error = failure.response.get("Error", {})
    return f"{failure.operation_name} was refused ({error.get('Code')}): {error.get('Message')}"
