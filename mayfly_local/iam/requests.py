"""The permissions that an AWS request needs: actions, each on a resource, as IAM names them.

"Actions, resources, and condition keys for AWS services":
https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

from mayfly_local.account import ACCOUNT, REGION, stack_id
from mayfly_local.iam.event_requests import event_actions, stream_actions
from mayfly_local.iam.key_requests import key_actions
from mayfly_local.iam.lambda_requests import lambda_actions
from mayfly_local.iam.s3_requests import s3_actions
from mayfly_local.iam.secret_requests import secret_actions

__all__ = [
    "SERVICES", "TRANSACTED", "UNREADABLE", "Permission", "Request", "signer", "table_name",
]  # fmt: skip

#: Services that the emulator provides. Requests to other services are refused.
SERVICES: Final = {
    "cloudformation", "dynamodb", "events", "iam", "kinesis", "kms", "lambda", "s3",
    "secretsmanager", "sns", "sqs", "ssm", "sts",
}  # fmt: skip
#: Errors that reading a malformed request can raise.
UNREADABLE: Final = (ValueError, TypeError, AttributeError, RecursionError)

_CREDENTIAL: Final = re.compile(r"Credential=([^/,\s]+)/\d{8}/(?:[^/]+/)?([^/]+)/aws4_request")
_SIGNED_V2: Final = re.compile(r"AWS ([^:\s]+):")
_TABLE_ARN: Final = re.compile(r"arn:[^:]+:dynamodb:[^:]*:[^:]*:table/([^/]+)")
_STATEMENT: Final = re.compile(
    r"\s*(?:(SELECT)\b.*?\bFROM|(INSERT)\s+INTO|(UPDATE)|(DELETE)\s+FROM)"
    r'\s+"?([\w.-]+)"?(?:\."?([\w.-]+)"?)?',
    re.IGNORECASE | re.DOTALL,
)
_EXISTS: Final = re.compile(r"\s*EXISTS\s*\(", re.IGNORECASE)
#: Operations by the entries of transactions that do the same.
TRANSACTED: Final = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
    "Get": "GetItem",
}
_ON_NO_RESOURCE: Final = {
    "ListTables", "ListQueues", "DescribeLimits", "DescribeEndpoints", "ListBuckets",
}  # fmt: skip


class Permission(NamedTuple):
    """An action (`dynamodb:GetItem`) on a resource: an ARN, or `*` if the action has none."""

    action: str
    resource: str


def signer(headers: Mapping[str, str], query: Mapping[str, str]) -> tuple[str, str]:
    """Returns the access key that signed a request, and the service it was signed for.

    Both are empty if the request is unsigned.
    """
    match = _CREDENTIAL.search(
        headers.get("authorization", "") or f"Credential={query.get('X-Amz-Credential', '')}"
    )
    if match is None and (old := _SIGNED_V2.match(headers.get("authorization", ""))):
        return old[1], "s3"
    # S3's older signatures, with which SDKs still presign by default in some regions.
    if match is None and "AWSAccessKeyId" in query:
        return query["AWSAccessKeyId"], "s3"
    return (match[1], match[2]) if match else ("", "")


@dataclass(frozen=True)
class Request:
    """A request as it arrived. Header names are lower case, and the path is decoded."""

    service: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    #: Returns the ARN of a secret by its name, or None.
    secret_arn: Callable[[str], str | None] = lambda name: None
    #: Returns the ARN of a key by its id, its ARN or an alias, or None.
    key_arn: Callable[[str], str | None] = lambda name: None

    def permissions(self) -> set[Permission]:
        """Returns all permissions that the request needs.

        Raises an error of `UNREADABLE` if the request is malformed.
        """
        if self.service == "s3":
            return {
                Permission(f"s3:{action}", resource)
                for action, resource in s3_actions(
                    self.method, self.path, self.query, self.headers, self.body
                )
            }
        if self.service == "lambda":
            return {
                Permission(f"lambda:{action}", resource)
                for action, resource in lambda_actions(self.method, self.path, self.query)
            }
        operation, arguments = self.operation()
        if self.service == "dynamodb":
            return set(_of_dynamodb(operation, arguments))
        return {
            Permission(f"{self.service}:{action}", resource)
            for action, resource in self._actions(operation, arguments)
        }

    def _actions(self, operation: str, arguments: dict[str, Any]) -> Iterable[tuple[str, str]]:
        """Returns the actions of an operation, each with its resource."""
        match self.service:
            case "events" | "sns":
                return event_actions(self.service, operation, arguments)
            case "secretsmanager":
                return secret_actions(operation, arguments, self.secret_arn)
            case "kms":
                return key_actions(operation, arguments, self.key_arn)
            case "kinesis":
                return stream_actions(operation, arguments)
            case "sqs":
                return [(operation.removesuffix("Batch"), _queue(arguments, self.path))]
            case "cloudformation":
                return [(operation, _stack(arguments.get("StackName")))]
            case "ssm":
                names = arguments.get("Names") or [arguments.get("Name") or arguments.get("Path")]
                return [(operation, _parameter(name)) for name in names]
        return [(operation, "*")]

    def operation(self) -> tuple[str, dict[str, Any]]:
        """Returns the name of the operation, and its arguments.

        Raises an error of `UNREADABLE` if the request is malformed.
        """
        if target := self.headers.get("x-amz-target", "").rpartition(".")[2]:
            arguments = json.loads(self.body or b"{}")
            if not isinstance(arguments, dict):
                raise ValueError("the body is not a JSON object")
            return target, arguments
        form = {
            name: values[0]
            for name, values in parse_qs(self.body.decode("utf-8", "replace")).items()
        }
        return form.get("Action", self.query.get("Action", "Unknown")), form


def _of_dynamodb(operation: str, arguments: dict[str, Any]) -> Iterator[Permission]:
    if operation in _ON_NO_RESOURCE:
        yield Permission(f"dynamodb:{operation}", "*")
    elif operation in ("TransactWriteItems", "TransactGetItems"):
        for entry in arguments.get("TransactItems", ()):
            for kind, write in entry.items():
                yield Permission(f"dynamodb:{TRANSACTED.get(kind, kind)}", _table(write))
    elif operation in ("BatchGetItem", "BatchWriteItem"):
        for table in arguments.get("RequestItems", ()):
            yield Permission(f"dynamodb:{operation}", _table({"TableName": table}))
    elif operation in ("ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"):
        for entry in (
            arguments.get("Statements") or arguments.get("TransactStatements") or [arguments]
        ):
            yield _of_statement(str(entry.get("Statement", "")))
    else:
        yield Permission(f"dynamodb:{operation}", _resource(operation, arguments))


def _resource(operation: str, arguments: dict[str, Any]) -> str:
    """Returns the ARN that an operation on one resource uses: a stream, an index, or a table."""
    if "ShardIterator" in arguments:
        return _stream_of(arguments["ShardIterator"])
    if "StreamArn" in arguments:
        return str(arguments["StreamArn"])
    if operation == "ListStreams":
        return f"{_table(arguments)}/stream/*"
    return _table(arguments) + (
        f"/index/{arguments['IndexName']}" if arguments.get("IndexName") else ""
    )


def _of_statement(statement: str) -> Permission:
    match = _STATEMENT.match(_EXISTS.sub("", statement))
    if match is None:
        return Permission("dynamodb:PartiQLUnknown", "*")
    verb = next(group for group in match.groups()[:4] if group)
    index = f"/index/{match[6]}" if match[6] else ""
    return Permission(f"dynamodb:PartiQL{verb.title()}", _table({"TableName": match[5]}) + index)


def table_name(name: Any) -> str:
    """Returns the name of a table that a request names by that, or by the table's ARN."""
    arn = _TABLE_ARN.match(str(name))
    return arn[1] if arn else str(name)


def _table(arguments: Mapping[str, Any]) -> str:
    name = table_name(arguments.get("TableName", "*"))
    return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}"


def _stream_of(iterator: str) -> str:
    """Returns the ARN of the stream that an iterator of the emulator reads.

    On AWS, too, an iterator contains its stream.
    """
    return str(json.loads(base64.urlsafe_b64decode(iterator)).get("arn", "*"))


def _stack(name: Any) -> str:
    """Returns the ARN of a stack from its name or its ARN, or `*` if the operation names none.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscloudformation.html
    """
    if not isinstance(name, str):
        return "*"
    return name if name.startswith("arn:") else stack_id(name)


def _parameter(name: Any) -> str:
    """Returns the ARN of a parameter.

    `name` is its name or its ARN, each with or without a version. Returns `*` if the operation
    names no parameter.
    """
    if not isinstance(name, str):
        return "*"
    text = name.partition(":parameter/")[2] if name.startswith("arn:") else name.lstrip("/")
    return f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{text.partition(':')[0]}"


def _queue(arguments: Mapping[str, Any], path: str) -> str:
    """Returns the ARN of a queue from its URL, its name, or the path of the request."""
    name = (
        arguments.get("QueueName")
        or str(arguments.get("QueueUrl", path)).rstrip("/").rpartition("/")[2]
    )
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}" if name else "*"
