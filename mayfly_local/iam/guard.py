"""The guard in front of the emulator: authentication and roles.

Every request is signed with an access key of this stack (`mayfly_local.iam.credentials`), or
refused. Requests of functions are checked against their roles in the template. People, tools and
the runtime are administrators of the account. Only the runtime creates stacks.

Checking roles prevents an application that works here from failing on AWS. It is not a defence
against malicious functions: a function is a process of the same user.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from mayfly_local.iam.absent_services import absent_resources, absent_service
from mayfly_local.iam.bodies import Message, Receive, posted_key, whole_body
from mayfly_local.iam.control import PREFIX, ControlInterface
from mayfly_local.iam.faults import Faults
from mayfly_local.iam.identities import OWNER, SERVICE, Identities
from mayfly_local.iam.items import NoTables, Tables
from mayfly_local.iam.kept import Kept, NothingKept, committing
from mayfly_local.iam.pages import Cors, asks_another_service, no_cors
from mayfly_local.iam.permissions import Permissions
from mayfly_local.iam.presigned import presigned_v2_problem
from mayfly_local.iam.refusals import Refusals
from mayfly_local.iam.requests import SERVICES, Request, signer
from mayfly_local.iam.responses import (
    Send,
    access_denied,
    not_written,
    plain_error,
    requested_fault,
    respond,
    throttled,
    unknown_key,
)
from mayfly_local.iam.transactions import TRANSACTION_SECONDS, Transactions
from mayfly_local.ports.access import Access

__all__ = ["Guard"]

#: Paths of the emulator that AWS does not have. None of them is served.
_INTERNAL: Final = re.compile(r"/_(?:aws|localstack|ministack)(?:/|$)|/health$")
#: The machine's time, by which clients sign, even if a test moves the time of this process.
_machine_time: Final = time.time
#: Seconds that a request with an unknown key waits. The key may belong to a function, and the
#: runtime may not have sent it yet.
_KEY_SECONDS: Final = 10.0

_App = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI application around the emulator's.

    `bucket_of` returns the bucket of a host name, `secret_arn` the ARN of a secret's name, or None,
    and `key_arn` the ARN of a KMS key by its id, ARN or alias.
    `tables` are DynamoDB's, whose items a transaction holds for `transaction_seconds`. `request`
    passes on what only the runtime can do: `{what: arguments}`.
    """

    def __init__(
        self,
        emulator: _App,
        report: Callable[[dict[str, Any]], None],
        identities: Identities,
        access: Access,
        *,
        cors: Callable[[str, str, Mapping[str, str]], Cors | None] = no_cors,
        bucket_of: Callable[[str], str | None] = lambda host: None,
        secret_arn: Callable[[str], str | None] = lambda name: None,
        key_arn: Callable[[str], str | None] = lambda name: None,
        kept: Kept | None = None,
        tables: Tables | None = None,
        transaction_seconds: float = 0.0,
        key_seconds: float = _KEY_SECONDS,
        request: Callable[[dict[str, Any]], None] = lambda what: None,
    ) -> None:
        self._emulator = emulator
        self._identities = identities
        self._access = access
        self._cors = cors
        self._bucket_of = bucket_of
        self._secret_arn = secret_arn
        self._key_arn = key_arn
        self._key_seconds = key_seconds
        self._kept = kept or NothingKept()
        self._request = request
        self._faults = Faults()
        self._transactions = Transactions(
            emulator, tables or NoTables(), seconds=transaction_seconds
        )
        permissions = Permissions()
        self._refusals = Refusals(permissions, report)
        self._control = ControlInterface(
            identities,
            permissions,
            self._refusals,
            faults=self._faults,
            transactions=self._transactions,
            kept=self._kept,
            request=request,
        )

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

        await self._emulator(scope, receive, report)

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
            await self._control.serve(path.removeprefix(PREFIX), headers, receive, send)
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
            if owner is None and key and not self._control.knows_functions.is_set():
                # After a restart of the emulator, functions may send requests before the runtime
                # has sent their keys.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._control.knows_functions.wait(), self._key_seconds)
                owner = self._identities.of(key)
            if owner is None:
                await respond(send, 403, *unknown_key(request, service, is_signed=bool(key)))
                return
            # The emulator would search for another service in all models of AWS.
            if service not in SERVICES and not (self._identities.any_credentials and not service):
                absent = absent_resources(service, self._control.absent)
                await respond(send, *absent_service(request, service, absent))
                return
            if (why := self._mismatch(request, key, service)) is not None:
                await respond(send, 403, *plain_error(why))
                return
            OWNER.set(owner)
            SERVICE.set(service)
            function = owner.removeprefix("function ")
            is_whole = function != owner or (
                service == "dynamodb" and not self._transactions.is_idle
            )
            if not is_whole:
                await self._emulator(scope, receive, send)
                return
            body = await whole_body(receive)
        except ConnectionError:  # The client disconnected before the request was complete.
            return
        whole = Request(
            service, request.method, request.path, request.query, request.headers, body,
            self._secret_arn, self._key_arn,
        )  # fmt: skip
        if function == owner:
            await self._transactions.serve(whole, scope, receive, send)
        else:
            await self._as_function(function, whole, scope, receive, send)

    def _mismatch(self, request: Request, key: str, service: str) -> str | None:
        """Returns the reason to refuse a request with a known key, or None."""
        if not service and self._identities.any_credentials:
            return None
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
                request, self._identities.secrets.get(key, ""), now=_machine_time()
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
        if fault is None:
            await self._transactions.serve(request, scope, receive, send)
            return
        match fault["kind"]:
            case "conflict":
                seconds = self._transactions.seconds or TRANSACTION_SECONDS
                self._transactions.hold(request, seconds, action=fault["action"])
                await self._transactions.serve(request, scope, receive, send)
            case "throttle":
                await respond(send, 400, *throttled())
            case "silence":
                await _until_gone(receive)
            case "kill":
                await self._kill(function, scope, receive)
            case "kill-after":
                await self._transactions.serve(request, scope, receive, _nowhere)
                self._kept.commit()
                await self._kill(function, scope, receive)
            case "lose":
                await self._transactions.serve(request, scope, receive, _nowhere)
                await respond(send, 500, *requested_fault(request.service))
            case _:
                await respond(send, 500, *requested_fault(request.service))

    async def _kill(self, function: str, scope: Mapping[str, Any], receive: Receive) -> None:
        """Has the process of a call killed, and returns when its connection is gone."""
        self._request({"kill": {"function": function, "port": scope["client"][1]}})
        await _until_gone(receive)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _nowhere(message: Message) -> None:
    """Discards a response that is to be lost."""
