"""What the supervisor tells the store's guard about roles, and asks it: may Lambda itself do what
it does in a function's name?
"""

from dataclasses import asdict
from typing import Any, Final

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.build import Application, Function
from mayfly_local.emulator.control import Control
from mayfly_local.iam.credentials import Keys
from mayfly_local.iam.requests import Permission

__all__ = ["Roles", "shown"]

#: What a mapping needs, or Lambda refuses to make it.
#: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html,
#: .../services-ddb-create.html
_QUEUE: Final = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
_STREAM: Final = (
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
)
#: What of these Lambda asks for when it makes the mapping, and no poller does here unless something
#: fails.
_ONCE: Final = {"dynamodb:ListStreams", "sqs:SendMessage"}


class Roles:
    """The guard of one stack."""

    def __init__(self, control: Control, keys: Keys) -> None:
        self._control = control
        self._keys = keys
        self._logging: set[str] = set()

    async def take(self, application: Application) -> list[str]:
        """Hands over the roles and keys of all functions, and returns what AWS would refuse to
        deploy.
        """
        roles = {
            name: None if each.role is None else asdict(each.role)
            for name, each in application.functions.items()
        }
        await self._control.ask(
            "roles",
            {
                "roles": roles,
                "keys": {
                    key.id: {"function": name, "secret": key.secret}
                    for name, key in self._keys.functions.items()
                },
            },
        )
        wanted = [
            (each.function, action, each.queue_arn)
            for each in application.queues
            for action in _QUEUE
        ]
        wanted += [
            (each.function, action, each.stream_arn)
            for each in application.streams
            for action in _STREAM
        ]
        wanted += [
            (each.function, "sqs:SendMessage", each.on_failure_arn)
            for each in application.streams
            if each.on_failure_arn
        ]
        return [
            f"the role of {function} does not allow {action} on {resource}: Lambda would refuse "
            "the mapping"
            for function, action, resource in wanted
            if not await self._allows(function, Permission(action, resource), note=action in _ONCE)
        ]

    async def note_logging(self, function: Function) -> None:
        """That Lambda writes a function's log; where it may not, the guard reports it: on AWS the
        log would be lost.
        """
        if function.name not in self._logging:
            self._logging.add(function.name)
            group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{function.log_group}"
            # Who may not make the group has it made by the template.
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
        asked = {
            "function": function,
            "action": permission.action,
            "resource": permission.resource,
            "note": note,
        }
        return bool((await self._control.ask("check", asked))["allowed"])


def shown(found: dict[str, Any], resources: dict[str, str]) -> list[dict[str, Any]]:
    """The guard's account as rows: function, action, resource, and how often it was used; resources
    by their logical ids.
    """
    by_physical = sorted(
        ((physical, logical) for logical, physical in resources.items()),
        key=lambda each: -len(each[0]),
    )

    def short(resource: str) -> str:
        for physical, logical in by_physical:
            name = physical.rstrip("/").rpartition("/")[2]
            resource = resource.replace(name, logical)
        return resource.removeprefix("arn:aws:").replace(f":{REGION}:{ACCOUNT}:", ":")

    rows = [
        {
            **each,
            "resource": short(each["resource"]),
            "action": each["action"].replace("!", "all but "),
        }
        for each in found["grants"]
    ]
    return sorted(rows, key=lambda row: (row["function"], row["resource"], row["action"]))
