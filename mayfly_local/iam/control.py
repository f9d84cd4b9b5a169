"""The control interface: requests of the runtime and of people to the emulator's process.

`mayfly_local.emulator.control` sends those of the runtime.
"""

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final

from mayfly_local.iam.bodies import Receive, whole_body
from mayfly_local.iam.faults import KILLS, KINDS, Faults
from mayfly_local.iam.identities import Identities
from mayfly_local.iam.items import WRITES
from mayfly_local.iam.kept import Kept
from mayfly_local.iam.permissions import Permissions, Role
from mayfly_local.iam.refusals import Refusals
from mayfly_local.iam.requests import Permission, Request
from mayfly_local.iam.responses import Send, plain_error, respond
from mayfly_local.iam.transactions import Transactions

__all__ = ["PREFIX", "ControlInterface"]

#: The paths of control requests.
PREFIX: Final = "/_mayfly/"
#: Requests that people may send, besides those that only read.
_OF_PEOPLE: Final = ("faults", "clear-faults", "check", "transactions", "hold", "advance")
#: Requests that only read if they have no body.
_READS: Final = ("health", "roles", "transactions")
#: The longest time for which a transaction holds its items, in milliseconds: 10 s, by which every
#: SDK has given up.
_LONGEST_MS: Final = 10_000


class ControlInterface:
    """Serves control requests.

    They set the keys and roles of functions, request faults and clear them, set how long
    transactions hold their items, and ask about permissions. `request` passes on what only the
    runtime can do. All other requests are for the durable state.
    """

    def __init__(
        self,
        identities: Identities,
        permissions: Permissions,
        refusals: Refusals,
        *,
        faults: Faults,
        transactions: Transactions,
        kept: Kept,
        request: Callable[[dict[str, Any]], None] = lambda what: None,
    ) -> None:
        self._request = request
        #: Replies of the runtime that requests wait for, by their numbers.
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count()
        self._identities = identities
        self._permissions = permissions
        self._refusals = refusals
        self._faults = faults
        self._transactions = transactions
        self._kept = kept
        #: The types of the template's absent resources, by logical id.
        self.absent: dict[str, str] = {}
        #: Set when the runtime has handed over the functions' keys and roles.
        self.knows_functions = asyncio.Event()

    async def serve(
        self, what: str, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        """Serves the runtime and people. They send the id of their access key as a bearer token."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        owner = self._identities.of(token if scheme.lower() == "bearer" else "")
        if owner not in ("runtime", "people"):
            text = (
                "send this stack's access key: Authorization: Bearer ID (mayfly env prints the id)"
            )
            await respond(send, 401, *plain_error(text))
            return
        try:
            content = await whole_body(receive)
            body: Any = json.loads(content) if content else None
        except ConnectionError:
            return
        except ValueError as problem:
            await respond(send, 400, *plain_error(f"the body is not JSON: {problem}"))
            return
        is_read = what in _READS and body is None
        if owner != "runtime" and not is_read and what not in _OF_PEOPLE:
            await respond(send, 403, *plain_error(f"only the runtime may use {PREFIX}{what}"))
            return
        if (malformed := _malformed(what, body)) is not None:
            await respond(send, 400, *plain_error(malformed))
            return
        try:
            reply = await self._awaited(what, body)
            self._kept.commit()
        except OSError as problem:
            text = f"the state could not be written: {problem.strerror}"
            await respond(send, 500, *plain_error(text))
            return
        await respond(
            send, 200 if reply is not None else 404, json.dumps(reply).encode(), "application/json"
        )

    async def _awaited(self, what: str, arguments: Any) -> Any:
        """Returns the reply to a request, some of which wait for something new."""
        match what:
            case "records":
                return {"newest": await self._kept.newest_record(**arguments)}
            case "due":
                return {"invocations": await self._kept.due_invocations(**arguments)}
            case "advance":
                return await self._asked_of_runtime(what, arguments)
            case "advanced":
                if (waiting := self._replies.get(arguments["number"])) and not waiting.done():
                    waiting.set_result(arguments["reply"])
                return {}
        return self._reply(what, arguments)

    async def _asked_of_runtime(self, what: str, arguments: Any) -> Any:
        """Passes a request on to the runtime, and returns its reply."""
        number, reply = next(self._numbers), asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            self._request({what: {**arguments, "number": number}})
            return await reply
        finally:
            del self._replies[number]

    def _reply(self, what: str, arguments: Any) -> Any:
        match what:
            case "health":
                return {"status": "ok"}
            case "roles" if arguments is not None:
                self._identities.functions = {
                    key: known["function"] for key, known in arguments["keys"].items()
                }
                self._identities.secrets |= {
                    key: known["secret"] for key, known in arguments["keys"].items()
                }
                self._permissions.set(
                    {
                        name: None if role is None else Role(**role)
                        for name, role in arguments["roles"].items()
                    }
                )
                self.absent = arguments.get("absent", {})
                self.knows_functions.set()
                return {}
            case "roles":
                return _use_of(self._permissions)
            case "faults":
                self._faults.add(arguments)
                return {}
            case "clear-faults":
                return {"cleared": self._faults.clear()}
            case "transactions":
                if arguments is not None:
                    self._transactions.set(arguments["milliseconds"] / 1000)
                return self._transactions.report()
            case "hold":
                return {"items": self._transactions.hold(*_other_transaction(arguments))}
            case "check":
                function, permission = (
                    arguments["function"],
                    Permission(arguments["action"], arguments["resource"]),
                )
                return {
                    "allowed": self._refusals.allows(function, permission)
                    if arguments["note"]
                    else self._permissions.may(function, permission)
                }
        return self._kept.serve(what, arguments)


def _use_of(permissions: Permissions) -> dict[str, Any]:
    """Returns the granted permissions with their use, and the refused ones: `mayfly roles`."""
    return {
        "grants": [
            {**vars(grant), "used": permissions.used[grant]} for grant in permissions.grants()
        ],
        "refused": [
            {
                "function": function,
                "action": permission.action,
                "resource": permission.resource,
                "times": times,
            }
            for (function, permission), times in permissions.refused.items()
        ],
        "unchecked": [name for name, role in permissions.roles.items() if role is None],
    }


def _other_transaction(arguments: Mapping[str, Any]) -> tuple[Request, float]:
    """Returns a request whose items another transaction is to hold, and for how many seconds."""
    headers = {"x-amz-target": f"DynamoDB_20120810.{arguments['operation']}"}
    body = json.dumps(arguments["request"]).encode()
    return Request("dynamodb", "POST", "/", {}, headers, body), arguments["milliseconds"] / 1000


def _malformed(what: str, arguments: Any) -> str | None:
    """Returns the error of a control request from people, or None."""
    shapes: dict[str, dict[str, type]] = {
        "clear-faults": {},
        "faults": {"function": str, "action": str, "kind": str, "times": int},
        "advance": {"seconds": float, "at_once": bool},
        "transactions": {"milliseconds": int},
        "hold": {"operation": str, "request": dict, "milliseconds": int},
        "check": {"function": str, "action": str, "resource": str, "note": bool},
    }
    if what not in shapes or (what in _READS and arguments is None):
        return None
    if what == "faults" and isinstance(arguments, dict) and "containing" in arguments:
        shapes[what]["containing"] = str
    if not isinstance(arguments, dict) or set(arguments) != set(shapes[what]):
        return f"{what} needs {', '.join(shapes[what]) or 'an empty object'}"
    wrong = [name for name, kind in shapes[what].items() if type(arguments[name]) is not kind]
    if wrong:
        return f"wrong type: {', '.join(wrong)}"
    if what == "advance" and not 0 <= arguments["seconds"] < math.inf:
        return f"seconds is a number from 0 on, not {arguments['seconds']}"
    if not 0 <= arguments.get("milliseconds", 0) <= _LONGEST_MS:
        return f"milliseconds is from 0 to {_LONGEST_MS}"
    return _malformed_fault(arguments) if what == "faults" else None


def _malformed_fault(fault: Mapping[str, Any]) -> str | None:
    if fault["kind"] not in (*KINDS, *KILLS) or fault["times"] < 1:
        return f"kind is one of {', '.join((*KINDS, *KILLS))}, times at least 1"
    if fault["kind"] == "conflict" and fault["action"] not in WRITES:
        return (
            f"{fault['action']} cannot meet a transaction; with conflict, action is one of "
            f"{', '.join(WRITES)}"
        )
    if fault["kind"] == "throttle" and not fault["action"].startswith("dynamodb:"):
        return f"only calls of DynamoDB can be throttled here, and {fault['action']} is another one"
    return None
