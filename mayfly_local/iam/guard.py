"""The guard in front of the emulator: authentication and roles.

Every request is signed with an access key of this stack (`mayfly_local.iam.credentials`), or
refused. Requests of functions are checked against their roles in the template. People, tools and
the runtime are administrators of the account. Only the runtime creates stacks.

Checking roles prevents an application that works here from failing on AWS. It is not a defence
against malicious functions: a function is a process of the same user.
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from mayfly_local.iam.bodies import Message, Receive, posted_key, replay, whole_body
from mayfly_local.iam.faults import Faults
from mayfly_local.iam.identities import OWNER, SERVICE, Identities
from mayfly_local.iam.kept import Kept, NothingKept, committing
from mayfly_local.iam.pages import Cors, asks_another_service, no_cors
from mayfly_local.iam.permissions import Permissions, Role
from mayfly_local.iam.presigned import presigned_v2_problem
from mayfly_local.iam.refusals import Refusals
from mayfly_local.iam.requests import SERVICES, Permission, Request, signer
from mayfly_local.iam.responses import (
    Send,
    access_denied,
    not_written,
    plain_error,
    requested_fault,
    respond,
    unknown_key,
)
from mayfly_local.ports.access import Access

__all__ = ["Guard"]

#: The guard's own paths.
PREFIX: Final = "/_mayfly/"
#: Paths of the emulator that AWS does not have. None of them is served.
_INTERNAL: Final = re.compile(r"/_(?:aws|localstack|ministack)(?:/|$)|/health$")
#: Seconds that a request with an unknown key waits. The key may belong to a function, and the
#: runtime may not have sent it yet.
_KEY_SECONDS: Final = 10.0

_App = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI application around the emulator's.

    `bucket_of` returns the bucket of a host name, or None.
    """

    def __init__(
        self,
        store: _App,
        report: Callable[[dict[str, Any]], None],
        identities: Identities,
        access: Access,
        *,
        cors: Callable[[str, str, Mapping[str, str]], Cors | None] = no_cors,
        bucket_of: Callable[[str], str | None] = lambda host: None,
        kept: Kept | None = None,
        key_seconds: float = _KEY_SECONDS,
    ) -> None:
        self._store = store
        self._identities = identities
        self._access = access
        self._cors = cors
        self._bucket_of = bucket_of
        self._key_seconds = key_seconds
        #: Set when the runtime has handed over the functions' keys and roles.
        self._knows_functions = asyncio.Event()
        self._kept = kept or NothingKept()
        self._permissions = Permissions()
        self._refusals = Refusals(self._permissions, report)
        self._faults = Faults()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serves one connection event."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)

    async def _lifespan(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        async def report(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._kept.started()
            if message["type"] == "lifespan.shutdown.complete":
                self._kept.stopped()
            await send(message)

        await self._store(scope, receive, report)

    async def _http(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        pairs = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope["headers"]
        ]
        headers, path = dict(pairs), str(scope["path"])
        if (bucket := self._bucket_of(headers.get("host", ""))) is not None:
            path = f"/{bucket}{path}"
        query = dict(
            parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        )
        cors: Cors | None = None
        if sum(name == "authorization" for name, _ in pairs) > 1:
            await respond(send, 403, *plain_error("a request has one Authorization header"))
            return
        if (why := self._access.page_refusal(pairs)) is not None:
            cors = (
                None
                if asks_another_service(headers, query)
                else self._cors(scope["method"], path, headers)
            )
            if cors is None:
                await respond(send, 403, *plain_error(why))
                return
            if cors.is_preflight:
                await respond(send, 200, b"", "text/plain", cors.headers)
                return
        if path.startswith(PREFIX):
            await self._control(path.removeprefix(PREFIX), headers, receive, send)
            return
        if _INTERNAL.match(path):
            await respond(send, 404, *plain_error(f"{path} is not served here"))
            return
        if self._kept.is_failing:
            try:
                self._kept.commit()
            except OSError as problem:
                # Refuse the request before it changes anything that could be lost.
                await respond(send, 500, *not_written(problem))
                return
        await self._aws(
            Request("", scope["method"], path, query, headers, b""),
            scope,
            receive,
            committing(send, self._kept, cors),
        )

    async def _aws(
        self, request: Request, scope: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        key, service = signer(request.headers, request.query)
        try:
            if not key and request.headers.get("content-type", "").startswith(
                "multipart/form-data"
            ):
                key, receive = await posted_key(receive)
                service = "s3" if key else ""
            owner = self._identities.of(key)
            if owner is None and key and not self._knows_functions.is_set():
                # After a restart of the emulator, functions may send requests before the runtime
                # has sent their keys.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._knows_functions.wait(), self._key_seconds)
                owner = self._identities.of(key)
            if owner is None:
                await respond(send, 403, *unknown_key(request, service, is_signed=bool(key)))
                return
            if (why := self._mismatch(request, key, service)) is not None:
                await respond(send, 403, *plain_error(why))
                return
            OWNER.set(owner)
            SERVICE.set(service)
            function = owner.removeprefix("function ")
            if function == owner:
                await self._store(scope, receive, send)
                return
            body = await whole_body(receive)
        except ConnectionError:  # The client disconnected before the request was complete.
            return
        whole = Request(service, request.method, request.path, request.query, request.headers, body)
        await self._as_function(function, whole, scope, receive, send)

    def _mismatch(self, request: Request, key: str, service: str) -> str | None:
        """Returns the reason to refuse a request with a known key, or None."""
        if not service and self._identities.any_credentials:
            return None
        if service not in SERVICES:  # The emulator would search for it in all models of AWS.
            return (
                f"this stack has no service {service[:50]!r}; it has {', '.join(sorted(SERVICES))}"
            )
        is_by_query = "authorization" not in request.headers and request.query
        if (
            is_by_query
            and service != "s3"
            and {"X-Amz-Credential", "AWSAccessKeyId"} & set(request.query)
        ):
            return "only requests to S3 may be signed in their query"
        if (
            is_by_query
            and "AWSAccessKeyId" in request.query
            and not self._identities.any_credentials
        ):
            return presigned_v2_problem(
                request, self._identities.secrets.get(key, ""), now=time.time()
            )
        return None

    async def _as_function(
        self,
        function: str,
        request: Request,
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        refused = self._refusals.first(function, request)
        if refused is not None:
            sentence = self._refusals.sentence(function, refused)
            await respond(send, *access_denied(request.service, sentence))
            return
        fault = self._faults.strike(function, request)
        if fault != "refuse":
            await self._store(
                scope, replay(request.body, receive), send if fault is None else _nowhere
            )
        if fault is not None:
            await respond(send, 500, *requested_fault())

    async def _control(
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
            body = await whole_body(receive)
            arguments = json.loads(body) if body else None
        except ConnectionError:
            return
        except ValueError as problem:
            await respond(send, 400, *plain_error(f"the body is not JSON: {problem}"))
            return
        is_read = what in ("health", "roles") and arguments is None
        if owner != "runtime" and not is_read and what not in ("faults", "check"):
            await respond(send, 403, *plain_error(f"only the runtime may use {PREFIX}{what}"))
            return
        if (problem_of_it := _malformed(what, arguments)) is not None:
            await respond(send, 400, *plain_error(problem_of_it))
            return
        try:
            reply = self._serve(what, arguments)
            self._kept.commit()
        except OSError as problem:
            text = f"the state could not be written: {problem.strerror}"
            await respond(send, 500, *plain_error(text))
            return
        await respond(
            send, 200 if reply is not None else 404, json.dumps(reply).encode(), "application/json"
        )

    def _serve(self, what: str, arguments: Any) -> Any:
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
                self._knows_functions.set()
                return {}
            case "roles":
                return self._shown()
            case "faults":
                self._faults.add(arguments)
                return {}
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

    def _shown(self) -> dict[str, Any]:
        permissions = self._permissions
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


def _malformed(what: str, arguments: Any) -> str | None:
    """Returns the error of a control request from people, or None."""
    shapes = {
        "faults": {"function": str, "action": str, "kind": str, "times": int},
        "check": {"function": str, "action": str, "resource": str, "note": bool},
    }
    if what not in shapes:
        return None
    if not isinstance(arguments, dict) or set(arguments) != set(shapes[what]):
        return f"{what} needs {', '.join(shapes[what])}"
    wrong = [name for name, kind in shapes[what].items() if type(arguments[name]) is not kind]
    if wrong:
        return f"wrong type: {', '.join(wrong)}"
    if what == "faults" and (arguments["kind"] not in ("refuse", "lose") or arguments["times"] < 1):
        return "kind is refuse or lose, times at least 1"
    return None


async def _nowhere(message: Message) -> None:
    """Discards a response that is to be lost."""
