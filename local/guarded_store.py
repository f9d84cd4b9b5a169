"""The embedded store's process, with a guard before it: what a function asks for is checked against its role in the template.

A function signs with an access key that is its name (`local.clients.credentials`), so that the guard knows who asks. Everybody else on this
machine is let through: it plays the account's administrators. The guard keeps the stack from working here and failing on AWS; it is no
defence against code that means ill, which could sign as it likes.
"""

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from local.calls import Permission, Request, signer
from local.clients import FUNCTION_PREFIX
from local.permissions import Permissions, Role
from local.template import ACCOUNT

__all__ = ["Guard"]

#: The guard's own paths.
PREFIX: Final = "/_mayfly/"
#: What the store plays. Of other services there is nothing to allow.
_SERVICES: Final = {"cloudformation", "dynamodb", "iam", "s3", "sqs", "ssm", "sts"}
#: What reading a malformed request raises.
_UNREADABLE: Final = (ValueError, TypeError, AttributeError, RecursionError)
_JSON: Final = "application/x-amz-json-1.0"

_Message = dict[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[Mapping[str, Any], _Receive, _Send], Awaitable[None]]


class _Faults:
    """Calls of functions that are to fail, on demand: some that never take effect (`refuse`), some whose answers get lost (`lose`)."""

    def __init__(self) -> None:
        self._wanted: list[dict[str, Any]] = []

    def add(self, wanted: dict[str, Any]) -> None:
        """The next calls of a function's action: `{function, action, kind, times}`."""
        self._wanted.append(dict(wanted))

    def strike(self, function: str, request: Request) -> str | None:
        """What happens to a request."""
        if not self._wanted:
            return None
        try:
            actions = {each.action for each in request.permissions()}
        except _UNREADABLE:
            return None
        for each in self._wanted:
            if each["function"] == function and each["action"] in actions:
                each["times"] -= 1
                if not each["times"]:
                    self._wanted.remove(each)
                return str(each["kind"])
        return None


class Guard:
    """An ASGI application around the store's."""

    def __init__(self, store: _App, report: Callable[[dict[str, Any]], None]) -> None:
        self._store = store
        self._report = report
        self._permissions = Permissions()
        self._faults = _Faults()

    async def __call__(self, scope: Mapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Serves one connection event."""
        if scope["type"] != "http":
            await self._store(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
        key, service = signer(headers, query)
        if scope["path"].startswith(PREFIX):
            await _answer(send, 200, json.dumps(self._serve(scope["path"], await _body(receive))).encode(), "application/json")
            return
        if not key.startswith(FUNCTION_PREFIX):
            await self._store(scope, receive, send)
            return
        try:
            body = await _body(receive)
        except ConnectionError:  # half a request is none
            return
        function = key.removeprefix(FUNCTION_PREFIX)
        request = Request(service, scope["method"], scope["path"], query, headers, body)
        refused = self._refused(function, request)
        if refused is not None:
            await _answer(send, *_refusal(service, self._sentence(function, refused)))
            return
        fault = self._faults.strike(function, request)
        if fault != "refuse":
            await self._store(scope, _replay(body, receive), send if fault is None else _nowhere)
        if fault is not None:
            await _answer(send, 500, b'{"__type": "InternalServerError", "message": "a fault that was asked for"}', _JSON)

    def _refused(self, function: str, request: Request) -> Permission | None:
        """The first permission that a request lacks."""
        if request.service not in _SERVICES:  # the store says so itself
            return None
        try:
            asked = request.permissions()
        except _UNREADABLE:  # a body that is none: the store says what is wrong with it
            return None
        return next((each for each in sorted(asked) if not self._allows(function, each)), None)

    def _allows(self, function: str, asked: Permission) -> bool:
        is_allowed = self._permissions.allows(function, asked)
        if not is_allowed and self._permissions.refused[function, asked] == 1:
            role = self._permissions.roles.get(function)
            facts = {"function": function, "role": role.name if role else None, "action": asked.action, "resource": asked.resource}
            self._report({**facts, "advice": self._advice(function, asked)})
        return is_allowed

    def _sentence(self, function: str, refused: Permission) -> str:
        """AWS's own words."""
        role = self._permissions.roles.get(function)
        user = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role.name if role else 'none'}/{function}"
        if refused.action.endswith(":?"):
            return f"mayfly does not know which permission this call on {refused.resource} needs, and so cannot say whether {user} has it"
        why = f"because no identity-based policy allows the {refused.action} action"
        if self._permissions.denies(function, refused):
            why = "with an explicit deny in an identity-based policy"
        return f"User: {user} is not authorized to perform: {refused.action} on resource: {refused.resource} {why}"

    def _advice(self, function: str, refused: Permission) -> str:
        if refused.action.endswith(":?"):
            return "mayfly does not know which permission it needs"
        if self._permissions.denies(function, refused):
            return "a policy of its role denies it"
        role = self._permissions.roles.get(function)
        return f"allow it in the policies of {role.name if role else 'its role'}"

    def _serve(self, path: str, body: bytes) -> Any:
        match path.removeprefix(PREFIX):
            case "roles" if body:
                given = json.loads(body)
                self._permissions.set({name: None if each is None else Role(**each) for name, each in given.items()})
                return {}
            case "roles":
                return self._shown()
            case "faults":
                self._faults.add(json.loads(body))
                return {}
            case "check":
                asked = json.loads(body)
                function, permission = asked["function"], Permission(asked["action"], asked["resource"])
                return {"allowed": self._allows(function, permission) if asked["note"] else self._permissions.may(function, permission)}
        return {"message": f"there is nothing at {path}"}

    def _shown(self) -> dict[str, Any]:
        permissions = self._permissions
        return {
            "grants": [{**vars(grant), "used": permissions.used[grant]} for grant in permissions.grants()],
            "refused": [
                {"function": function, "action": asked.action, "resource": asked.resource, "times": times}
                for (function, asked), times in permissions.refused.items()
            ],
            "unchecked": [name for name, role in permissions.roles.items() if role is None],
        }


async def _body(receive: _Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _nowhere(message: _Message) -> None:
    """Where a lost answer goes."""


def _replay(body: bytes, receive: _Receive) -> _Receive:
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> _Message:
        return left.pop() if left else await receive()

    return again


def _refusal(service: str, sentence: str) -> tuple[int, bytes, str]:
    if service == "s3":
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>{escape(sentence)}</Message></Error>'
        return 403, text.encode(), "application/xml"
    return 400, json.dumps({"__type": "AccessDeniedException", "message": sentence}).encode(), _JSON


async def _answer(send: _Send, status: int, body: bytes, kind: str) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _report(refused: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"refused": refused}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Runs the store behind the guard, on what its variables say."""
    from ministack import app as store

    store.app = Guard(store.app, _report)
    store.main()


if __name__ == "__main__":
    main()
