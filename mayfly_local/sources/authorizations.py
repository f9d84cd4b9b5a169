"""Access to the routes of APIs: who the caller is, and whether the authorizer lets it through."""

import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from mayfly_local.account import ACCOUNT
from mayfly_local.application.apis import ApiKind, Authorizer, AuthorizerKind
from mayfly_local.compute.invocation import Failure, Invocation, Reply
from mayfly_local.iam.credentials import Keys
from mayfly_local.iam.permissions import Permissions, Role
from mayfly_local.iam.requests import Permission
from mayfly_local.iam.signatures import BadSignature, Signer, signer_of
from mayfly_local.iam.tokens import BadToken, read_token
from mayfly_local.sources.http_events import http_authorizer_event, request_arn
from mayfly_local.sources.http_request import Call
from mayfly_local.sources.policies import INVOKE, MalformedPolicy, Verdict, evaluate
from mayfly_local.sources.refusals import Refused
from mayfly_local.sources.rest_events import rest_request_event, rest_token_event

__all__ = ["Authorizations", "Caller", "Guests", "Invoke"]

Invoke = Callable[[str, Invocation], Awaitable[Reply | Failure]]

#: Most results of authorizers that are cached.
_REMEMBERED: Final = 10_000
_INVOKE_URL: Final = "lambda:InvokeFunctionUrl"


@dataclass(frozen=True)
class Guests:
    """The keys of a stack, the roles that belong to the keys of functions, and functions' ARNs.

    Decisions of authorizers age by `clock`, if there is one.
    """

    keys: Keys
    roles: dict[str, Role | None] = field(default_factory=dict)
    arns: Mapping[str, str] = field(default_factory=dict)
    clock: Callable[[], float] | None = None


@dataclass(frozen=True)
class Caller:
    """The caller of a request, as its authorizer found it.

    `context` is the context of a Lambda authorizer. `claims` and `scopes` are those of a token;
    `key_id` is the access key that signed the request. `api_key` is the one that a Lambda
    authorizer names.
    """

    principal: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, Any] | None = None
    scopes: tuple[str, ...] = ()
    key_id: str | None = None
    api_key: str | None = None

    @property
    def share(self) -> str | None:
        """The name of the caller's share: whom the authorizer tells apart, for Mayfly's a tenant.

        None without an authorizer, since nothing tells callers apart then.
        """
        if self == Caller():
            return None
        found = (self.principal, self.context, self.claims, self.key_id)
        return json.dumps(found, sort_keys=True, default=dict)


@dataclass(frozen=True)
class _Decision:
    """The reply of a Lambda authorizer: a decision for all routes, or a policy for each."""

    is_allowed: bool | None
    policy: Any
    caller: Caller


class Authorizations:
    """Decides on each request to one API, and caches the replies of Lambda authorizers."""

    def __init__(
        self,
        kind: ApiKind,
        invoke: Invoke,
        guests: Guests,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kind = kind
        self._invoke = invoke
        self._guests = guests
        self._permissions = Permissions(guests.roles)
        self._clock = clock
        # Tokens and signatures are made by clients, which read the machine's time.
        self._stack_clock = guests.clock or clock
        self._decisions: dict[tuple[str, ...], tuple[float, _Decision]] = {}

    async def caller(self, call: Call) -> Caller:
        """Returns the caller of a request. Raises Refused if the route is closed to it."""
        authorizer = call.route.authorizer
        if authorizer is None:
            return Caller()
        match authorizer.kind:
            case AuthorizerKind.IAM:
                return self._signed(call)
            case AuthorizerKind.JWT | AuthorizerKind.COGNITO:
                return self._token_holder(call, authorizer)
            case _:
                return await self._by_function(call, authorizer)

    # ------------------------------------------------------------ signatures

    def _signed(self, call: Call) -> Caller:
        request = call.request
        is_url = self._kind is ApiKind.URL
        query = f"?{request.query}" if request.query else ""
        host = request.header("host") or ""
        try:
            signer = signer_of(
                self._guests.keys,
                method=request.method,
                url=f"http://{host}{request.path}{query}",
                headers=[(name.lower(), value) for name, value in request.headers],
                body=request.body,
                service="lambda" if is_url else "execute-api",
                now=datetime.fromtimestamp(self._clock(), UTC),
            )
        except BadSignature as problem:
            raise self._refused(403, str(problem), problem.code, reason=str(problem)) from None
        self._check_role(signer, call)
        return Caller(key_id=signer.key_id)

    def _check_role(self, signer: Signer, call: Call) -> None:
        role = self._guests.roles.get(signer.function)
        if not signer.function or role is None:
            return
        action, resource = (
            (_INVOKE_URL, self._guests.arns[call.route.function])
            if self._kind is ApiKind.URL
            else (INVOKE, request_arn(call))
        )
        if not self._permissions.may(signer.function, Permission(action, resource)):
            message = (
                f"User: {role.name} is not authorized to perform: {action} on resource: {resource}"
            )
            raise self._refused(403, message, "ACCESS_DENIED", reason=message)

    # ------------------------------------------------------------ tokens

    def _token_holder(self, call: Call, authorizer: Authorizer) -> Caller:
        given = self._identity(call, authorizer)
        if given is None:
            raise self._unauthorized("Bearer")
        token = given[0]
        if token.lower().startswith("bearer "):
            token = token[len("bearer ") :].strip()
        try:
            claims = read_token(self._guests.keys.people.secret, token, now=self._clock())
            _check_claims(claims, authorizer)
        except BadToken as problem:
            raise self._unauthorized(
                f'Bearer scope="" error="invalid_token" error_description="{problem}"',
                reason=str(problem),
            ) from None
        scopes = tuple(str(claims.get("scope", "")).split())
        if call.route.scopes and not set(scopes) & set(call.route.scopes):
            if self._kind is ApiKind.REST:
                raise self._unauthorized("Bearer", reason="the token lacks the scope of the route")
            raise Refused(
                403,
                "Forbidden",
                reason="the token lacks the scope of the route",
                headers={"www-authenticate": 'Bearer error="insufficient_scope"'},
            )
        return Caller(str(claims.get("sub", "")), claims=claims, scopes=scopes)

    # ------------------------------------------------------------ functions

    async def _by_function(self, call: Call, authorizer: Authorizer) -> Caller:
        identity = self._identity(call, authorizer)
        if identity is None:
            raise self._unauthorized()
        if authorizer.pattern and not re.fullmatch(authorizer.pattern, identity[0]):
            raise self._unauthorized(reason="the token does not match the validation expression")
        key = (authorizer.name, call.stage.name, *identity)
        cached = self._decisions.get(key)
        if cached is not None and cached[0] > self._stack_clock():
            decision = cached[1]
        else:
            decision = await self._decided(call, authorizer, identity)
            if authorizer.cache_seconds and identity:
                if len(self._decisions) >= _REMEMBERED:
                    self._decisions.clear()
                self._decisions[key] = (self._stack_clock() + authorizer.cache_seconds, decision)
        self._check(decision, call)
        return decision.caller

    async def _decided(
        self, call: Call, authorizer: Authorizer, identity: tuple[str, ...]
    ) -> _Decision:
        event = (
            rest_token_event(call, identity[0])
            if authorizer.kind is AuthorizerKind.TOKEN
            else rest_request_event(call, identity)
            if authorizer.payload == "1.0"
            else http_authorizer_event(call, identity)
        )
        result = await self._invoke(authorizer.function, Invocation.of(event))
        if isinstance(result, Failure):
            if self._kind is ApiKind.REST and result.message == "Unauthorized":
                raise self._unauthorized(reason="the authorizer raised 'Unauthorized'")
            raise self._failed(f"the authorizer failed: {result.kind}")
        try:
            reply = json.loads(result.payload)
        except ValueError:
            raise self._failed("the authorizer's reply is not JSON") from None
        return self._read(reply, authorizer)

    def _read(self, reply: Any, authorizer: Authorizer) -> _Decision:
        """Returns the decision in an authorizer's reply. Raises Refused."""
        if not isinstance(reply, dict):
            raise self._failed("the authorizer's reply is not an object")
        context = reply.get("context")
        context = {} if context is None else context
        if not isinstance(context, dict):
            raise self._failed("the context in the authorizer's reply is not an object")
        if authorizer.is_simple:
            allowed = reply.get("isAuthorized")
            if not isinstance(allowed, bool):
                raise self._failed("the authorizer's reply has no isAuthorized that is a boolean")
            return _Decision(allowed, None, Caller(context=context))
        document = reply.get("policyDocument")
        try:
            evaluate(document, "")  # Finds a fault in any statement before the reply is cached.
        except MalformedPolicy as problem:
            raise self._failed(f"the authorizer's policy cannot be used: {problem}") from None
        principal = reply.get("principalId")
        if self._kind is ApiKind.REST:
            if not isinstance(principal, str):
                raise self._failed("the authorizer's reply has no principalId that is a text")
            if any(isinstance(value, dict | list) for value in context.values()):
                raise self._failed(
                    "the context in the authorizer's reply has an object or a list; REST APIs "
                    "take texts, numbers and booleans"
                )
        api_key = reply.get("usageIdentifierKey")
        return _Decision(None, document, Caller(principal, context, api_key=api_key))

    def _check(self, decision: _Decision, call: Call) -> None:
        """Raises Refused if a decision does not allow a request."""
        if decision.is_allowed is not None:
            verdict = Verdict.ALLOWED if decision.is_allowed else Verdict.NOT_ALLOWED
        else:
            try:
                verdict = evaluate(decision.policy, request_arn(call), facts=_facts(call))
            except MalformedPolicy as problem:
                raise self._failed(f"the authorizer's policy cannot be used: {problem}") from None
        if verdict is Verdict.ALLOWED:
            return
        reason = f"the authorizer's policy says: {verdict} for {request_arn(call)}"
        message = "User is not authorized to access this resource" + (
            " with an explicit deny" if verdict is Verdict.DENIED else ""
        )
        refused = self._refused(403, message, "ACCESS_DENIED", reason=reason)
        if self._kind is ApiKind.REST:
            caller = decision.caller
            refused.authorizer = {**caller.context, "principalId": caller.principal}
        raise refused

    # ------------------------------------------------------------ identity sources

    def _identity(self, call: Call, authorizer: Authorizer) -> tuple[str, ...] | None:
        """Returns the values of the identity sources, or None if one is missing or empty."""
        values = [identity_value(source, call) for source in authorizer.identity_sources]
        return None if not all(values) else tuple(str(value) for value in values)

    # ------------------------------------------------------------ refusals

    def _refused(self, status: int, message: str, kind: str, *, reason: str) -> Refused:
        if self._kind is ApiKind.REST:
            return Refused(status, message, kind, reason)
        return Refused(status, "Forbidden", kind, reason)

    def _unauthorized(self, challenge: str = "", *, reason: str = "") -> Refused:
        headers = {"www-authenticate": challenge} if challenge else {}
        reason = reason or "an identity source of the authorizer is missing"
        if self._kind is ApiKind.REST:
            headers = {}
        return Refused(401, "Unauthorized", "UNAUTHORIZED", reason, headers)

    def _failed(self, reason: str) -> Refused:
        if self._kind is ApiKind.REST:
            return Refused(500, None, "AUTHORIZER_CONFIGURATION_ERROR", reason)
        return Refused(500, "Internal Server Error", reason=reason)


def identity_value(source: str, call: Call) -> str | None:
    """Returns the value of an identity source of an HTTP or a REST API, or None.

    Examples are `$request.header.Authorization` and `method.request.header.Authorization`. The
    format was checked when the template was read.
    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html
    """
    place, _, name = source.removeprefix("$").removeprefix("method.").rpartition(".")
    request = call.request
    match place:
        case "request.header":
            # All values of the header, as the event has them. The cache key of a decision must
            # match what the authorizer sees.
            values = [
                value for key, value in request.headers if key.lower() == name.lower() and value
            ]
            return ",".join(values) or None
        case "request.querystring":
            return next(iter(parse_qs(request.query).get(name, ())), None)
        case "stageVariables":
            return call.stage.variables.get(name)
        case _:
            return _context_value(name, call)


def _context_value(name: str, call: Call) -> str | None:
    request = call.request
    known = {
        "httpMethod": request.method,
        "path": call.staged_path if call.api.kind is ApiKind.REST else call.shown_path,
        "resourcePath": call.route.path,
        "routeKey": call.route.key,
        "stage": call.stage.name,
        "sourceIp": request.source_ip,
        "userAgent": request.header("user-agent"),
        "domainName": urlsplit(f"//{request.header('host') or ''}").hostname,
        "apiId": call.api.id,
        "accountId": ACCOUNT,
        "requestId": call.request_id,
    }
    return known.get(name)


def _check_claims(claims: Mapping[str, Any], authorizer: Authorizer) -> None:
    """Raises BadToken if a token is for another issuer or another audience.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html
    """
    if authorizer.issuer and claims.get("iss") != authorizer.issuer:
        raise BadToken(f"the token is for the issuer {claims.get('iss')}")
    given = claims.get("aud", claims.get("client_id"))
    audience = given if isinstance(given, list) else [given]
    if authorizer.audience and not set(authorizer.audience) & set(map(str, audience)):
        raise BadToken("the token is for another audience")


def _facts(call: Call) -> dict[str, str]:
    """Returns the values of a request that the conditions of a policy can name."""
    request = call.request
    facts = {"aws:sourceip": request.source_ip}
    for name, key in (("user-agent", "aws:useragent"), ("referer", "aws:referer")):
        if (value := request.header(name)) is not None:
            facts[key] = value
    return facts
