"""Hands the functions' roles to the emulator's guard, and checks Lambda's own permissions.

Lambda polls queues and streams, and writes logs, under a function's role.
"""

import asyncio
from dataclasses import asdict
from typing import Any, Final

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.classes import Class
from mayfly_local.application.model import Application, Function
from mayfly_local.emulator.control import Control
from mayfly_local.iam.credentials import Keys
from mayfly_local.iam.requests import Permission

__all__ = ["Roles", "shown"]

#: Permissions that a mapping needs; without them Lambda refuses to create it.
#: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
#: https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-create.html
_QUEUE: Final = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
_STREAM: Final = (
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
)
_KINESIS: Final = (
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "kinesis:ListShards",
)
#: Permissions that a destination or a dead-letter queue needs, by the service in its ARN.
#: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
_DESTINATION: Final = {
    "events": "events:PutEvents",
    "lambda": "lambda:InvokeFunction",
    "sns": "sns:Publish",
    "sqs": "sqs:SendMessage",
}
#: Lambda uses these when it creates the mapping. The pollers here use them only after a failure.
_ONCE: Final = {
    "dynamodb:ListStreams", "kinesis:DescribeStream", "kinesis:DescribeStreamSummary",
    "s3:ListBucket", "s3:PutObject", "sns:Publish", "sqs:SendMessage",
}  # fmt: skip


class Roles:
    """The roles in the guard of one stack."""

    def __init__(self, control: Control, keys: Keys) -> None:
        self._control = control
        self._keys = keys
        self._logging: set[str] = set()

    async def take(self, application: Application) -> list[str]:
        """Hands over the roles and keys of all functions.

        Returns the problems that would make AWS refuse to deploy.
        """
        roles = {
            name: None if function.role is None else asdict(function.role)
            for name, function in application.functions.items()
        }
        await self._control.ask(
            "roles",
            {
                "roles": roles,
                "keys": {
                    key.id: {"function": name, "secret": key.secret}
                    for name, key in self._keys.functions.items()
                },
                "absent": {
                    part.name: part.type
                    for part in application.parts
                    if part.group is Class.ABSENT and part.type and not part.detail
                },
            },
        )
        wanted = [
            (source.function, action, source.queue_arn)
            for source in application.queues
            for action in _QUEUE
        ]
        wanted += [
            (source.function, action, source.stream_arn)
            for source in application.streams
            for action in (_KINESIS if ":kinesis:" in source.stream_arn else _STREAM)
        ]
        wanted += [
            (source.function, action, resource)
            for source in application.streams
            for action, resource in _for_reports(source.on_failure_arn)
        ]
        allowed = await asyncio.gather(
            *(
                self._allows(function, Permission(action, resource), note=action in _ONCE)
                for function, action, resource in wanted
            )
        )
        refused = [
            f"the role of {function} does not allow {action} on {resource}: Lambda would refuse "
            "the mapping"
            for (function, action, resource), is_allowed in zip(wanted, allowed, strict=True)
            if not is_allowed
        ]
        refused += [
            f"the role of {function.name} does not allow {action} on {arn}: Lambda would refuse "
            "the destination"
            for function in application.functions.values()
            for arn in function.asynchronous.destinations
            if not await self._allows(
                function.name,
                Permission(action := _DESTINATION[arn.split(":")[2]], arn),
                note=False,
            )
        ]
        return refused

    async def note_logging(self, function: Function) -> None:
        """Records that Lambda writes a function's log.

        If the role does not allow it, the guard reports it, because the log would be lost on AWS.
        """
        if function.name not in self._logging:
            self._logging.add(function.name)
            group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{function.log_group}"
            # If the role may not create the log group, the template creates it.
            if await self._allows(
                function.name, Permission("logs:CreateLogGroup", group), note=False
            ):
                await self._allows(
                    function.name, Permission("logs:CreateLogGroup", group), note=True
                )
            for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
                await self._allows(
                    function.name, Permission(action, f"{group}:log-stream:local"), note=True
                )

    async def _allows(self, function: str, permission: Permission, *, note: bool) -> bool:
        arguments = {
            "function": function,
            "action": permission.action,
            "resource": permission.resource,
            "note": note,
        }
        return bool((await self._control.ask("check", arguments))["allowed"])


def _for_reports(destination: str | None) -> list[tuple[str, str]]:
    """Returns the permissions that a mapping needs for reports of failed batches."""
    if destination is None:
        return []
    if ":s3:" in destination:
        return [
            ("s3:ListBucket", destination),
            ("s3:PutObject", f"{destination}/aws/lambda/report"),
        ]
    return [(_DESTINATION[destination.split(":")[2]], destination)]


def shown(report: dict[str, Any], resources: dict[str, str]) -> list[dict[str, Any]]:
    """Returns the guard's grants as rows: function, action, resource, and how often it was used.

    Resources have their logical ids.
    """
    by_physical = sorted(
        ((physical, logical) for logical, physical in resources.items()),
        key=lambda names: -len(names[0]),
    )

    def short(resource: str) -> str:
        for physical, logical in by_physical:
            name = physical.rstrip("/").rpartition("/")[2]
            resource = resource.replace(name, logical)
        return resource.removeprefix("arn:aws:").replace(f":{REGION}:{ACCOUNT}:", ":")

    rows = [
        {
            **grant,
            "resource": short(grant["resource"]),
            "action": grant["action"].replace("!", "all but "),
        }
        for grant in report["grants"]
    ]
    return sorted(rows, key=lambda row: (row["function"], row["resource"], row["action"]))
